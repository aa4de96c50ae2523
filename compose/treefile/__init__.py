"""The treefile language: YAML, JSON and kickstart files with includes, flattened into one frozen `Treefile`.

source.py       text to values that know their place (file:line:column)
keys.py         the keys: how each merges, what this version does with it
schema.json     types and values, a JSON Schema (draft 2020-12)
validate.py     values against the schema, faults at their place
conditions.py   conditional-include, ${variables}
flatten.py      includes followed and merged
model.py        the flattened treefile as a frozen dataclass
"""

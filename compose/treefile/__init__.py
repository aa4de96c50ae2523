"""The treefile language: YAML, JSON and kickstart files with includes, flattened into one frozen `Treefile`.

source.py       values that know their place (file:line:column)
parse.py        text to such values
keys.py         the keys: how each merges, what this version does with it
schema.json     types and values, a JSON Schema (draft 2020-12)
validate.py     values against the schema, faults at their place
known.py        files that were found without fault before
conditions.py   conditional-include, ${variables}
flatten.py      includes followed and merged
model.py        the flattened treefile as a frozen dataclass
"""

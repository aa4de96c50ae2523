"""The treefile language: YAML, JSON and kickstart files with includes, flattened into one frozen `Treefile`.

source.py       values with their place (file:line:column)
parse.py        parses YAML and JSON into such values
kickstart.py    parses the supported subset of kickstart
keys.py         the keys, and how each one merges
schema.json     types and allowed values, a JSON Schema (draft 2020-12)
validate.py     checks values against the schema, each error with its place
known.py        cache of files that have been parsed and validated before
conditions.py   conditions of conditional-include, ${variables}
flatten.py      follows and merges includes
load.py         loads a treefile: flatten, check, substitute
model.py        the flattened treefile as a frozen dataclass
version.py      automatic version numbers
origin.py       the file and line of each value
lint.py         warnings about valid treefiles
rewrite.py      edits that keep comments: fmt, migrate
"""

"""A small Fedora: packages with the names and the shape of Fedora's (files, owners, scriptlets, triggers), in own words.

specs/      those whose shape matters
programs/   what is in them: small shell programs that change files as the real ones do
table.py    the others, a row each
build.py    RPMs, repositories, a root with the .repo files
"""

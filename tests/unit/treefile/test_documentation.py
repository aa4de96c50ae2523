"""docs/treefile.md lists every key of the language once, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from compose.lint import rules as tree_rules
from compose.treefile import lint as treefile_lint
from compose.treefile.keys import CLIENT_ONLY, KEYS, LEGACY, OWN
from compose.treefile.validate import schema, schema_text

PAGE = (Path(__file__).parents[3] / "docs/treefile.md").read_text()
ROWS = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
WORDS = ("same", "better:", "**ours**:", "accepted", "refused:")


def test_every_key_has_its_row() -> None:
    listed = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[1])]
    assert sorted(listed) == sorted([*KEYS, *CLIENT_ONLY, "packages-ARCH"])
    for old in LEGACY:
        assert f"`{old}`" in PAGE


def test_every_row_says_how_it_is_here() -> None:
    for row in ROWS:
        assert row[3].strip().startswith(WORDS), row
    ours = {row[1].strip().strip("`") for row in ROWS if row[3].strip().startswith("**ours**")}
    assert ours == OWN


def test_every_row_has_the_values_of_the_schema() -> None:
    properties = schema()["properties"]
    for row in ROWS:
        name = row[1].strip().strip("`")
        given = properties.get(name, {})
        told = re.findall(r'`"?([^`"]+)"?`', row[2])
        if "enum" in given and name != "selinux-label-version":
            assert set(told) <= set(given["enum"]), row
        if "default" in given:
            default = given["default"]
            # a mapping's default is that of its type, a list's its only item
            text = next(iter(default.values())) if isinstance(default, dict) else default
            text = text[0] if isinstance(text, list) else str(text).lower()
            assert f"{text} (default)" in re.sub('[`"]', "", row[2]) or f"default `{text}`" in row[2], row
    (row,) = (each for each in ROWS if each[1] == " `allow-scriptlet-failures` ")
    for kind in properties["allow-scriptlet-failures"]["items"]["properties"]["scriptlet"]["enum"]:
        assert f"`{kind}`" in row[3]


def test_the_schema_describes_every_key() -> None:
    properties = schema()["properties"]
    assert properties.keys() - LEGACY.keys() == KEYS.keys()
    for name, value in properties.items():
        assert value.get("description"), name


def test_patterns_of_the_schema_end_at_the_end() -> None:
    """For Python, unlike JSON Schema, $ also matches before a newline at the end."""
    text = schema_text()
    assert re.findall(r'"\^[^"]*\$\(\?!', text)
    assert not re.findall(r'"\^[^"]*\$"', text)


def test_every_rule_of_the_linters_is_described() -> None:
    page = (Path(__file__).parents[3] / "docs/lint.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{rule.id}` | {rule.level} | {rule.summary} | {rule.advice} |"
        for rules in (treefile_lint.RULES, tree_rules.RULES)
        for rule in rules.values()
    ]
    assert rows == expected

"""docs/treefile.md lists every key of the language once, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from compose.treefile.keys import CLIENT_ONLY, KEYS, LEGACY, OWN
from compose.treefile.validate import schema

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


def test_the_schema_describes_every_key() -> None:
    properties = schema()["properties"]
    assert properties.keys() - LEGACY.keys() == KEYS.keys()
    for name, value in properties.items():
        assert value.get("description"), name

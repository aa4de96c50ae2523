"""The exit codes that the README promises are those there are."""

from __future__ import annotations

import re
from pathlib import Path

from compose.cli.flags import FOUND, UNCHANGED
from compose.errors import ComposeError


def classes(root: type[ComposeError]) -> list[type[ComposeError]]:
    return [root, *(each for child in root.__subclasses__() for each in classes(child))]


def test_each_is_told() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    told = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", readme)}
    assert told == {0, FOUND, UNCHANGED, *(each.exit_code for each in classes(ComposeError))}

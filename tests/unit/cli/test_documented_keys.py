"""The pages on JSON have every key of what they are about."""

from __future__ import annotations

import dataclasses
import json
import re
import types
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from compose.changes import SystemDiff
from compose.plan import Plan
from compose.rpm.nevra import Nevra

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "plan.md").read_text()


def keys(kind: Any) -> set[str]:
    """Names of the fields of a dataclass and of those in it; a NEVRA is text."""
    if dataclasses.is_dataclass(kind) and kind is not Nevra:
        hints = get_type_hints(kind)
        names = {field.name for field in dataclasses.fields(kind)}
        return names.union(*(keys(hints[name]) for name in names))
    if isinstance(kind, types.UnionType | types.GenericAlias):
        return set().union(*(keys(each) for each in get_args(kind)))
    return set()


@pytest.mark.parametrize(
    ("title", "kind", "told_otherwise"),
    [
        ("`compose plan`", Plan, set()),
        ("`compose diff`", SystemDiff, {"commits", "files", "versions", "references", "url", "title", "severity"}),
    ],
)
def test_each_is_there(title, kind, told_otherwise):
    section = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section))
    assert keys(kind) - told_otherwise - documented == set()


def test_each_event_is_there_with_its_fields():
    schema = json.loads(resources.files("compose.cli").joinpath("events.schema.json").read_text())
    expected: dict[str, set[str]] = {}
    for reference in schema["oneOf"]:
        event = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        expected.setdefault(event["title"], set()).update(event["properties"].keys() - {"event", "time"})
    rows = [line.split("|") for line in (DOCS / "events.md").read_text().splitlines() if line.startswith("| `")]
    states = {"begun", "running", "ended", "failed"}
    documented = {row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[3])) - states for row in rows if len(row) == 5}
    assert documented == expected

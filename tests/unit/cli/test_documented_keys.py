"""The pages on JSON have every key of what they are about."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import types
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest

from compose.cli import blame, cache, lint, publish, size, treefile, verify, why
from compose.cli.app import COMMANDS, load
from compose.doctor import Check
from compose.lock.model import LockDiff
from compose.ostree.delta.write import WrittenDelta
from compose.plan import Plan
from compose.rpm.nevra import Nevra
from compose.systemdiff import SystemDiff

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


def written(*functions: Callable[..., Any]) -> set[str]:
    """Keys of the mappings that functions spell out."""
    return {
        key.value
        for function in functions
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("`compose blame`", written(blame.command)),
        ("`compose why`, `compose why-not`", written(why._presence, why._absence, why._row)),
        ("`compose size`", written(size._document, size._share)),
        ("`compose verify`", written(verify._document)),
        ("`compose lint`, `compose treefile lint`", written(lint.command, treefile._as_json)),
        ("`compose treefile show --origin`", written(treefile.show)),
        ("`compose lock diff`", {"basearch", *keys(LockDiff)} - {"id", "severity", "references", "url", "title"}),
        (
            "`compose publish`, `compose delta`",
            written(publish._document) | {"written", "fetched_bytes", *keys(WrittenDelta)},
        ),
        ("`compose cache show`, `compose cache gc`", written(cache.show, cache.gc, cache._kinds)),
        ("`compose doctor`", {"works", "checks", *keys(Check)}),
    ],
)
def test_each_of_the_other_commands_is_there(title: str, expected: set[str]) -> None:
    section = (DOCS / "json.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    assert expected - set(re.findall(r"`(\w+)`", section)) == set()


def test_each_command_with_json_has_a_place_in_the_documentation() -> None:
    pages = (DOCS / "json.md").read_text() + TEXT + (DOCS / "preview.md").read_text()
    for name in COMMANDS:
        command = load(name)
        for each in command.commands.values() if isinstance(command, click.Group) else (command,):
            formats = next((option.type for option in each.params if "--format" in option.opts), None)
            if isinstance(formats, click.Choice) and "json" in formats.choices:
                words = f"compose {name}" if each is command else f"compose {name} {each.name}"
                assert f"`{words}" in pages, words

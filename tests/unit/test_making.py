"""Recorded versions of tools, compared with those of this machine."""

from __future__ import annotations

import pytest

import compose
from compose.bindings import versions
from compose.bundle import Index
from compose.errors import FetchError
from compose.inputhash import InputChange, InputKind
from compose.pipeline.making import changed_tools

HERE = {"compose": compose.__version__, **versions()}


def recorded(tools: object) -> Index:
    return Index(members=(), facts={"tools": tools})


def test_the_same_and_none_are_not_told() -> None:
    assert all(HERE.values())
    assert not changed_tools(recorded(HERE), "it")
    assert not changed_tools(Index(members=(), facts={}), "it")


def test_each_other_version_is_told_by_name() -> None:
    assert changed_tools(recorded(HERE | {"librpm": "4.20.1"}), "it") == (
        InputChange(kind=InputKind.TOOL, name="librpm", before="4.20.1", after=HERE["librpm"]),
    )
    (found,) = changed_tools(recorded({name: version for name, version in HERE.items() if name != "SQLite"}), "it")
    assert (found.name, found.before, found.after) == ("SQLite", None, HERE["SQLite"])


def test_what_is_no_list_of_versions() -> None:
    with pytest.raises(FetchError, match="it: the list of tools is damaged"):
        changed_tools(recorded(["librpm"]), "it")

"""What is said of a path that two commits have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compose.diff import Attributes, PathChange

FILE = Attributes(kind="file", mode=0o644, uid=0, gid=0, label="a", capability="", xattrs=(), size=1, content="x")


@pytest.mark.parametrize(
    ("change", "aspects"),
    [
        ({}, ()),
        ({"mode": 0o600}, ("mode",)),
        ({"uid": 1}, ("owner",)),
        ({"gid": 1, "label": "b"}, ("label", "owner")),
        ({"content": "y", "size": 2}, ("content",)),
        ({"capability": "01"}, ("capability",)),
        ({"xattrs": (("user.a", "00"),)}, ("xattrs",)),
        ({"kind": "symlink", "mode": 0o777}, ("kind",)),
    ],
)
def test_aspects(change: dict[str, Any], aspects: tuple[str, ...]) -> None:
    assert PathChange(path="p", before=FILE, after=replace(FILE, **change)).aspects == aspects


def test_what_comes_or_goes_has_none() -> None:
    assert PathChange(path="p", before=None, after=FILE).aspects == ()
    assert PathChange(path="p", before=FILE, after=None).aspects == ()

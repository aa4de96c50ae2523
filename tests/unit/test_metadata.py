"""Commit metadata that is read: from JSON files, and from commits of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compose.errors import RepositoryError, UsageError
from compose.metadata import (
    ADVISORIES,
    INPUTHASH,
    REPOSITORIES,
    advisories_of,
    assemble_metadata,
    read_json_file,
    refused,
)
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit


@pytest.mark.parametrize("text", ["{", "[" * 200_000, '{"a": ' + "1" * 5000 + "}", b"\xff"])
def test_what_is_not_json(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"metadata\.json: not JSON: "):
        read_json_file(str(path))


def test_the_commits_own_keys() -> None:
    """What clients and the next compose rely on is not overridden."""
    own = {key: Variant("s", "own") for key in (INPUTHASH, REPOSITORIES, "version")}
    user = {key: Variant("s", "user") for key in (*own, "a")}
    assert refused(user, own) == [INPUTHASH]
    assert {key: value.value for key, value in assemble_metadata(user, own)} == {
        **dict.fromkeys(("a", REPOSITORIES, "version"), "user"),
        INPUTHASH: "own",
    }


@pytest.mark.parametrize("value", ["abc", 5, [("id", 1, 1)], [("id", 1, 1, [], [("cve_references", 5)])]])
def test_what_is_no_list_of_advisories(value: Any) -> None:
    commit = Commit(
        metadata=((ADVISORIES, Variant("v", value)),),
        parent=b"",
        subject="",
        body="",
        timestamp=0,
        root_tree=b"",
        root_meta=b"",
    )
    with pytest.raises(RepositoryError, match=r"rpmostree\.advisories of a commit is not a list of advisories"):
        advisories_of(commit)

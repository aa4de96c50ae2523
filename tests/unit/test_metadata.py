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
    advisories,
    advisories_of,
    assemble_metadata,
    from_json,
    package_list,
    read_json_file,
    refused,
)
from compose.ostree.gvariant import Variant, be32, encode
from compose.ostree.objects import Commit
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, Reference


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
    keys = [key for key, _ in assemble_metadata(user, own)]
    assert keys == sorted(keys)


def test_json_values_are_stored_as_rpm_ostree_stores_them() -> None:
    value = {"b": True, "i": 1, "n": -(2**63), "d": 1.5, "l": ["x", {}]}
    found = from_json(value, "add-commit-metadata")
    assert found.type == "a{sv}"
    assert [(key, each.type, encode(each.type, each.value)) for key, each in found.value[:4]] == [
        ("b", "b", b"\1"),
        ("i", "x", b"\0" * 7 + b"\1"),
        ("n", "x", b"\x80" + b"\0" * 7),
        ("d", "d", b"\x3f\xf8" + b"\0" * 6),
    ]
    assert found.value[4] == ("l", Variant("av", [Variant("s", "x"), Variant("a{sv}", [])]))


@pytest.mark.parametrize("value", [None, 2**63, -(2**63) - 1])
def test_json_values_that_no_commit_holds(value: int | None) -> None:
    with pytest.raises(UsageError, match=r"^file\.a: "):
        from_json({"a": [value]}, "file")


def test_packages_are_sorted() -> None:
    packages = [
        Nevra(name=name, epoch=epoch, version="1", release="2", arch="noarch") for name, epoch in (("b", 0), ("a", 3))
    ]
    assert package_list(packages).value == [("a", "3", "1", "2", "noarch"), ("b", "0", "1", "2", "noarch")]


def commit_with(key: str, value: Variant) -> Commit:
    return Commit(metadata=((key, value),), parent=b"", subject="", body="", timestamp=0, root_tree=b"", root_meta=b"")


def test_advisories_are_read_back() -> None:
    references = (Reference(url="https://example.com/CVE-1", title="CVE-1"),)
    found = tuple(
        Advisory(id=f"A-{severity}", severity=severity, packages=("a-1-2.noarch",), references=references)
        for severity in ("low", "moderate", "important", "critical")
    )
    found += (Advisory(id="B", severity="", packages=(), references=()),)
    value = advisories(found)
    # RpmOstreeAdvisorySeverity
    assert [be32(row[2]) for row in value.value] == [1, 2, 3, 4, 0]
    # DNF_ADVISORY_KIND_SECURITY
    assert {be32(row[1]) for row in value.value} == {1}
    assert advisories_of(commit_with(ADVISORIES, value)) == found
    assert advisories_of(commit_with("other", value)) is None
    assert advisories_of(commit_with("other", value), ((ADVISORIES, value),)) == found


def test_what_else_is_said_of_an_advisory_is_passed_over() -> None:
    rows = [("A", be32(1), be32(0), [], [("other", Variant("a(ss)", [("url", "title")]))])]
    (found,) = advisories_of(commit_with(ADVISORIES, Variant("a(suuasa{sv})", rows))) or ()
    assert found.references == ()


@pytest.mark.parametrize("value", ["abc", 5, [("id", 1, 1)], [("id", 1, 1, [], [("cve_references", 5)])]])
def test_what_is_no_list_of_advisories(value: Any) -> None:
    commit = commit_with(ADVISORIES, Variant("v", value))
    with pytest.raises(RepositoryError, match=r"rpmostree\.advisories of a commit is not a list of advisories"):
        advisories_of(commit)

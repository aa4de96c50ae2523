"""Commit metadata: what a compose records in its commit, under the keys that rpm-ostree's clients and tools read.

JSON files override the treefile's add-commit-metadata, and KEY=VALUE strings override both. Of the compose's own keys, they
override only the version and the repositories, as with rpm-ostree. Numbers are stored big-endian, as by rpm-ostree. Keys are
sorted, because their order is hashed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from compose.errors import RepositoryError, UsageError
from compose.ostree.gvariant import Variant, be32, be64, be64_signed, be_double
from compose.ostree.objects import Commit, Metadata
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, Reference, RepoSnapshot

PKGLIST = "rpmostree.rpmdb.pkglist"
INPUTHASH = "rpmostree.inputhash"
REPOSITORIES = "rpmostree.rpmmd-repos"
ADVISORIES = "rpmostree.advisories"
VERSION = "version"

_OVERRIDABLE = frozenset({VERSION, REPOSITORIES})

# DnfAdvisoryKind and RpmOstreeAdvisorySeverity
_SECURITY = 1
_SEVERITIES = {"low": 1, "moderate": 2, "important": 3, "critical": 4}


def from_json(value: Any, where: str) -> Variant:
    """Convert a JSON value to a GVariant as json-glib does: b, x, d, s, av, a{sv}. where: for messages.

    Raises UsageError for null, and for an integer of more than 64 bits.
    """
    match value:
        case bool():
            return Variant("b", value)
        case int():
            if not -(2**63) <= value < 2**63:
                raise UsageError(f"{where}: {value} does not fit into 64 bits")
            return Variant("x", be64_signed(value))
        case float():
            return Variant("d", be_double(value))
        case str():
            return Variant("s", value)
        case list():
            return Variant("av", [from_json(each, where) for each in value])
        case dict():
            return Variant("a{sv}", [(key, from_json(each, f"{where}.{key}")) for key, each in value.items()])
    raise UsageError(f"{where}: null cannot be commit metadata")


def read_json_file(path: str) -> dict[str, Any]:
    """Read a JSON object of commit metadata. Raises UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: commit metadata must be a JSON object")
    return found


def package_list(packages: Sequence[Nevra]) -> Variant:
    """Value of rpmostree.rpmdb.pkglist: (name, epoch, version, release, arch) of each package, sorted."""
    rows = sorted((each.name, str(each.epoch), each.version, each.release, each.arch) for each in packages)
    return Variant("a(sssss)", rows)


def repositories(repos: Sequence[RepoSnapshot]) -> Variant:
    """Value of rpmostree.rpmmd-repos: id and timestamp of each repository."""
    return Variant(
        "aa{sv}", [[("id", Variant("s", repo.id)), ("timestamp", Variant("t", be64(repo.timestamp)))] for repo in repos]
    )


def advisories(found: Sequence[Advisory]) -> Variant:
    """Value of rpmostree.advisories: (id, kind, severity, NEVRAs, {cve_references: [(URL, title)]}) of each."""
    rows = []
    for each in found:
        more = []
        if each.references:
            more.append(("cve_references", Variant("a(ss)", [(row.url, row.title) for row in each.references])))
        severity = _SEVERITIES.get(each.severity, 0)
        rows.append((each.id, be32(_SECURITY), be32(severity), list(each.packages), more))
    return Variant("a(suuasa{sv})", rows)


def advisories_of(commit: Commit, detached: Metadata = ()) -> tuple[Advisory, ...] | None:
    """Return the advisories that a commit, or else its detached metadata, records; None if neither does. Reverse of
    advisories().

    Raises RepositoryError if the list is malformed.
    """
    rows = commit.get(ADVISORIES)
    if rows is None:
        rows = next((value.value for key, value in detached if key == ADVISORIES), None)
    if rows is None:
        return None
    severities = {be32(number): name for name, number in _SEVERITIES.items()}
    try:
        return tuple(
            Advisory(
                id=name,
                severity=severities.get(severity, ""),
                packages=tuple(packages),
                references=tuple(
                    Reference(url=url, title=title)
                    for key, value in more
                    if key == "cve_references"
                    for url, title in value.value
                ),
            )
            for name, _, severity, packages, more in rows
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise RepositoryError(f"{ADVISORIES} of a commit is not a list of advisories: {error}") from error


def assemble_metadata(user: Mapping[str, Variant], own: Mapping[str, Variant]) -> Metadata:
    """Merge the user's keys with the compose's own; refused() of the user's are left out. Sorted."""
    ignored = refused(user, own)
    return tuple(sorted({**own, **{key: value for key, value in user.items() if key not in ignored}}.items()))


def refused(user: Mapping[str, Variant], own: Mapping[str, Variant]) -> list[str]:
    """Keys of the user that do not override the compose's own. Clients and later composes rely on what these say."""
    return sorted((user.keys() & own.keys()) - _OVERRIDABLE)

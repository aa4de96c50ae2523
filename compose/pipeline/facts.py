"""What a commit records of its making; `compose install` leaves it beside the root for `compose commit`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from compose.errors import UsageError
from compose.records import mark
from compose.rpm.nevra import Nevra
from compose.solve.advisories import Advisory, Reference
from compose.solve.resolution import RepoSnapshot
from compose.tree import Tree

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """digest: the input hash, "" when unknown. tree: tree_digest() of the root as it was written, "" when none was. kernel:
    its version, None for a tree that does not boot. epoch: time of the commit, seconds since 1970."""

    packages: tuple[Nevra, ...]
    epoch: int
    digest: str = ""
    tree: str = ""
    repos: tuple[RepoSnapshot, ...] = ()
    advisories: tuple[Advisory, ...] = ()
    version: str | None = None
    kernel: str | None = None


def tree_digest(tree: Tree) -> str:
    """All that a commit of the tree depends on, 64 hex digits; times are not among it."""
    total = hashlib.sha256()
    for path, entry in tree.walk():
        total.update(f"{path}\0{mark(entry)}\0".encode())
    return total.hexdigest()


def advisories_of(rows: list[dict[str, Any]]) -> tuple[Advisory, ...]:
    """Advisories as dataclasses.asdict() and JSON leave them."""
    return tuple(
        Advisory(
            **{
                **row,
                "packages": tuple(row["packages"]),
                "references": tuple(Reference(**each) for each in row["references"]),
            }
        )
        for row in rows
    )


def encode(facts: Facts) -> bytes:
    """As JSON. Where keys come from is left out: it may be a URL with a password, and no commit records it."""
    facts = dataclasses.replace(facts, repos=tuple(dataclasses.replace(each, gpgkeys=()) for each in facts.repos))
    return (json.dumps({"compose-facts": _VERSION, **dataclasses.asdict(facts)}, indent=2) + "\n").encode()


def decode(data: bytes, path: str) -> Facts:
    """Reverse of encode(). Raises UsageError naming the file."""
    try:
        found: dict[str, Any] = json.loads(data)
        if found.pop("compose-facts") != _VERSION:
            raise ValueError("of another version of compose")
        found["packages"] = tuple(Nevra(**row) for row in found["packages"])
        found["repos"] = tuple(RepoSnapshot(**{**row, "gpgkeys": tuple(row["gpgkeys"])}) for row in found["repos"])
        found["advisories"] = advisories_of(found["advisories"])
        return Facts(**found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: is not what compose install leaves beside a root: {error}", hint="remove it, or install anew"
        ) from error

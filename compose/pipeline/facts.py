"""Facts about a compose for the metadata of its commit; `compose install` leaves them beside the root for `compose commit`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from compose.errors import UsageError
from compose.records import mark
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, RepoSnapshot, advisories_of
from compose.tree import Tree

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about a compose.

    epoch: time of the commit, in seconds since 1970. digest: the input hash, "" when unknown. tree: tree_digest() of the root
    directory as written, "" without one. kernel: its version, None for a tree that does not boot.
    """

    packages: tuple[Nevra, ...]
    epoch: int
    digest: str = ""
    tree: str = ""
    repos: tuple[RepoSnapshot, ...] = ()
    advisories: tuple[Advisory, ...] = ()
    version: str | None = None
    kernel: str | None = None


def tree_digest(tree: Tree) -> str:
    """Digest of everything in a tree that a commit holds, so without times: 64 hex digits."""
    total = hashlib.sha256()
    for path, entry in tree.walk():
        total.update(f"{path}\0{mark(entry)}\0".encode())
    return total.hexdigest()


def encode(facts: Facts) -> bytes:
    """Encode as JSON, without the URLs of keys: they may contain a password, and commits do not record them."""
    facts = dataclasses.replace(facts, repos=tuple(dataclasses.replace(each, gpgkeys=()) for each in facts.repos))
    return (json.dumps({"compose-facts": _VERSION, **dataclasses.asdict(facts)}, indent=2) + "\n").encode()


def decode(data: bytes, path: str) -> Facts:
    """Reverse of encode(). path: for messages. Raises UsageError."""
    try:
        found: dict[str, Any] = json.loads(data)
        if found.pop("compose-facts") != _VERSION:
            raise ValueError("it was written by another version of compose")
        found["packages"] = tuple(Nevra(**row) for row in found["packages"])
        found["repos"] = tuple(RepoSnapshot(**{**row, "gpgkeys": tuple(row["gpgkeys"])}) for row in found["repos"])
        found["advisories"] = advisories_of(found["advisories"])
        return Facts(**found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a file that compose install leaves beside a root: {error}",
            hint="remove it, or install again",
        ) from error

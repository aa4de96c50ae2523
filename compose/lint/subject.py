"""The input of the rules, and their findings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from compose.findings import Level
from compose.label import Audit
from compose.lint.rules import RULES
from compose.ostree.objects import Commit
from compose.tree import BlobRef, Tree, TreeLookupError

MODULES = "usr/lib/modules"
_SHOWN = 5


class Contents(Protocol):
    """The part of a blob store that rules need."""

    def read(self, ref: BlobRef) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """A violation of a rule. path: absolute, in the tree; "/" for the tree or commit as a whole."""

    rule: str
    path: str
    message: str

    @property
    def level(self) -> Level:
        return RULES[self.rule].level

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Subject:
    """A tree and what is known about it; see lint_tree() for the fields."""

    tree: Tree
    store: Contents
    bootable: bool
    commit: Commit | None
    labels: Audit | None
    measured: bool | None

    def place(self, path: str) -> str:
        """A path with symlinks resolved, and in /usr/etc instead of /etc; unresolved if that fails, as in a loop."""
        resolved = path.strip("/")
        with contextlib.suppress(TreeLookupError):
            resolved = self.tree.resolve(path)
        return f"usr/{resolved}" if resolved == "etc" or resolved.startswith("etc/") else resolved

    def text(self, path: str) -> str | None:
        """The text of a file, following symlinks; None if there is none."""
        entry = self.tree.get(self.place(path))
        return None if entry is None or entry.blob is None else self.store.read(entry.blob).decode(errors="replace")

    def texts(self, directory: str, suffix: str) -> Iterator[tuple[str, str]]:
        """(path, text) of the files in a directory whose names end with `suffix`."""
        for name in self.tree.children(directory):
            if name.endswith(suffix) and (text := self.text(f"{directory}/{name}")) is not None:
                yield f"{directory}/{name}", text

    def same(self, one: BlobRef, other: BlobRef) -> bool:
        """Have two blobs the same content?"""
        if one.digest == other.digest:
            return True
        # the digests of a commit's blobs are those of its objects, which differ with owner and label too
        return one.size == other.size and self.store.read(one) == self.store.read(other)

    def kernels(self) -> list[str]:
        """Versions of the kernels in the tree."""
        return [name for name in self.tree.children(MODULES) if f"{MODULES}/{name}/vmlinuz" in self.tree]


def few(names: list[str] | tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest

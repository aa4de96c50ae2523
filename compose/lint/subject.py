"""What rules are applied to, and what they find."""

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
    """What is needed of a blob store."""

    def read(self, ref: BlobRef) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """path: absolute, in the tree; "/" for what is about the whole."""

    rule: str
    path: str
    message: str

    @property
    def level(self) -> Level:
        return RULES[self.rule].level


@dataclass(frozen=True, slots=True)
class Subject:
    """bootable: the tree is meant to be booted, not to be a container image only. commit, labels: None for a tree that has
    none. measured: does the commit, or will it, have a composefs digest? None when nobody knows."""

    tree: Tree
    store: Contents
    bootable: bool
    commit: Commit | None
    labels: Audit | None
    measured: bool | None

    def place(self, path: str) -> str:
        """Where a path leads, itself when it leads in circles; /etc is where its defaults are."""
        found = path.strip("/")
        with contextlib.suppress(TreeLookupError):
            found = self.tree.resolve(path)
        return f"usr/{found}" if found == "etc" or found.startswith("etc/") else found

    def text(self, path: str) -> str | None:
        """A file, symlinks followed."""
        entry = self.tree.get(self.place(path))
        return None if entry is None or entry.blob is None else self.store.read(entry.blob).decode(errors="replace")

    def texts(self, directory: str, suffix: str) -> Iterator[tuple[str, str]]:
        """(path, text) of the files of a directory whose names end so."""
        for name in self.tree.children(directory):
            if name.endswith(suffix) and (text := self.text(f"{directory}/{name}")) is not None:
                yield f"{directory}/{name}", text

    def kernels(self) -> list[str]:
        return [name for name in self.tree.children(MODULES) if f"{MODULES}/{name}/vmlinuz" in self.tree]


def few(names: list[str] | tuple[str, ...]) -> str:
    """The first of them, and how many more there are."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest

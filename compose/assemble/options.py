"""What assembling is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from compose.process import ProgramRecord
from compose.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A tree laid over the packages. name: as messages call it. override: its files win; else they may only be new, or
    the same as the packages'."""

    name: str
    tree: Tree
    override: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleOptions:
    """The treefile's keys of the same names.

    remove_from_packages: (package, regular expressions searched in paths like "/usr/etc/foo"). accounts: ("passwd", "group",
    "shadow" or "gshadow", entries) that exist before anything runs, so that their ids stay what they were. install_langs:
    locales whose %lang() files are kept, "en_US"; None keeps all. default_ignored_scriptlets: those of
    ignored-scriptlets.json do not run. ignore_scriptlets, allow_scriptlet_failures: (package, kind, reason), "post" for a
    kind. ima: signatures of files become security.ima. layers: trees laid over the packages before anything runs. epoch:
    SOURCE_DATE_EPOCH, seconds since 1970.
    """

    epoch: int
    documentation: bool = True
    remove_from_packages: tuple[tuple[str, tuple[str, ...]], ...] = ()
    readonly_executables: bool = False
    ignore_devices: bool = True
    default_ignored_scriptlets: bool = True
    ignore_scriptlets: tuple[tuple[str, str, str], ...] = ()
    allow_scriptlet_failures: tuple[tuple[str, str, str], ...] = ()
    accounts: tuple[tuple[str, bytes], ...] = ()
    install_langs: tuple[str, ...] | None = None
    ima: bool = False
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A file of a package that is not in the tree, and why."""

    path: str
    package: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """tree: everything installed, owners resolved, no labels; /etc is in place. records: all programs run, in order."""

    tree: Tree
    records: tuple[ProgramRecord, ...]
    dropped: tuple[Dropped, ...]

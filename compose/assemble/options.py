"""Options and result of the assemble stage."""

from __future__ import annotations

from dataclasses import dataclass

from compose.process import ProgramRecord
from compose.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A tree laid over the packages. name: for messages. override: whether its files replace those of packages; otherwise they
    may only be new or identical."""

    name: str
    tree: Tree
    override: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAccounts:
    """Users or groups that exist before anything runs, to keep their ids. file: "passwd", "group", "shadow" or "gshadow".
    entries: its lines. override: whether they replace those of the same names that packages ship."""

    file: str
    entries: bytes
    override: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembleOptions:
    """Options, most of which are the treefile's keys of the same names.

    remove_from_packages: (package, regular expressions searched in paths like "/usr/etc/foo"; those of directories, like
    "/usr/etc/", stand for all that is below). install_langs: locales ("en_US") whose %lang() files are kept; None keeps
    all. default_ignored_scriptlets: skip those in ignored-scriptlets.json. ignore_scriptlets, allow_scriptlet_failures:
    (package, kind, reason), where kind is "post" or the like. ima: store file signatures as security.ima. foreign:
    the packages' architecture if this machine has another. layers: trees laid over the packages before anything runs.
    epoch: SOURCE_DATE_EPOCH, seconds since 1970.
    """

    epoch: int
    documentation: bool = True
    remove_from_packages: tuple[tuple[str, tuple[str, ...]], ...] = ()
    readonly_executables: bool = False
    ignore_devices: bool = True
    default_ignored_scriptlets: bool = True
    ignore_scriptlets: tuple[tuple[str, str, str], ...] = ()
    allow_scriptlet_failures: tuple[tuple[str, str, str], ...] = ()
    accounts: tuple[KnownAccounts, ...] = ()
    install_langs: tuple[str, ...] | None = None
    ima: bool = False
    foreign: str | None = None
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A file of a package that is left out of the tree, with the reason."""

    path: str
    package: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """Result of the stage. tree: everything installed, with owners but without labels; configuration is in /etc. records:
    of all programs that ran, in order."""

    tree: Tree
    records: tuple[ProgramRecord, ...]
    dropped: tuple[Dropped, ...]

"""Ordering constraints on the packages of a set, from the dependencies that their headers declare."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rpm

from compose.rpm.compare import in_ascii
from compose.rpm.richdeps import rich_words
from compose.rpm.sorting import Relation

_OPERATORS = frozenset({"and", "or", "if", "else", "unless", "with", "without"})
_ORDERING = frozenset({"and", "or", "else"})
_SENSES = {"<": 2, ">": 4, "=": 8, "<=": 10, ">=": 12}
# rpmsenseFlags of rpm's rpmds.h: pre and post, preun and postun
_INSTALLATION, _REMOVAL = 1 << 9 | 1 << 10, 1 << 11 | 1 << 12
# scriptlets of installation, rpmlib() and keyring, pretrans and posttrans
_STRONG = _INSTALLATION | 1 << 24 | 1 << 26 | 1 << 7 | 1 << 5
# rpmlib(), config(), pretrans and posttrans, preuntrans and postuntrans, verify, meta: these alone impose no order
_UNORDERED = 1 << 24 | 1 << 28 | 1 << 7 | 1 << 5 | 1 << 20 | 1 << 21 | 1 << 13 | 1 << 29
_PREFERRED_COLOR = 2
_MOST_LINKS = 40
"""Symlinks followed in one path, as many as Linux follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """name: of a capability or path, or a rich dependency, "(a or b)". flags: RPMSENSE_*. version:
    [EPOCH:]VERSION[-RELEASE], "" for any. weak: the package works without it. color: of the ELF files that need it,
    1 = 32 bit, 2 = 64 bit, 0 = none or unknown."""

    name: str
    flags: int
    version: str
    weak: bool = False
    color: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The facts about a package that decide the order. needs: in librpm's order, Requires first. files: paths,
    "/usr/bin/sh". links: its symlinks, path -> target. color: of its ELF files, 3 = both 32 and 64 bit."""

    provides: tuple[Dependency, ...]
    needs: tuple[Dependency, ...]
    files: Sequence[str]
    links: Mapping[str, str]
    color: int


def relations_of(packages: Sequence[Candidate]) -> list[Relation]:
    """Return at most one constraint per (before, after), none of a package with itself."""
    index = _Index(packages)
    found: dict[tuple[int, int], bool] = {}
    for position, package in enumerate(packages):
        for need in package.needs:
            if need.flags & _UNORDERED and not need.flags & (_INSTALLATION | _REMOVAL):
                continue
            strong = bool(need.flags & _STRONG)
            for simple in _simple(need):
                other = index.provider(position, simple)
                if other is None or other == position or (simple.weak and not strong):
                    continue
                found[other, position] = found.get((other, position), False) or (strong and not simple.weak)
    return [Relation(before=before, after=after, strong=strong) for (before, after), strong in found.items()]


def _simple(need: Dependency) -> Iterator[Dependency]:
    """Yield the simple dependencies in one that order packages: not those behind if, unless, with and without."""
    if not need.name.startswith("("):
        yield need
        return
    for text in _operands(rich_words(need.name)):
        name, *versioned = text.split()
        sense, version = versioned if len(versioned) == 2 else ("", "")
        yield Dependency(name=name, flags=_SENSES.get(sense, 0), version=version)


def _operands(words: Sequence[str]) -> Iterator[str]:
    """Yield those simple dependencies among the words of a rich one, each as it was written."""
    levels: list[bool] = []
    ordering, simple = True, list[str]()
    for word in words:
        if word == "(":
            levels.append(ordering)
        elif word != ")" and word not in _OPERATORS:
            simple.append(word)
        elif levels:
            if simple and ordering:
                yield " ".join(simple)
            simple = []
            ordering = levels.pop() if word == ")" else levels[-1] and word in _ORDERING


class _Index:
    """Finds the packages that provide a capability or own a path."""

    def __init__(self, packages: Sequence[Candidate]) -> None:
        self._packages = packages
        self._provides: dict[str, list[tuple[int, Dependency]]] = {}
        self._links: dict[str, str] = {}
        for position, package in enumerate(packages):
            self._links.update(package.links)
            for provided in package.provides:
                self._provides.setdefault(provided.name, []).append((position, provided))
        wanted = {
            simple.name
            for package in packages
            for need in package.needs
            for simple in _simple(need)
            if simple.name[:1] == "/"
        }
        self._directories: dict[str, str] = {}
        names = {posixpath.basename(path) for path in wanted}
        self._owners: dict[str, list[int]] = {}
        for position, package in enumerate(packages):
            for path in package.files:
                if path.rpartition("/")[2] in names:
                    self._owners.setdefault(self._resolved(path), []).append(position)

    def provider(self, position: int, need: Dependency) -> int | None:
        """Return the package that fulfils a dependency of the one at `position`, None if there is none.

        One of the same word size is preferred, and then the package itself.
        """
        found = self._owners.get(self._resolved(need.name), []) if need.name.startswith("/") else []
        if not found:
            found = [other for other, provided in self._provides.get(need.name, ()) if _overlap(provided, need)]
        return max(found, key=lambda other: self._score(position, other, need.color), default=None)

    def _score(self, position: int, other: int, color: int) -> tuple[bool, bool]:
        return self._packages[other].color == (color or _PREFERRED_COLOR), other == position

    def _resolved(self, path: str) -> str:
        """Resolve the packages' symlinks in a path's directory: /bin/sh is /usr/bin/sh if /bin is one to usr/bin."""
        directory, _, name = path.rpartition("/")
        return f"{self._resolved_directory(directory)}/{name}"

    def _resolved_directory(self, directory: str) -> str:
        if directory not in self._directories:
            found = directory
            for _ in range(_MOST_LINKS):
                parts = found.split("/")
                heads = ("/".join(parts[:end]) for end in range(2, len(parts) + 1))
                link = next((head for head in heads if head in self._links), None)
                if link is None:
                    break
                target = posixpath.join(posixpath.dirname(link), self._links[link])
                found = posixpath.normpath(target + found[len(link) :])
            self._directories[directory] = found
        return self._directories[directory]


def _overlap(provided: Dependency, need: Dependency) -> bool:
    """Whether a provided version is a needed one; the names are the same."""
    return bool(_ds(provided, "provides").Compare(_ds(need, "requires")))


def _ds(dependency: Dependency, kind: str) -> Any:
    # not its name: those of old packages need not be UTF-8, and librpm's bindings refuse that
    return rpm.ds(("same", dependency.flags, in_ascii(dependency.version)), kind)

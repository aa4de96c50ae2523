"""Which packages of a set are to be installed before which, by the dependencies that their headers declare."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rpm

from compose.rpm.richdeps import rich_words
from compose.rpm.sorting import Relation

_OPERATORS = frozenset({"and", "or", "if", "else", "unless", "with", "without"})
_ORDERING = frozenset({"and", "or", "else"})
_SENSES = {"<": 2, ">": 4, "=": 8, "<=": 10, ">=": 12}
# rpmsenseFlags of rpm's rpmds.h: pre and post, preun and postun
_INSTALLATION, _REMOVAL = 1 << 9 | 1 << 10, 1 << 11 | 1 << 12
# rpmlib() and keyring; pretrans and posttrans
_STRONG = _INSTALLATION | 1 << 24 | 1 << 26 | 1 << 7 | 1 << 5
# rpmlib(), config(), pretrans and posttrans, preuntrans and postuntrans, verify, meta: of no scriptlet in between
_UNORDERED = 1 << 24 | 1 << 28 | 1 << 7 | 1 << 5 | 1 << 20 | 1 << 21 | 1 << 13 | 1 << 29
_PREFERRED_COLOR = 2
_MOST_LINKS = 40
"""How many symlinks of a path are followed, as Linux does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """name: or a rich dependency, "(a or b)". flags: RPMSENSE_*. version: [EPOCH:]VERSION[-RELEASE], "" for any.
    weak: the package can do without. color: of the ELF files that need it, 1 = 32 bit, 2 = 64 bit, 0 = none or not known."""

    name: str
    flags: int
    version: str
    weak: bool = False
    color: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What of a package decides the order. files: paths, "/usr/bin/sh". links: its symlinks, path -> target. color: of its ELF
    files, 3 = of 32 and of 64 bit. needs: in librpm's order, Requires first."""

    provides: tuple[Dependency, ...]
    needs: tuple[Dependency, ...]
    files: Sequence[str]
    links: Mapping[str, str]
    color: int


def relations_of(packages: Sequence[Candidate]) -> list[Relation]:
    """Each two packages once; none with itself."""
    index = _Index(packages)
    found: dict[tuple[int, int], bool] = {}
    for position, package in enumerate(packages):
        for need in package.needs:
            if need.flags & _UNORDERED and not need.flags & (_INSTALLATION | _REMOVAL):
                continue
            strong = bool(need.flags & _STRONG)
            for each in _simple(need):
                other = index.provider(position, each)
                if other is None or other == position or (each.weak and not strong):
                    continue
                found[other, position] = found.get((other, position), False) or (strong and not each.weak)
    return [Relation(before=before, after=after, strong=strong) for (before, after), strong in found.items()]


def _simple(need: Dependency) -> Iterator[Dependency]:
    """Those of a rich dependency that order packages: its conditions do not, nor what another one must be beside."""
    if not need.name.startswith("("):
        yield need
        return
    for text in _operands(rich_words(need.name)):
        name, *versioned = text.split()
        sense, version = versioned if len(versioned) == 2 else ("", "")
        yield Dependency(name=name, flags=_SENSES.get(sense, 0), version=version)


def _operands(words: Sequence[str]) -> Iterator[str]:
    """The simple dependencies among the words of a rich one that order packages, each as it was written."""
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
    """Who provides what."""

    def __init__(self, packages: Sequence[Candidate]) -> None:
        self._packages = packages
        self._provides: dict[str, list[tuple[int, Dependency]]] = {}
        self._links: dict[str, str] = {}
        for position, package in enumerate(packages):
            self._links.update(package.links)
            for each in package.provides:
                self._provides.setdefault(each.name, []).append((position, each))
        wanted = {
            each.name
            for package in packages
            for need in package.needs
            for each in _simple(need)
            if each.name[:1] == "/"
        }
        self._directories: dict[str, str] = {}
        names = {posixpath.basename(path) for path in wanted}
        self._owners: dict[str, list[int]] = {}
        for position, package in enumerate(packages):
            for path in package.files:
                if path.rpartition("/")[2] in names:
                    self._owners.setdefault(self._place(path), []).append(position)

    def provider(self, position: int, need: Dependency) -> int | None:
        """The package that a dependency of a package is on: best one of its bits, and itself. None: none here."""
        found = self._owners.get(self._place(need.name), []) if need.name.startswith("/") else []
        if not found:
            found = [other for other, each in self._provides.get(need.name, ()) if _overlap(each, need)]
        return max(found, key=lambda other: self._score(position, other, need.color), default=None)

    def _score(self, position: int, other: int, color: int) -> tuple[bool, bool]:
        return self._packages[other].color == (color or _PREFERRED_COLOR), other == position

    def _place(self, path: str) -> str:
        """A path with its directories as the links of packages have them: /bin/sh is /usr/bin/sh where /bin is a link."""
        directory, _, name = path.rpartition("/")
        return f"{self._directory(directory)}/{name}"

    def _directory(self, directory: str) -> str:
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
    return bool(_ds(provided, "provides").Compare(_ds(need, "requires")))


def _ds(dependency: Dependency, kind: str) -> Any:
    return rpm.ds((dependency.name, dependency.flags, dependency.version), kind)

"""What a program saw of a tree: the entries that decided what it did. Pure.

The program's look-ups are followed through the tree's symlinks, and every entry on the way is noted as it was: what is there,
what is not, what a directory lists. In a tree where all of them are the same the same look-ups take the same way and find the
same, so that the program would do again what it did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from compose.sandbox.observe import PRIVATE, Observation, leads_astray
from compose.tree import Entry, join
from compose.workroot.layer import Change
from compose.workroot.materialise import kept_xattrs

_PRIVATE = frozenset(path[1:] for path in PRIVATE)
_MAX_HOPS = 40
_MAX_WAYS = 1000
"""That one path may be followed on, where a program gave names again and again."""
# Their times of change are of the clock, or of the compose, and decide nothing that may be committed.
_TIMELESS = ("step:", "scriptlet:", "treefile", "program:")

Lookup = Callable[[str], Entry | None]


class View(Protocol):
    """A tree, or one that is being changed."""

    def get(self, path: str) -> Entry | None: ...

    def children(self, path: str) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """found: path -> how it was (see identity()), "" for the root directory. listed: directory -> digest of its names."""

    found: Mapping[str, str]
    listed: Mapping[str, str]

    def differs(self, view: View) -> str | None:
        """A path that is not as it was; None when the program would see the same."""
        for path, was in self.found.items():
            if identity(view.get(path), content=was.startswith("F")) != was:
                return path
        for path, was in self.listed.items():
            if listing(view, path) != was:
                return path
        return None


class _Unclear(Exception):
    """It cannot be said what the program saw."""


def sight_of(observation: Observation, changes: Iterable[Change], view: View) -> Sight | None:
    """view: the tree before the program ran. changes: what it changed. None when it cannot be said what it saw."""
    walker = _Walker(observation, view, {change.path: change.entry for change in changes})
    try:
        return walker.sight()
    except _Unclear:
        return None


class _Walker:
    def __init__(self, observation: Observation, view: View, entries: Mapping[str, Entry | None]) -> None:
        self._observation = observation
        self._view = view
        self._entries = entries
        # path -> was its content read?
        self._seen: dict[str, bool] = {}
        # what a path may have been a name of while the program ran
        self._names: dict[str, set[str]] = {}

    def sight(self) -> Sight:
        observation = self._observation
        lookups: list[Lookup] = [self._view.get]
        if any(entry is not None and entry.is_symlink for entry in self._entries.values()):
            # it may have followed what it made itself
            lookups.append(self._after)
        self._note_names(lookups)
        listed: set[str] = set()
        for lookup in lookups:
            for path in observation.looked:
                self._go(path, lookup)
            for path in observation.read:
                self._seen.update(dict.fromkeys(self._go(path, lookup), True))
            for path in observation.listed:
                listed |= self._go(path, lookup)
        for path in self._entries:
            # what was changed, moved or linked to is part of the result, though nobody may have read it
            self._seen[path] = True
        return Sight(
            found={path: identity(self._view.get(path), content=read) for path, read in self._seen.items()},
            listed={path: listing(self._view, path) for path in listed},
        )

    def _after(self, path: str) -> Entry | None:
        return self._entries[path] if path in self._entries else self._view.get(path)

    def _note_names(self, lookups: Sequence[Lookup]) -> None:
        """Which places the names are that the program gave. One may be below another: until no more are found."""
        known, before = 0, -1
        while known > before:
            before = known
            for new, old in self._observation.names:
                above, _, name = new.rpartition("/")
                for place in {above.strip("/")}.union(*(self._go(above, lookup) for lookup in lookups)):
                    self._names.setdefault(join(place, name), set()).add(old)
            known = sum(map(len, self._names.values()))

    def _go(self, path: str, lookup: Lookup) -> set[str]:
        """Follow a path, noting all on its way: where it may lead in the tree."""
        places: set[str] = set()
        self._follow(path, lookup, 0, places, set())
        return places

    def _follow(self, path: str, lookup: Lookup, hops: int, places: set[str], ways: set[str]) -> None:
        if path in ways or hops > _MAX_HOPS:
            return
        ways.add(path)
        if len(ways) > _MAX_WAYS:
            raise _Unclear(path)
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        while todo:
            part = todo.pop()
            if part == "..":
                if done:
                    done.pop()
                continue
            done.append(part)
            here = "/".join(done)
            self._seen.setdefault(here, False)
            if here in _PRIVATE:
                way_on = "/".join(("", here, *reversed(todo)))
                if leads_astray(way_on) or self._observation.crossed:
                    raise _Unclear(path)
                return
            for other in self._names.get(here, ()):
                self._follow("/".join((other, *reversed(todo))), lookup, hops + 1, places, ways)
            entry = lookup(here)
            if entry is None:
                return
            if entry.target is not None:
                hops += 1
                if hops > _MAX_HOPS:
                    return
                done = [] if entry.target.startswith("/") else done[:-1]
                todo.extend(piece for piece in reversed(entry.target.split("/")) if piece not in ("", "."))
            elif todo and not entry.is_dir:
                return
        place = "/".join(done)
        self._seen.setdefault(place, False)
        places.add(place)


def identity(entry: Entry | None, *, content: bool) -> str:
    """All that a program can tell of an entry; content: of the bytes of a file too, else their number."""
    if entry is None:
        return "-"
    owner = f"{entry.permissions:o} {entry.uid} {entry.gid}"
    xattrs = kept_xattrs(entry)
    more = " ".join(f" {name.hex()}={value.hex()}" for name, value in xattrs) if xattrs else ""
    if entry.blob is not None:
        time = "" if entry.writer.startswith(_TIMELESS) else str(entry.mtime)
        if content:
            return f"F{owner} {entry.blob.digest} {time}{more}"
        return f"f{owner} {entry.blob.size} {time}{more}"
    # whether content was asked for can only matter where a file may come to be
    kind = "F" if content else "f"
    return f"{kind}l{owner} {entry.target}" if entry.target is not None else f"{kind}d{owner}{more}"


def listing(view: View, path: str) -> str:
    """Digest of what a directory lists: names and types."""
    rows = []
    for name in view.children(path):
        entry = view.get(join(path, name))
        rows.append(f"{name}/{entry.mode >> 12 if entry is not None else 0}")
    return hashlib.sha256("\0".join(rows).encode(errors="surrogateescape")).hexdigest()[:32]

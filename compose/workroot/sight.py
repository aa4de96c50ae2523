"""What a program saw of a tree: the entries its behaviour depended on. Pure: no I/O.

The program's lookups are followed through the tree's symlinks, and the state of every entry on the way is recorded: present,
absent, and the names in listed directories. In a tree where all of these are the same, the same lookups take the same way and
have the same results, so the program would do the same again.
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
"""Limit for the paths that one lookup may stand for when a program keeps renaming things."""
# Files by these writers have mtimes from the clock or the compose, which must not influence a commit.
_TIMELESS = ("step:", "scriptlet:", "treefile", "program:")

Lookup = Callable[[str], Entry | None]


class View(Protocol):
    """A Tree or a TreeEditor."""

    def get(self, path: str) -> Entry | None: ...

    def children(self, path: str) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a program saw.

    found: path -> its state, as by identity(); the root's path is "". listed: directory -> digest, as by listing().
    """

    found: Mapping[str, str]
    listed: Mapping[str, str]

    def differs(self, view: View) -> str | None:
        """A path whose state differs; None if the program would see the same."""
        for path, state in self.found.items():
            if identity(view.get(path), content=state.startswith("F")) != state:
                return path
        for path, names in self.listed.items():
            if listing(view, path) != names:
                return path
        return None


class _Undetermined(Exception):
    """What the program saw cannot be determined."""


def sight_of(observation: Observation, changes: Iterable[Change], view: View) -> Sight | None:
    """Determine what a program saw; None if that is impossible. view: the tree before it ran. changes: what it changed."""
    walker = _Walker(observation, view, {change.path: change.entry for change in changes})
    try:
        return walker.sight()
    except _Undetermined:
        return None


class _Walker:
    def __init__(self, observation: Observation, view: View, entries: Mapping[str, Entry | None]) -> None:
        self._observation = observation
        self._view = view
        self._entries = entries
        # path -> was its content read?
        self._seen: dict[str, bool] = {}
        # path -> paths that it may have named while the program ran
        self._names: dict[str, set[str]] = {}

    def sight(self) -> Sight:
        observation = self._observation
        lookups: list[Lookup] = [self._view.get]
        if any(entry is not None and entry.is_symlink for entry in self._entries.values()):
            # it may have followed symlinks that it made itself
            lookups.append(self._after)
        self._note_names(lookups)
        listed: set[str] = set()
        for lookup in lookups:
            for path in observation.looked:
                self._resolve(path, lookup)
            for path in observation.read:
                self._seen.update(dict.fromkeys(self._resolve(path, lookup), True))
            for path in observation.listed:
                listed |= self._resolve(path, lookup)
        for path in self._entries:
            # the content of changed, moved or linked files is part of the result, even if it was not read
            self._seen[path] = True
        return Sight(
            found={path: identity(self._view.get(path), content=read) for path, read in self._seen.items()},
            listed={path: listing(self._view, path) for path in listed},
        )

    def _after(self, path: str) -> Entry | None:
        return self._entries[path] if path in self._entries else self._view.get(path)

    def _note_names(self, lookups: Sequence[Lookup]) -> None:
        """Find where in the tree the program gave names, repeating until no more are found: one may be below another."""
        known, before = 0, -1
        while known > before:
            before = known
            for new, old in self._observation.names:
                parent, _, name = new.rpartition("/")
                for place in {parent.strip("/")}.union(*(self._resolve(parent, lookup) for lookup in lookups)):
                    self._names.setdefault(join(place, name), set()).add(old)
            known = sum(map(len, self._names.values()))

    def _resolve(self, path: str, lookup: Lookup) -> set[str]:
        """Return the paths in the tree that a path may lead to, recording every entry on the way."""
        places: set[str] = set()
        self._follow(path, lookup, 0, places, set())
        return places

    def _follow(self, path: str, lookup: Lookup, hops: int, places: set[str], ways: set[str]) -> None:
        if path in ways or hops > _MAX_HOPS:
            return
        ways.add(path)
        if len(ways) > _MAX_WAYS:
            raise _Undetermined(path)
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
                rest = "/".join(("", here, *reversed(todo)))
                if leads_astray(rest) or self._observation.crossed:
                    raise _Undetermined(path)
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
    """All that a program can see of an entry, as text. content: include a file's digest rather than only its size."""
    if entry is None:
        return "-"
    owner = f"{entry.permissions:o} {entry.uid} {entry.gid}"
    xattrs = kept_xattrs(entry)
    more = " ".join(f" {name.hex()}={value.hex()}" for name, value in xattrs) if xattrs else ""
    if entry.blob is not None:
        time = "" if entry.writer.startswith(_TIMELESS) else str(entry.mtime)
        # writing to it changes its other names too
        time += " linked" if entry.link else ""
        if content:
            return f"F{owner} {entry.blob.digest} {time}{more}"
        return f"f{owner} {entry.blob.size} {time}{more}"
    # record whether content was read, in case there is a file at this path next time
    kind = "F" if content else "f"
    return f"{kind}l{owner} {entry.target}" if entry.target is not None else f"{kind}d{owner}{more}"


def listing(view: View, path: str) -> str:
    """Digest of a directory's listing: names and types."""
    rows = []
    for name in view.children(path):
        entry = view.get(join(path, name))
        rows.append(f"{name}/{entry.mode >> 12 if entry is not None else 0}")
    return hashlib.sha256("\0".join(rows).encode(errors="surrogateescape")).hexdigest()[:32]

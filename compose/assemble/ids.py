"""Keeps uids and gids stable: dynamically allocated ids are changed to those in a lock, and new ones are reported.

An id is allocated once. A name that disappears keeps its id in the lock, so that files in a client's /var never change hands.
An id that a package fixes (a number in sysusers.d) is not changed; if it differs from the lock, the compose fails.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from compose.assemble.accounts import declared_ids, parse_ids
from compose.errors import PolicyError
from compose.passwd import parse_id
from compose.tree import BlobRef, Tree

# the range that systemd-sysusers and useradd -r allocate from, downwards
_DYNAMIC = range(999, 200, -1)
_PASSWD, _GROUP = "etc/passwd", "etc/group"
SYSUSERS = "usr/lib/sysusers.d"
_WRITER = "step:id-lock"


class Contents(Protocol):
    """The part of a blob store that is used here."""

    def read(self, ref: BlobRef) -> bytes: ...

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IdLock:
    """Ids by name, without root. path: the lock file's, for messages."""

    path: str
    users: Mapping[str, int]
    groups: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """Result of pin_ids(). lock: with new ids; the same object if there are none. new: "user chrony 998", in order."""

    tree: Tree
    lock: IdLock
    new: tuple[str, ...]


def pin_ids(tree: Tree, store: Contents, lock: IdLock, *, accept_new: bool) -> Pinned:
    """Give every user and group its id from the lock.

    Raises PolicyError listing every conflict: a name that is not locked (unless accept_new), a fixed id that differs from the
    lock, an id that two names would share.
    """
    present_users, present_groups = (_present(tree, store, path) for path in (_PASSWD, _GROUP))
    fixed_users, fixed_groups = _fixed(tree, store)
    faults: list[str] = []
    users = _plan("user", present_users, lock.users, fixed_users, lock.path, accept_new, faults)
    groups = _plan("group", present_groups, lock.groups, fixed_groups, lock.path, accept_new, faults)
    if faults:
        raise PolicyError.of(
            faults,
            f"{lock.path}: {len(faults)} users and groups differ from the lock",
            hint="compose with --accept-new-ids to lock new names; resolve changes of fixed ids by hand",
        )
    new = (
        *(f"user {name} {users.ids[name]}" for name in users.new),
        *(f"group {name} {groups.ids[name]}" for name in groups.new),
    )
    changed = lock
    if new:
        changed = IdLock(
            path=lock.path,
            users={**lock.users, **{name: users.ids[name] for name in users.new}},
            groups={**lock.groups, **{name: groups.ids[name] for name in groups.new}},
        )
    return Pinned(tree=_moved(tree, store, users.moves, groups.moves), lock=changed, new=new)


@dataclass(frozen=True, slots=True)
class _Plan:
    ids: dict[str, int]
    moves: dict[int, int]
    new: list[str]


def _plan(
    kind: str,
    present: Mapping[str, int],
    locked: Mapping[str, int],
    fixed: Mapping[str, int],
    path: str,
    accept_new: bool,
    faults: list[str],
) -> _Plan:
    ids: dict[str, int] = {}
    new: list[str] = []
    for name, number in present.items():
        if not number:
            continue
        wanted = locked.get(name)
        if wanted is not None:
            if wanted != number and fixed.get(name) == number:
                faults.append(f"{path}: {kind} {name} is locked to {wanted}, but its package now fixes it to {number}")
            ids[name] = wanted
    taken = {*locked.values(), *ids.values()}
    for name, number in present.items():
        if not number or name in locked:
            continue
        if not accept_new:
            faults.append(f"{path}: {kind} {name} ({number}) is not locked")
        if number in taken:
            owner = next(other for other, its in {**locked, **ids}.items() if its == number)
            if fixed.get(name) == number:
                faults.append(
                    f"{path}: {kind} {name} is fixed to {number} by its package, but {number} belongs to {owner}"
                )
            else:
                free = (
                    candidate for candidate in _DYNAMIC if candidate not in taken and candidate not in present.values()
                )
                number = next(free, 0)
                if not number:
                    faults.append(f"{path}: there is no free id for {kind} {name} below {_DYNAMIC.start + 1}")
        ids[name] = number
        taken.add(number)
        new.append(name)
    moves: dict[int, int] = {}
    for name, number in present.items():
        wanted = ids.get(name, number)
        if moves.setdefault(number, wanted) != wanted:
            faults.append(
                f"{path}: {kind} {name} shares the id {number} with another, but they are locked to different ids"
            )
    return _Plan(ids, {old: wanted for old, wanted in moves.items() if old != wanted}, new)


def _present(tree: Tree, store: Contents, path: str) -> dict[str, int]:
    entry = tree.get(path)
    return {} if entry is None or entry.blob is None else parse_ids(store.read(entry.blob))


def _fixed(tree: Tree, store: Contents) -> tuple[dict[str, int], dict[str, int]]:
    """Ids of users and of groups that sysusers.d(5) files fix."""
    entries = (tree[f"{SYSUSERS}/{name}"] for name in tree.children(SYSUSERS) if name.endswith(".conf"))
    texts = (store.read(entry.blob).decode(errors="replace") for entry in entries if entry.blob is not None)
    users, groups = (
        {name: number for name, number in ids.items() if number is not None} for ids in declared_ids(texts)
    )
    return users, groups


def _moved(tree: Tree, store: Contents, users: Mapping[int, int], groups: Mapping[int, int]) -> Tree:
    """The tree with ids replaced, both in owners and in the account files."""
    if not users and not groups:
        return tree
    editor = tree.edit()
    for path, entry in tree.entries.items():
        uid, gid = users.get(entry.uid, entry.uid), groups.get(entry.gid, entry.gid)
        if (uid, gid) != (entry.uid, entry.gid):
            editor.put(path, dataclasses.replace(entry, uid=uid, gid=gid))
    for path, columns in ((_PASSWD, {2: users, 3: groups}), (_GROUP, {2: groups})):
        present = tree.get(path)
        if present is None or present.blob is None:
            continue
        text = store.read(present.blob).decode(errors="surrogateescape")
        data = "\n".join(_with_ids(line, columns) for line in text.split("\n"))
        if data != text:
            blob = store.add_bytes(data.encode(errors="surrogateescape"), present.permissions, present.mtime)
            editor.put(path, dataclasses.replace(editor[path], blob=blob, writer=_WRITER))
    return editor.build()


def _with_ids(line: str, columns: Mapping[int, Mapping[int, int]]) -> str:
    """A line of passwd or group with ids replaced. columns: field number -> old id -> new id."""
    fields = line.split(":")
    for column, ids in columns.items():
        number = parse_id(fields[column]) if len(fields) > column else None
        if number is not None:
            fields[column] = str(ids.get(number, number))
    return ":".join(fields)

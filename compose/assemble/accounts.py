"""Users and groups: parses account files, and resolves owner names to ids by the tree's /etc/passwd and /etc/group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from compose.assemble.merge import Owner
from compose.errors import AssembleError
from compose.passwd import entries, parse_id
from compose.tree import Tree

_SHOWN = 20


def parse_ids(data: bytes) -> dict[str, int]:
    """Names and ids in a passwd or group file; the first of several entries with one name counts, as for getpwnam(3)."""
    found: dict[str, int] = {}
    for fields in entries(data.decode(errors="replace")):
        if len(fields) >= 3 and (number := parse_id(fields[2])) is not None:
            found.setdefault(fields[0], number)
    return found


def declared_ids(texts: Iterable[str]) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """Users and groups that sysusers.d(5) files declare, with their ids; None for a dynamically allocated id. texts: of the
    files, sorted by name: the first of several lines for one name counts."""
    users: dict[str, int | None] = {}
    groups: dict[str, int | None] = {}
    # what lines create besides their own user or group, unless that has a line too
    own_groups: dict[str, int | None] = {}
    members: dict[str, int | None] = {}
    joined: dict[str, int | None] = {}
    for line in (line for text in texts for line in text.split("\n")):
        words = line.split()
        kind = words[0].rstrip("!") if len(words) > 1 else ""
        first, _, second = (words[2] if len(words) > 2 else "-").partition(":")
        if kind == "u":
            users.setdefault(words[1], parse_id(first))
            if not second:
                own_groups.setdefault(words[1], parse_id(first))
        elif kind == "g":
            groups.setdefault(words[1], parse_id(first))
        elif kind == "m":
            members[words[1]] = joined[first] = None
    return {**members, **users}, {**joined, **own_groups, **groups}


def resolve_owners(
    tree: Tree, owners: Mapping[str, Owner], users: Mapping[str, int], groups: Mapping[str, int]
) -> Tree:
    """The tree with the owners' uids and gids. Raises AssembleError listing files with an undefined owner."""
    editor = tree.edit()
    unknown: list[str] = []
    users = {"root": 0, **users}
    groups = {"root": 0, **groups}
    for path, owner in owners.items():
        uid, gid = users.get(owner.user), groups.get(owner.group)
        if uid is None or gid is None:
            missing = f"user {owner.user}" if uid is None else f"group {owner.group}"
            unknown.append(f"/{path} of {owner.package} belongs to {missing}, which does not exist")
        elif uid or gid:
            entry = tree[path]
            editor.put(path, replace(entry, uid=uid, gid=gid))
    if unknown:
        raise AssembleError.of(
            unknown,
            f"{len(unknown)} files belong to users or groups that do not exist",
            hint="add the package that declares or creates them, or systemd, which has systemd-sysusers",
            most=_SHOWN,
        )
    return editor.build()


def with_more(first: bytes, more: bytes) -> bytes:
    """The passwd or group file `first`, with the entries of `more` appended whose names it lacks."""
    lines = _lines(first)
    names = {line.split(b":")[0] for line in lines}
    for name, line in _named(more):
        if name not in names:
            names.add(name)
            lines.append(line)
    return b"".join(line + b"\n" for line in lines)


def _lines(data: bytes) -> list[bytes]:
    """Lines without their newlines. Unlike bytes.splitlines(), this does not split at a carriage return."""
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _named(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and line of each entry of a passwd or group file; see compose.passwd.entries()."""
    found = (line for line in _lines(data) if line.count(b":") >= 3 and not line.startswith((b"#", b"+", b"-")))
    return [(line.split(b":")[0], line) for line in found]


_LOCKED = {"shadow": b":!*:::::::", "gshadow": b":!*::"}
"""What systemd-sysusers writes after the name of an account without a password, without the date of the last change."""


def locked_lines(accounts: bytes, shadow: str) -> bytes:
    """A shadow or gshadow file for the entries of a passwd or group file, all with locked passwords. shadow: "shadow" or
    "gshadow"."""
    names = dict.fromkeys(name for name, _ in _named(accounts))
    return b"".join(name + _LOCKED[shadow] + b"\n" for name in names)


def still_locked(lines: bytes) -> bytes:
    """The lines of a shadow or gshadow file whose password is locked: passwords are not carried over from commit to commit."""
    locked = (line for line in _lines(lines) if line.partition(b":")[2].startswith((b"!", b"*")))
    return b"".join(line + b"\n" for line in locked)

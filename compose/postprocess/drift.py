"""check-passwd and check-groups: ids may not move, for files on clients belong to numbers and not to names.

The rules are rpm-ostree's: an account whose id changed is an error; one that is gone is an error only when a file of the tree
still belongs to its id; a new one is told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compose.errors import PolicyError
from compose.events import Reporter
from compose.postprocess.contents import Contents, read_text
from compose.tree import Tree

ALL = "*"
Ids = Mapping[str, tuple[int, ...]]
"""Name to its ids: of a group (gid), of a user (uid, gid) or (uid,) when the group does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the accounts of a tree are compared with.

    database: "passwd" or "group". source: where the entries come from, for people. ignored: names that may be gone, or ALL.
    key: the treefile's, for the way out.
    """

    key: str
    database: str
    source: str
    entries: Ids
    ignored: Collection[str] = ()


def parse_entries(database: str, text: str) -> dict[str, tuple[int, ...]]:
    """The entries of a passwd or group file; the first of two equal names counts."""
    count = 2 if database == "passwd" else 1
    found: dict[str, tuple[int, ...]] = {}
    for line in text.splitlines():
        fields = line.split(":")
        numbers = fields[2 : 2 + count]
        if len(fields) >= 2 + count and all(number.isdigit() for number in numbers):
            found.setdefault(fields[0], tuple(int(number) for number in numbers))
    return found


def check_accounts(tree: Tree, store: Contents, references: Collection[Reference], reporter: Reporter) -> None:
    """Compare the accounts of a finished tree with what they were. Raises PolicyError with every drift."""
    faults: list[str] = []
    for reference in references:
        # root stays in /etc, the others are in /usr/lib
        texts = [read_text(tree, f"{place}/{reference.database}", store) or "" for place in ("usr/etc", "usr/lib")]
        now = parse_entries(reference.database, "".join(texts))
        faults += _changed(reference, now)
        faults += _gone(reference, now, tree, reporter)
        new = sorted(now.keys() - reference.entries.keys())
        if new:
            kind = "users" if reference.database == "passwd" else "groups"
            reporter.info(f"new {kind}: " + ", ".join(f"{name}={now[name][0]}" for name in new))
    if faults:
        keys = " and ".join(dict.fromkeys(reference.key for reference in references))
        raise PolicyError(
            faults[0] if len(faults) == 1 else f"{len(faults)} accounts are not what they were",
            details=faults if len(faults) > 1 else (),
            hint=f"give the ids in the treefile ({keys}), name those that may go in ignore-removed-users or "
            "ignore-removed-groups",
        )


def _changed(reference: Reference, now: Ids) -> list[str]:
    found = []
    for name, before in sorted(reference.entries.items()):
        after = now.get(name)
        if after is not None and after[: len(before)] != before[: len(after)]:
            found.append(
                f"{_what(reference)} {name} had {_ids(before)} in {reference.source} and has {_ids(after)} now"
            )
    return found


def _gone(reference: Reference, now: Ids, tree: Tree, reporter: Reporter) -> list[str]:
    gone = [name for name in sorted(reference.entries.keys() - now.keys()) if not _may_go(name, reference)]
    if not gone:
        return []
    numbers = {reference.entries[name][0] for name in gone}
    kept: dict[int, str] = {}
    for path, entry in tree.walk():
        number = entry.uid if reference.database == "passwd" else entry.gid
        if number in numbers:
            kept.setdefault(number, path)
    found = []
    for name in gone:
        number = reference.entries[name][0]
        text = f"{_what(reference)} {name} ({number}) of {reference.source} is gone"
        if number in kept:
            found.append(f"{text}, and /{kept[number]} belongs to it")
        else:
            reporter.info(text)
    return found


def _may_go(name: str, reference: Reference) -> bool:
    return ALL in reference.ignored or name in reference.ignored


def _what(reference: Reference) -> str:
    return "user" if reference.database == "passwd" else "group"


def _ids(ids: tuple[int, ...]) -> str:
    return ":".join(str(each) for each in ids)

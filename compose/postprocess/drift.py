"""check-passwd and check-groups: ids must not change, because files on clients are owned by ids, not names.

The rules are rpm-ostree's: an account whose id changed is an error; a removed one is an error only if a file in the tree still
belongs to its id; a new one is reported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compose.errors import PolicyError
from compose.events import Reporter
from compose.passwd import entries, parse_id
from compose.postprocess.contents import Contents, read_text
from compose.tree import Tree

ALL = "*"
Ids = Mapping[str, tuple[int, ...]]
"""Name to ids: (gid,) for a group; (uid, gid) for a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Accounts to compare a tree's with.

    key: the treefile key, for the hint. database: "passwd" or "group". source: where the entries come from, for messages.
    ignored: names that may be removed, or ALL.
    """

    key: str
    database: str
    source: str
    entries: Ids
    ignored: Collection[str] = ()


def parse_entries(database: str, text: str) -> dict[str, tuple[int, ...]]:
    """Parse the text of a passwd or group file; of several entries with the same name, the first counts."""
    count = 2 if database == "passwd" else 1
    found: dict[str, tuple[int, ...]] = {}
    for fields in entries(text):
        numbers = tuple(number for each in fields[2 : 2 + count] if (number := parse_id(each)) is not None)
        if len(numbers) == count:
            found.setdefault(fields[0], numbers)
    return found


def check_accounts(tree: Tree, store: Contents, references: Collection[Reference], reporter: Reporter) -> None:
    """Compare the accounts of a finished tree with references. Raises PolicyError listing every conflict."""
    faults: list[str] = []
    for reference in references:
        # root is in /etc, all others in /usr/lib
        texts = [read_text(tree, f"{place}/{reference.database}", store) or "" for place in ("usr/etc", "usr/lib")]
        now = parse_entries(reference.database, "\n".join(texts))
        faults += _changed(reference, now)
        faults += _gone(reference, now, tree, reporter)
        new = sorted(now.keys() - reference.entries.keys())
        if new:
            reporter.info(f"new {_kind(reference)}s: " + ", ".join(f"{name}={now[name][0]}" for name in new))
    if faults:
        keys = " and ".join(dict.fromkeys(reference.key for reference in references))
        raise PolicyError.of(
            faults,
            f"{len(faults)} accounts have changed",
            hint=f"set the ids in the treefile ({keys}), or list accounts that may be removed in ignore-removed-users or "
            "ignore-removed-groups",
        )


def _changed(reference: Reference, now: Ids) -> list[str]:
    found = []
    for name, before in sorted(reference.entries.items()):
        after = now.get(name)
        if after is not None and after[: len(before)] != before[: len(after)]:
            found.append(
                f"{_kind(reference)} {name} had {_ids(before)} in {reference.source} and has {_ids(after)} now"
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
        text = f"{_kind(reference)} {name} ({number}) of {reference.source} is gone"
        if number in kept:
            found.append(f"{text}, but /{kept[number]} still belongs to it")
        else:
            reporter.info(text)
    return found


def _may_go(name: str, reference: Reference) -> bool:
    return ALL in reference.ignored or name in reference.ignored


def _kind(reference: Reference) -> str:
    return "user" if reference.database == "passwd" else "group"


def _ids(ids: tuple[int, ...]) -> str:
    return ":".join(map(str, ids))

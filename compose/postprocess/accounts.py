"""passwd, group, shadow and nsswitch.conf.

Clients keep their own /etc, so accounts that packages create there would never be updated. They go to /usr/lib/passwd and
/usr/lib/group instead, which nss-altfiles reads after /etc. root stays in /etc.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from compose.passwd import entries, parse_id
from compose.postprocess import nsswitch
from compose.postprocess.contents import Contents, lines_of, read_text, resolve, rewrite, unlines, write_file
from compose.tree import Tree

_PLACES = ("etc", "usr/lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Names of uids and gids."""

    users: Mapping[int, str]
    groups: Mapping[int, str]

    def user(self, uid: int) -> str:
        """The id's name, or the id itself if it has none."""
        return self.users.get(uid, str(uid))

    def group(self, gid: int) -> str:
        """The id's name, or the id itself if it has none."""
        return self.groups.get(gid, str(gid))


def read_accounts(tree: Tree, store: Contents) -> Accounts:
    """All accounts in /etc and /usr/lib of a tree; of several names for an id, the first counts."""
    found: dict[str, dict[int, str]] = {"passwd": {0: "root"}, "group": {0: "root"}}
    for database, names in found.items():
        for place in _PLACES:
            for fields in entries(read_text(tree, f"{place}/{database}", store) or ""):
                if len(fields) > 2 and (number := parse_id(fields[2])) is not None:
                    names.setdefault(number, fields[0])
    return Accounts(users=found["passwd"], groups=found["group"])


def split_accounts(tree: Tree, store: Contents, *, etc_group_members: tuple[str, ...] = ()) -> Tree:
    """Keep id 0 in /etc/passwd and /etc/group, and append all others to /usr/lib/passwd and /usr/lib/group.

    Groups in etc_group_members are in both, so that administrators can add members.
    """
    writer = "step:passwd"
    editor = tree.edit()
    for database in ("passwd", "group"):
        text = read_text(tree, f"etc/{database}", store)
        if text is None:
            continue
        kept: list[str] = []
        moved: list[str] = []
        for fields in entries(text):
            if len(fields) < 3:
                continue
            line = ":".join(fields)
            is_root = fields[2] == "0"
            if not is_root:
                moved.append(line)
            if is_root or (database == "group" and fields[0] in etc_group_members):
                kept.append(line)
        there = lines_of(read_text(tree, f"usr/lib/{database}", store) or "")
        names = {line.split(":")[0] for line in there}
        there += [line for line in moved if line.split(":")[0] not in names]
        etc_path = resolve(tree, f"etc/{database}")
        rewrite(editor, etc_path, unlines(kept), store, writer=writer)
        if editor[etc_path].permissions != 0o644:
            editor.replace(etc_path, mode=stat.S_IFREG | 0o644, writer=writer)
        write_file(editor, f"usr/lib/{database}", unlines(there), store, writer=writer)
    return editor.build()


def normalise_shadow(tree: Tree, store: Contents, epoch: int) -> Tree:
    """Make /etc/shadow and /etc/gshadow readable by nobody (CVE-2024-2905), and independent of the day of the compose.

    The day of the last password change is blanked for locked passwords. For others, where a blank would disable password
    aging, it is at most the day of the commit (epoch, seconds since 1970). If there is a passwd file, missing files are
    created, because the client's tools would create them with another mode.
    """
    writer = "step:shadow"
    if "etc/passwd" not in tree:
        return tree
    editor = tree.edit()
    for path in ("etc/shadow", "etc/gshadow"):
        entry = tree.get(path)
        if entry is None:
            write_file(editor, path, b"", store, writer=writer, permissions=0)
            continue
        if entry.blob is None:
            continue
        if path == "etc/shadow":
            text = read_text(tree, path, store) or ""
            rewrite(
                editor,
                path,
                unlines([_with_fixed_day(line, epoch // 86_400) for line in lines_of(text)]),
                store,
                writer=writer,
            )
        if (entry.permissions, entry.uid, entry.gid) != (0, 0, 0):
            editor.replace(path, mode=stat.S_IFREG, uid=0, gid=0, writer=writer)
    return editor.build()


def _with_fixed_day(line: str, latest: int) -> str:
    fields = line.split(":")
    if len(fields) > 2 and fields[1].startswith(("!", "*")):
        fields[2] = ""
    elif len(fields) > 2 and (day := parse_id(fields[2])) is not None:
        fields[2] = str(min(day, latest))
    return ":".join(fields)


def enable_altfiles(tree: Tree, store: Contents) -> Tree:
    """Add altfiles to passwd and group in nsswitch.conf, as nsswitch.with_altfiles() does.

    A file that names altfiles in either line was configured deliberately and stays as it is. So does a symlink, whose target
    belongs to authselect. Lint rule `accounts` reports when this is not enough.
    """
    path = "etc/nsswitch.conf"
    entry = tree.get(path)
    if entry is not None and entry.blob is not None:
        text = read_text(tree, path, store) or ""
        lines = nsswitch.with_altfiles(text)
        if lines != lines_of(text):
            editor = tree.edit()
            rewrite(editor, path, unlines(lines), store, writer="step:nsswitch")
            tree = editor.build()
    return tree

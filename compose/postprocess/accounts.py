"""passwd, group, shadow and nsswitch.conf.

The client keeps /etc of its own, so accounts that packages made must not be there: they would never be updated. They go to
/usr/lib/passwd and /usr/lib/group, which nss-altfiles reads after /etc. root stays.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from compose.postprocess.contents import Contents, lines_of, read_text, resolve, rewrite, unlines, write_file
from compose.tree import Tree

_PLACES = ("etc", "usr/lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Names of ids, for files that want names."""

    users: Mapping[int, str]
    groups: Mapping[int, str]

    def user(self, uid: int) -> str:
        """Name, or the number when nobody has it."""
        return self.users.get(uid, str(uid))

    def group(self, gid: int) -> str:
        """Name, or the number when nobody has it."""
        return self.groups.get(gid, str(gid))


def read_accounts(tree: Tree, store: Contents) -> Accounts:
    """All accounts of a tree, of /etc and /usr/lib; of two names for an id the first one counts."""
    found: dict[str, dict[int, str]] = {"passwd": {0: "root"}, "group": {0: "root"}}
    for database, names in found.items():
        for place in _PLACES:
            for line in lines_of(read_text(tree, f"{place}/{database}", store) or ""):
                fields = line.split(":")
                if len(fields) > 2 and fields[2].isdigit():
                    names.setdefault(int(fields[2]), fields[0])
    return Accounts(users=found["passwd"], groups=found["group"])


def split_accounts(tree: Tree, store: Contents, *, etc_group_members: tuple[str, ...] = ()) -> Tree:
    """Leave id 0 in /etc/passwd and /etc/group and put all others at the end of /usr/lib/passwd and /usr/lib/group.

    Groups of etc_group_members are in both, so that an administrator can add members.
    """
    writer = "step:passwd"
    editor = tree.edit()
    for database in ("passwd", "group"):
        text = read_text(tree, f"etc/{database}", store)
        if text is None:
            continue
        kept: list[str] = []
        moved: list[str] = []
        for line in lines_of(text):
            fields = line.split(":")
            if len(fields) < 3:
                continue
            system = fields[2] != "0"
            if system:
                moved.append(line)
            if not system or (database == "group" and fields[0] in etc_group_members):
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
    """/etc/shadow and /etc/gshadow readable by nobody (CVE-2024-2905), and without the day of the compose.

    The day of the last change is blank for locked passwords, and at most that of the commit (epoch, seconds since 1970) for
    others, for which blank would mean that they never grow old. A missing file is made when there is a passwd file to go
    with it, or the client's tools would make it with a mode of theirs.
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
            text = store.read(entry.blob).decode("utf-8", "surrogateescape")
            rewrite(
                editor,
                path,
                unlines([_with_steady_day(line, epoch // 86_400) for line in lines_of(text)]),
                store,
                writer=writer,
            )
        if (entry.permissions, entry.uid, entry.gid) != (0, 0, 0):
            editor.replace(path, mode=stat.S_IFREG, uid=0, gid=0, writer=writer)
    return editor.build()


def _with_steady_day(line: str, latest: int) -> str:
    fields = line.split(":")
    if len(fields) > 2 and fields[1].startswith(("!", "*")):
        fields[2] = ""
    elif len(fields) > 2 and fields[2].isdigit():
        fields[2] = str(min(int(fields[2]), latest))
    return ":".join(fields)


def enable_altfiles(tree: Tree, store: Contents) -> Tree:
    """Have nsswitch.conf ask altfiles after files for passwd and group; the rule `accounts` of lint says when that is no use.

    A file in which either line names altfiles is somebody's decision and stays as it is; so does one that is a symlink
    (authselect owns what it points to).
    """
    path = "etc/nsswitch.conf"
    entry = tree.get(path)
    if entry is not None and entry.blob is not None:
        text = store.read(entry.blob).decode("utf-8", "surrogateescape")
        lines = lines_of(text)
        if not any(_is_account_line(line) and "altfiles" in line.split() for line in lines):
            editor = tree.edit()
            data = unlines([_with_altfiles(line) if _is_account_line(line) else line for line in lines])
            rewrite(editor, path, data, store, writer="step:nsswitch")
            tree = editor.build()
    return tree


def _is_account_line(line: str) -> bool:
    return line.split(":")[0].strip() in ("passwd", "group")


def _with_altfiles(line: str) -> str:
    name, _, services = line.partition(":")
    indent = services[: len(services) - len(services.lstrip())]
    words = services.split()
    if "files" not in words:
        return line
    at = words.index("files") + 1
    return f"{name}:{indent}{' '.join([*words[:at], 'altfiles', *words[at:]])}"

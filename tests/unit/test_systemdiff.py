"""Which privileges changed, and what packagers wrote between two builds."""

from __future__ import annotations

import pytest

from compose.diff import Attributes, PathChange
from compose.rpm.changelog import new_entries
from compose.rpm.database import ChangelogEntry
from compose.systemdiff import PrivilegeChange, privilege_changes


def entries(names):
    return tuple(ChangelogEntry(time=ord(name), author=name, text=name) for name in names)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("cba", "edcba", "ed"),
        # the old end is cut off
        ("cba", "edc", "ed"),
        ("cba", "cba", ""),
        # another branch: down to where they meet
        ("xba", "edba", "ed"),
        ("", "ba", "ba"),
        ("ba", "", ""),
    ],
)
def test_new_entries(before, after, expected):
    assert new_entries(entries(before), entries(after)) == entries(expected)


def of(mode, capability="", *, kind="file", uid=0, gid=0, content=""):
    return Attributes(
        kind=kind, mode=mode, uid=uid, gid=gid, label="", capability=capability, xattrs=(), content=content
    )


NET_RAW = "0100000200200000000000000000000000000000"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, of(0o4755), ("", "setuid to 0")),
        (of(0o755), of(0o755, NET_RAW), ("", "cap_net_raw=ep")),
        (of(0o4755), of(0o6750, gid=35), ("setuid to 0", "setuid to 0, setgid to 35")),
        (of(0o4755, uid=1), of(0o4755, uid=2), ("setuid to 1", "setuid to 2")),
        (of(0o2755), of(0o755, kind="symlink"), ("setgid to 0", "")),
        # another program that runs as the one before it
        (of(0o4755, content="a"), of(0o4711, content="b"), None),
        # its new files belong to its group, which is none of its programs
        (None, of(0o2755, kind="directory"), None),
        (of(0o755, uid=1), of(0o700, uid=2), None),
    ],
)
def test_privileges(before, after, expected):
    found = privilege_changes([PathChange(path="usr/bin/x", before=before, after=after)])
    assert found == ((PrivilegeChange(path="/usr/bin/x", before=expected[0], after=expected[1]),) if expected else ())

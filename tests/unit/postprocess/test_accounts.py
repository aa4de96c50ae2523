"""passwd, group, shadow, nsswitch.conf."""

from __future__ import annotations

import pytest

from compose.postprocess import accounts, nsswitch
from tests.support.treetext import MemoryStore, changes, expect, parse

ETC = r"""
d usr/lib 0755
f etc/passwd 0600 "root:x:0:0::/root:/bin/sh\nbin:x:1:1::/bin:/bin/no\n\nbroken\n#a:x:2:2:\nadm:x:3:4::/:/bin/no\n"
f etc/group 0644 "root:x:0:\nbin:x:1:\nwheel:x:10:me\n"
"""


def test_split_leaves_root_and_what_is_asked_for() -> None:
    store = MemoryStore()
    before = parse(ETC, store)
    after = accounts.split_accounts(before, store, etc_group_members=("wheel",))
    assert changes(before, after, store) == expect(
        r"""
        - f etc/group 0644 "root:x:0:\nbin:x:1:\nwheel:x:10:me\n"
        + f etc/group 0644 "root:x:0:\nwheel:x:10:me\n" @step:passwd
        - f etc/passwd 0600 "root:x:0:0::/root:/bin/sh\nbin:x:1:1::/bin:/bin/no\n\nbroken\n#a:x:2:2:\nadm:x:3:4::/:/bin/no\n"
        + f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\n" @step:passwd
        + f usr/lib/group 0644 "bin:x:1:\nwheel:x:10:me\n" @step:passwd
        + f usr/lib/passwd 0644 "bin:x:1:1::/bin:/bin/no\nadm:x:3:4::/:/bin/no\n" @step:passwd
        """
    )
    assert changes(after, accounts.split_accounts(after, store, etc_group_members=("wheel",)), store) == []


def test_split_adds_to_what_is_in_usr_lib_by_name() -> None:
    store = MemoryStore()
    before = parse(ETC + r'f usr/lib/group 0644 "bin:x:99:\nother:x:50:\n"', store)
    after = accounts.split_accounts(before, store)
    blob = after["usr/lib/group"].blob
    assert blob is not None
    assert store.read(blob) == b"bin:x:99:\nother:x:50:\nwheel:x:10:me\n"


def test_a_tree_without_accounts_is_left_alone() -> None:
    store = MemoryStore()
    before = parse("d etc 0755", store)
    assert accounts.split_accounts(before, store) == before
    assert accounts.normalise_shadow(before, store, 1_700_000_000) == before


def test_bytes_that_are_not_utf8_survive() -> None:
    store = MemoryStore()
    before = parse(r'f etc/passwd 0644 "m:x:5:5:\udcfc\u0085:/:/bin/sh\n"', store)
    blob = accounts.split_accounts(before, store)["usr/lib/passwd"].blob
    assert blob is not None
    assert store.read(blob) == b"m:x:5:5:\xfc\xc2\x85:/:/bin/sh\n"


def test_shadow_is_closed_and_has_no_day_that_is_not_needed() -> None:
    """And no later one than the commit's, which is day 19675."""
    store = MemoryStore()
    before = parse(
        r"""
        f etc/passwd 0644 ""
        f etc/shadow 0640 "root::19000:0:9:7:::\nbin:*:19001:0:9:7:::\na:!!:19002::::::\nx:$y$h:20000::::::\n" owner=0:42
        """,
        store,
    )
    assert changes(before, accounts.normalise_shadow(before, store, 1_700_000_000), store) == expect(
        r"""
        + f etc/gshadow 0000 "" @step:shadow
        - f etc/shadow 0640 "root::19000:0:9:7:::\nbin:*:19001:0:9:7:::\na:!!:19002::::::\nx:$y$h:20000::::::\n" owner=0:42
        + f etc/shadow 0000 "root::19000:0:9:7:::\nbin:*::0:9:7:::\na:!!:::::::\nx:$y$h:19675::::::\n" @step:shadow
        """
    )


def test_altfiles_comes_after_files() -> None:
    store = MemoryStore()
    before = parse(
        r'f etc/nsswitch.conf 0644 "# passwd: files\npasswd:   files sss\ngroup: files [!UNAVAIL=return]\nhosts: files dns\n"',
        store,
    )
    after = accounts.enable_altfiles(before, store)
    blob = after["etc/nsswitch.conf"].blob
    assert blob is not None
    assert store.read(blob).decode() == (
        "# passwd: files\npasswd:   files altfiles sss\ngroup: files altfiles [!UNAVAIL=return]\nhosts: files dns\n"
    )


def test_altfiles_is_last_without_files() -> None:
    store = MemoryStore()
    before = parse(r'f etc/nsswitch.conf 0644 "passwd: sss systemd\ngroup: sss\n"', store)
    blob = accounts.enable_altfiles(before, store)["etc/nsswitch.conf"].blob
    assert blob is not None
    assert store.read(blob).decode() == "passwd: sss systemd altfiles\ngroup: sss altfiles\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("passwd: files [SUCCESS=merge] systemd", "passwd: files [SUCCESS=merge] altfiles [SUCCESS=merge] systemd"),
        ("group: files[success=continue]sss", "group: files [success=continue] altfiles [success=continue]sss"),
        (
            "group: files [SUCCESS=merge NOTFOUND=return] sss",
            "group: files [SUCCESS=merge NOTFOUND=return NOTFOUND=continue] altfiles [SUCCESS=merge NOTFOUND=return] sss",
        ),
        ("group: files [!SUCCESS=return] sss", "group: files altfiles [!SUCCESS=return] sss"),
        ("group: files [ NOTFOUND = return ] sss", "group: files altfiles [ NOTFOUND = return ] sss"),
        ("group:\tsss  files\t[!UNAVAIL=return] db", "group:\tsss  files altfiles\t[!UNAVAIL=return] db"),
        ("group: files sss # not altfiles", "group: files altfiles sss # not altfiles"),
        ("group: sss [NOTFOUND=return] # files", "group: sss altfiles [NOTFOUND=return] # files"),
        ("group: nofiles", "group: nofiles altfiles"),
        ("group:", "group: altfiles"),
        ("group: sss altfiles[SUCCESS=merge]db", "group: sss altfiles[SUCCESS=merge]db"),
        ("hosts: files [SUCCESS=merge] dns", "hosts: files [SUCCESS=merge] dns"),
        ("# group: files", "# group: files"),
    ],
)
def test_actions_and_comments_of_nsswitch(line: str, expected: str) -> None:
    assert nsswitch.with_altfiles(line) == [expected]
    assert nsswitch.with_altfiles(expected) == [expected]


def test_nsswitch_that_names_altfiles_is_left_alone() -> None:
    store = MemoryStore()
    before = parse(r'f etc/nsswitch.conf 0644 "passwd: altfiles files\ngroup: files\n"', store)
    assert accounts.enable_altfiles(before, store) == before


def test_names_of_ids_from_both_places() -> None:
    store = MemoryStore()
    found = accounts.read_accounts(
        parse(ETC + r'f usr/lib/passwd 0644 "late:x:3:3:::\nnew:x:70:70:::\n"', store), store
    )
    assert [found.user(uid) for uid in (0, 3, 70, 71)] == ["root", "adm", "new", "71"]
    assert [found.group(gid) for gid in (0, 10, 11)] == ["root", "wheel", "11"]

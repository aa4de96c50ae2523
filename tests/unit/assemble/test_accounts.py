"""Owner names to ids."""

from __future__ import annotations

import pytest

from compose.assemble.accounts import declared_ids, locked_lines, parse_ids, resolve_owners, still_locked, with_more
from compose.assemble.merge import Owner
from compose.assemble.options import AssembleOptions, KnownAccounts
from compose.assemble.stage import _with_accounts
from compose.errors import AssembleError
from tests.support.treetext import MemoryStore, parse

TREE = parse('f usr/a 0644 ""\nf usr/b 0644 ""\nf usr/c 0644 ""', MemoryStore())


def test_the_first_of_two_entries_counts() -> None:
    assert parse_ids(b"a:x:1:2:\na:x:3:4:\nbroken\nb:x:no:\n") == {"a": 1}


def test_a_name_that_is_not_utf8_hides_no_other() -> None:
    assert parse_ids(b"\xfc:x:1:\nb:x:2:\n")["b"] == 2


def test_owners_get_their_numbers() -> None:
    owners = {
        "usr/a": Owner(user="www", group="root", package="p"),
        "usr/b": Owner(user="root", group="mail", package="p"),
        "usr/c": Owner(user="root", group="root", package="p"),
    }
    found = resolve_owners(TREE, owners, {"www": 33}, {"mail": 12})
    assert [(found[path].uid, found[path].gid) for path in owners] == [(33, 0), (0, 12), (0, 0)]
    assert found["usr/c"] == TREE["usr/c"]


def test_an_unknown_name_is_an_error_and_not_root() -> None:
    owners = {
        "usr/a": Owner(user="nobody-knows", group="root", package="one"),
        "usr/b": Owner(user="root", group="lost", package="two"),
    }
    with pytest.raises(AssembleError, match="2 files") as caught:
        resolve_owners(TREE, owners, {}, {})
    assert list(caught.value.details) == [
        "/usr/a of one belongs to user nobody-knows, which does not exist",
        "/usr/b of two belongs to group lost, which does not exist",
    ]


def test_what_was_there_before_keeps_its_ids_and_what_ships_wins() -> None:
    assert with_more(b"a:x:1:\n", b"a:x:9:\nb:x:2:\nb:x:3:\nbroken\n") == b"a:x:1:\nb:x:2:\n"


def test_accounts_of_a_file_are_locked() -> None:
    assert (
        locked_lines(b"root:x:0:0::/:/bin/sh\nbroken\n#c:x:1:1:::\nd:x:2:2::/:/bin/sh\n", "shadow")
        == b"root:!*:::::::\nd:!*:::::::\n"
    )
    assert locked_lines(b"root:x:0:\n", "gshadow") == b"root:!*::\n"


def test_a_password_is_not_handed_on() -> None:
    before = b"root:$6$salt$hash:20000:0:99999:7:::\nempty::20000::::::\nbin:*::0:99999:7:::\nd:!*::::::1:\n"
    assert still_locked(before) == b"bin:*::0:99999:7:::\nd:!*::::::1:\n"


def test_a_line_ends_at_a_newline_only() -> None:
    line = b"a:x:1:1:A\rB:/:/bin/sh\n"
    assert with_more(line, b"b:x:2:2:B\rc:x:3:3:/:/\n") == line + b"b:x:2:2:B\rc:x:3:3:/:/\n"
    assert locked_lines(line, "shadow") == b"a:!*:::::::\n"
    assert still_locked(b"a:!\r:1\nb:$6$x\r:!:1\n") == b"a:!\r:1\n"


def test_the_first_line_of_sysusers_counts_and_what_is_implied_comes_last() -> None:
    """As systemd-sysusers (262) does with the same two files."""
    first = "u foo 310\ng bar -\nm baz qux\nu two 330\n"
    second = "u foo 320\ng bar 340\nu baz 350\nu qux 360\ng two 331\n"
    assert declared_ids((first, second)) == (
        {"foo": 310, "baz": 350, "two": 330, "qux": 360},
        {"foo": 310, "bar": None, "baz": 350, "two": 331, "qux": 360},
    )


def test_what_the_treefile_says_wins_over_what_ships() -> None:
    """Fedora CoreOS has nobody with id 99, which was that of setup before Fedora 28."""
    store = MemoryStore()
    given = (
        b"nobody:x:99:99:Nobody:/:/\nroot:x:0:0:root:/root:/bin/bash\nnobody:x:1:1:::\n# of 2018\n#games:x:12:100:::\n"
    )
    options = AssembleOptions(epoch=1, accounts=(KnownAccounts(file="passwd", entries=given, override=True),))
    tree = parse(r'f etc/passwd 0644 "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534:::\nbin:x:1:1:::\n"', store)
    blob = _with_accounts(tree, options, store)["etc/passwd"].blob  # type: ignore[arg-type]
    assert blob is not None
    assert store.read(blob) == (b"nobody:x:99:99:Nobody:/:/\nroot:x:0:0:root:/root:/bin/bash\nbin:x:1:1:::\n")


def test_kept_accounts_replace_a_symlink_by_a_file_with_its_own_mode() -> None:
    store = MemoryStore()
    accounts = (
        KnownAccounts(file="passwd", entries=b"a:x:1:1:::\n"),
        KnownAccounts(file="shadow", entries=b"a:!*:::::::\n"),
    )
    options = AssembleOptions(epoch=1, accounts=accounts)
    tree = parse("l etc/passwd elsewhere\nl etc/shadow elsewhere", store)
    found = _with_accounts(tree, options, store)  # type: ignore[arg-type]
    assert (found["etc/passwd"].permissions, found["etc/shadow"].permissions) == (0o644, 0)

"""IMA signatures made in user space."""

from __future__ import annotations

from compose.postprocess import ima
from tests.support.treetext import MemoryStore, changes, expect, parse


def test_signatures_made_without_root_are_those_that_the_kernel_reads() -> None:
    store = MemoryStore()
    before = parse(
        """
        f usr/bin/a 0755 "a" xattr=user.ima=0302 xattr=user.component=61
        f usr/bin/b 0755 "b" xattr=security.ima=0301 xattr=user.ima=0303
        f usr/bin/c 0755 "c" xattr=security.ima=0304
        """,
        store,
    )
    assert changes(before, ima.translate(before), store) == expect(
        """
        - f usr/bin/a 0755 "a" xattr=user.component=61 xattr=user.ima=0302
        + f usr/bin/a 0755 "a" xattr=security.ima=0302 xattr=user.component=61 @package:test
        - f usr/bin/b 0755 "b" xattr=security.ima=0301 xattr=user.ima=0303
        + f usr/bin/b 0755 "b" xattr=security.ima=0303 @package:test
        """
    )


def test_without_signatures_nothing_is_copied() -> None:
    tree = parse('f usr/bin/a 0755 "a" xattr=user.component=61', MemoryStore())
    assert ima.translate(tree) is tree

"""The top level of the tree."""

from __future__ import annotations

import pytest

from compose.errors import PostprocessError
from compose.postprocess import rootfs
from compose.postprocess.options import Dropped, OptUsrLocal
from compose.tree import Tree
from tests.support.treetext import MemoryStore, changes, expect, parse

MADE = """
d boot 0755
d dev 0755
l home var/home
l media run/media
l mnt var/mnt
l opt var/opt
l ostree sysroot/ostree
d proc 0755
l root var/roothome
d run/media 0755
l srv var/srv
d sys 0755
d sysroot 0755
d tmp 1777
l usr/local ../var/usrlocal
d var/home 0755
d var/mnt 0755
d var/opt 0755
d var/roothome 0700
d var/srv 0755
d var/tmp 1777
d var/usrlocal 0755
"""


def arrange(text: str, choice: OptUsrLocal = OptUsrLocal.VAR, *, tmp: bool = True) -> tuple[list[str], list[str], Tree]:
    store = MemoryStore()
    before = parse(text, store)
    after, dropped = rootfs.arrange(before, store, opt_usrlocal=choice, tmp_is_dir=tmp)
    again, _ = rootfs.arrange(after, store, opt_usrlocal=choice, tmp_is_dir=tmp)
    assert changes(after, again, store) == []
    return changes(before, after, store), [each.path for each in dropped], after


def test_a_bare_tree_gets_the_skeleton() -> None:
    made, dropped, _ = arrange("d usr 0755\nd run 0755\nd var 0755")
    assert made == [f"+ {line} @step:rootfs" for line in expect(MADE)]
    assert dropped == []


def test_usr_merge_links_and_what_is_right_stay() -> None:
    made, dropped, _ = arrange(
        MADE + "l bin usr/bin\nl sbin usr/sbin\nl lib usr/lib\nl lib64 usr/lib64\nd etc 0755\nf usr/bin/sh 0755 ''"
    )
    assert (made, dropped) == ([], [])


def test_directories_go_along_to_where_the_links_lead() -> None:
    made, dropped, _ = arrange(
        MADE.replace("l srv var/srv", 'd srv 0755\nd srv/ftp 0750 owner=0:50\nf srv/readme 0644 "x"')
        .replace("l usr/local ../var/usrlocal", "d usr/local/bin 0755\nl usr/local/man share/man")
        .replace("l root var/roothome", 'd root 0550\nf root/.bashrc 0644 "x"')
    )
    assert made == expect(
        """
        - d root 0550
        + l root var/roothome @step:rootfs
        - f root/.bashrc 0644 "x"
        - d srv 0755
        + l srv var/srv @step:rootfs
        - d srv/ftp 0750 owner=0:50
        - f srv/readme 0644 "x"
        - d usr/local 0755
        + l usr/local ../var/usrlocal @step:rootfs
        - d usr/local/bin 0755
        - l usr/local/man share/man
        + f var/roothome/.bashrc 0644 "x" @package:test
        + d var/srv/ftp 0750 owner=0:50 @package:test
        + f var/srv/readme 0644 "x" @package:test
        + d var/usrlocal/bin 0755 @package:test
        + l var/usrlocal/man share/man @package:test
        """
    )
    assert dropped == []


def test_mount_points_are_emptied_and_given_their_mode() -> None:
    made, _, _ = arrange(
        MADE.replace("d proc 0755", "d proc 0555")
        .replace("d dev 0755", 'f dev/null 0644 "noise"')
        .replace("d tmp 1777", 'd tmp 0755\nf tmp/x 0644 ""')
    )
    assert made == expect(
        """
        - f dev/null 0644 "noise"
        - d proc 0555
        + d proc 0755 @step:rootfs
        - d tmp 0755
        + d tmp 1777 @step:rootfs
        - f tmp/x 0644 ""
        """
    )


def test_unknown_top_level_is_dropped_with_a_listing() -> None:
    made, dropped, _ = arrange(MADE + 'd data 0755\nf data/a/b 0644 "x"\nl link usr')
    assert made == expect('- d data 0755\n- d data/a 0755\n- f data/a/b 0644 "x"\n- l link usr')
    assert dropped == ["data", "data/a/b", "link"]


def test_opt_content_becomes_the_image_s_with_links_in_var() -> None:
    made, _, _ = arrange(MADE.replace("l opt var/opt", 'f opt/app/run 0755 "x"') + "d usr/lib 0755")
    assert made == expect(
        """
        - d opt 0755
        + l opt var/opt @step:rootfs
        - d opt/app 0755
        - f opt/app/run 0755 "x"
        + d usr/lib/opt 0755 @step:rootfs
        + d usr/lib/opt/app 0755 @package:test
        + f usr/lib/opt/app/run 0755 "x" @package:test
        + l var/opt/app ../../usr/lib/opt/app @step:rootfs
        """
    )


def test_opt_usrlocal_root_keeps_directories() -> None:
    _, dropped, tree = arrange('f opt/app 0755 "x"\nf usr/local/bin/y 0755 "y"', OptUsrLocal.ROOT)
    assert tree["opt/app"].is_file
    assert tree["usr/local/bin/y"].is_file
    assert dropped == []


def test_opt_usrlocal_state_overlay() -> None:
    _, _, tree = arrange('f opt/app 0755 "x"\nf usr/local/bin/y 0755 "y"', OptUsrLocal.STATE_OVERLAY)
    assert tree["opt"].target == "usr/lib/opt"
    assert tree["usr/lib/opt/app"].is_file
    assert tree["usr/local/bin/y"].is_file


TRANSIENT = r'f usr/lib/ostree/prepare-root.conf 0644 "[root]\ntransient = true\n"' + "\n"


def test_a_transient_root_has_real_directories_and_keeps_what_is_unknown() -> None:
    _, dropped, tree = arrange(TRANSIENT + 'f data/x 0644 ""')
    assert {name: tree[name].permissions for name in ("opt", "mnt", "media", "usr/local")} == {
        "opt": 0o755, "mnt": 0o755, "media": 0o755, "usr/local": 0o755,
    }  # fmt: skip
    assert "data/x" in tree
    assert dropped == []


def test_a_transient_root_needs_a_real_tmp() -> None:
    with pytest.raises(PostprocessError, match="transient"):
        arrange(TRANSIENT, tmp=False)


def test_etc_wins_over_usr_for_prepare_root() -> None:
    store = MemoryStore()
    tree = parse(TRANSIENT + r'f etc/ostree/prepare-root.conf 0644 "[root]\ntransient=false\n"', store)
    assert not rootfs.is_transient(tree, store)


def test_a_bad_prepare_root_is_named() -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match=r"prepare-root\.conf"):
        rootfs.is_transient(parse('f etc/ostree/prepare-root.conf 0644 "nonsense"', store), store)
    # a GKeyFile takes neither for true, and clients would not boot
    for line in ("transient", "transient=yes"):
        text = rf'f etc/ostree/prepare-root.conf 0644 "[root]\n{line}\n"'
        with pytest.raises(PostprocessError, match="transient is neither true nor false"):
            rootfs.is_transient(parse(text, store), store)


@pytest.mark.parametrize(
    ("choice", "made"), [(True, []), (False, ["- d tmp 1777", "+ l tmp sysroot/tmp @step:rootfs"])]
)
def test_tmp_is_dir(choice: bool, made: list[str]) -> None:
    store = MemoryStore()
    before = parse("d tmp 1777", store)
    assert changes(before, rootfs.link_tmp(before, tmp_is_dir=choice), store) == made


def test_a_file_in_the_place_of_a_link_is_listed() -> None:
    store = MemoryStore()
    _, dropped = rootfs.arrange(parse('f srv 0644 "x"', store), store, opt_usrlocal=OptUsrLocal.VAR, tmp_is_dir=True)
    assert dropped == (Dropped(path="srv", reason="/srv is a symlink to var/srv"),)

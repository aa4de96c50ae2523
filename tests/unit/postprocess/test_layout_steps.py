"""Small steps of the layout: rpmdb, os-release, units, files, SELinux configuration."""

from __future__ import annotations

import shlex

import pytest

from compose.errors import PostprocessError
from compose.postprocess import files, osrelease, rpmdb, selinux, units
from compose.postprocess.options import AddedFile
from tests.support.treetext import MemoryStore, changes, expect, parse

DATABASE = """
f usr/lib/sysimage/rpm/rpmdb.sqlite 0644 "db"
f usr/lib/sysimage/rpm/.rpm.lock 0644 ""
f usr/lib/sysimage/rpm/.rpmdbdirsymlink_created 0644 ""
f usr/lib/sysimage/rpm/__db.001 0644 ""
d var/lib/rpm 0755
"""


def test_rpmdb_goes_to_usr_share_with_links_and_a_macro() -> None:
    store = MemoryStore()
    before = parse(DATABASE, store)
    after = rpmdb.place(before, store)
    assert changes(before, after, store) == expect(
        r"""
        + d usr/lib/rpm 0755 @step:rpmdb
        + d usr/lib/rpm/macros.d 0755 @step:rpmdb
        + f usr/lib/rpm/macros.d/macros.rpm-ostree 0644 "%_dbpath /usr/share/rpm\n" @step:rpmdb
        - d usr/lib/sysimage/rpm 0755
        + l usr/lib/sysimage/rpm ../../share/rpm @step:rpmdb
        - f usr/lib/sysimage/rpm/.rpm.lock 0644 ""
        - f usr/lib/sysimage/rpm/.rpmdbdirsymlink_created 0644 ""
        - f usr/lib/sysimage/rpm/__db.001 0644 ""
        - f usr/lib/sysimage/rpm/rpmdb.sqlite 0644 "db"
        + d usr/share 0755 @step:rpmdb
        + d usr/share/rpm 0755 @step:rpmdb
        + f usr/share/rpm/rpmdb.sqlite 0644 "db" @package:test
        - d var/lib/rpm 0755
        + l var/lib/rpm ../../usr/share/rpm @step:rpmdb
        """
    )
    assert changes(after, rpmdb.place(after, store), store) == []
    assert changes(after, rpmdb.copy_base(after), store) == expect(
        """
        + d usr/lib/sysimage/rpm-ostree-base-db 0755 @step:rpmdb
        + f usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite 0644 "db" @step:rpmdb
        """
    )


def test_two_rpm_databases_are_refused() -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match=r"/usr/lib/sysimage/rpm, /var/lib/rpm"):
        rpmdb.place(parse(DATABASE + 'f var/lib/rpm/Packages 0644 "old"', store), store)


def test_os_release_through_its_symlink() -> None:
    store = MemoryStore()
    text = r"NAME=F\nVERSION=\"43 (X)\"\n\nVERSION_ID=43\nPRETTY_NAME=\"F 43 (X)\"\n"
    before = parse(f'l etc/os-release ../usr/lib/os-release\nf usr/lib/os-release 0644 "{text}"', store)
    after = osrelease.mutate(before, store, base="43", version="43.20240101.0")
    new = text.replace("43 (", "43.20240101.0 (").replace(r"\n\n", r"\n") + r"OSTREE_VERSION='43.20240101.0'\n"
    assert changes(before, after, store) == [
        f'- f usr/lib/os-release 0644 "{text}"',
        f'+ f usr/lib/os-release 0644 "{new}" @step:os-release',
    ]
    assert osrelease.mutate(parse("", store), store, base="1", version="2") == parse("", store)


def test_a_version_with_a_quote_in_os_release() -> None:
    store = MemoryStore()
    after = osrelease.mutate(parse('f etc/os-release 0644 "NAME=F"', store), store, base="1", version="o'1")
    blob = after["etc/os-release"].blob
    assert blob is not None
    assert shlex.split(store.read(blob).decode()) == ["NAME=F", "OSTREE_VERSION=o'1"]


def test_units_are_wanted_by_multi_user() -> None:
    store = MemoryStore()
    wants = "etc/systemd/system/multi-user.target.wants"
    before = parse(f"l {wants}/kept.service /dev/null", store)
    after = units.enable(before, ("kept.service", "a.service", "getty@tty1.service", "t@.timer"))
    assert changes(before, after, store) == expect(
        f"""
        + l {wants}/a.service /usr/lib/systemd/system/a.service @step:units
        + l {wants}/getty@tty1.service /usr/lib/systemd/system/getty@.service @step:units
        + l {wants}/t@.timer /usr/lib/systemd/system/t@.timer @step:units
        """
    )


def test_default_target_and_state_overlays() -> None:
    store = MemoryStore()
    system = "usr/lib/systemd/system"
    before = parse(f"l {system}/default.target multi-user.target", store)
    after = units.require_state_overlays(units.set_default_target(before, "graphical.target"))
    overlay = f"/{system}/ostree-state-overlay@.service"
    assert changes(before, after, store) == expect(
        f"""
        - l {system}/default.target multi-user.target
        + l {system}/default.target graphical.target @step:units
        + d {system}/local-fs.target.requires 0755 @step:units
        + l {system}/local-fs.target.requires/ostree-state-overlay@usr-lib-opt.service {overlay} @step:units
        + l {system}/local-fs.target.requires/ostree-state-overlay@usr-local.service {overlay} @step:units
        """
    )


def test_added_files_follow_directory_links_and_replace_file_links() -> None:
    store = MemoryStore()
    before = parse("l bin usr/bin\nd usr/bin 0755\nl etc/motd /dev/null", store)
    after = files.add(
        before,
        store,
        (
            AddedFile(dest="/bin/tool", content=b"x", mode=0o100755),
            AddedFile(dest="usr/etc/motd", content=b"hi"),
            AddedFile(dest="etc/a/b", content=b"", mode=0o600),
        ),
    )
    assert changes(before, after, store) == expect(
        """
        + d etc/a 0755 @step:add-files
        + f etc/a/b 0600 "" @step:add-files
        - l etc/motd /dev/null
        + f etc/motd 0644 "hi" @step:add-files
        + f usr/bin/tool 0755 "x" @step:add-files
        """
    )


@pytest.mark.parametrize("dest", ["/var/x", "var", "usr/local/x", "usr/../etc/x", "usr", "", "/", "opt/x"])
def test_files_cannot_be_added_elsewhere(dest: str) -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match=f"Unsupported path in add-files: {dest}"):
        files.add(parse("", store), store, (AddedFile(dest=dest, content=b""),))


def test_removed_files() -> None:
    store = MemoryStore()
    before = parse("l bin usr/bin\nd usr/bin 0755\nf usr/bin/a 0755 ''\nd etc/x/y 0755\nl etc/l ../usr", store)
    after = files.remove(before, ("bin/a", "usr/etc/x", "/etc/l", "no/such"))
    assert changes(before, after, store) == expect(
        "- l etc/l ../usr\n- d etc/x 0755\n- d etc/x/y 0755\n- f usr/bin/a 0755 \"''\""
    )
    with pytest.raises(PostprocessError, match="remove-files"):
        files.remove(before, ("../etc",))


def test_the_treefile_is_recorded() -> None:
    store = MemoryStore()
    before = parse("d usr/share 0755", store)
    assert changes(before, files.record_treefile(before, store, b"{}"), store) == expect(
        """
        + d usr/share/rpm-ostree 0755 @step:treefile
        + f usr/share/rpm-ostree/treefile.json 0644 "{}" @step:treefile
        """
    )


def test_home_of_new_users() -> None:
    store = MemoryStore()
    for old, new in (
        ("A=1\nHOME=/home\n", "A=1\nHOME=/var/home\n"),
        ("# HOME=/home\n", "# HOME=/home\nHOME=/var/home\n"),
    ):
        before = parse("", store).edit()
        before.add_file("etc/default/useradd", store.add_bytes(old.encode()), writer="x")
        blob = selinux.set_home(before.build(), store)["etc/default/useradd"].blob
        assert blob is not None
        assert store.read(blob).decode() == new


def test_aliases_of_the_policy() -> None:
    store = MemoryStore()
    files_dir = "etc/selinux/mls/contexts/files"
    subs_dist = r"/var/home /home\n/var/opt /opt\n/etc/units /usr/lib/units\n"
    homes = r"# c\n/home/[^/]+/.+\tu:r:user_home_t:s0\n/home\t-d\tu:r:home_root_t:s0\n/homework\tu\n"
    before = parse(
        f"""
        f {files_dir}/file_contexts.subs_dist 0644 "{subs_dist}"
        f {files_dir}/file_contexts.homedirs 0644 "{homes}"
        f {files_dir}/file_contexts.homedirs.bin 0644 "compiled"
        f {files_dir}/file_contexts.bin 0644 "compiled"
        """,
        store,
    )
    after = selinux.edit_aliases(before, store)
    texts = {}
    for name in ("subs_dist", "homedirs"):
        blob = after[f"{files_dir}/file_contexts.{name}"].blob
        assert blob is not None
        texts[name] = store.read(blob).decode()
    assert texts["subs_dist"].splitlines() == expect(
        """
        #/var/home /home
        /var/opt /opt
        /etc/units /usr/lib/units
        /home /var/home
        /usr/etc /etc
        /usr/lib/opt /opt
        /var/mnt /mnt
        /var/roothome /root
        /var/srv /srv
        /var/usrlocal /usr/local
        /usr/etc/units /usr/lib/units
        """
    )
    assert texts["homedirs"] == (
        "# c\n/var/home/[^/]+/.+\tu:r:user_home_t:s0\n/var/home\t-d\tu:r:home_root_t:s0\n/homework\tu\n"
    )
    assert [name for name in after.children(files_dir) if name.endswith(".bin")] == ["file_contexts.bin"]
    assert changes(after, selinux.edit_aliases(after, store), store) == []


def test_the_module_store_moves_to_etc() -> None:
    store = MemoryStore()
    before = parse(
        r"""
        f etc/selinux/semanage.conf 0644 "module-store = direct\nstore-root=/var/lib/selinux\n"
        d etc/selinux/targeted 0755
        f var/lib/selinux/targeted/active/modules/100/x/cil 0600 "x"
        f var/lib/selinux/targeted/semanage.read.LOCK 0600 ""
        d var/lib/selinux/final 0700
        """,
        store,
    )
    after = selinux.move_store(before, store)
    assert changes(before, after, store) == expect(
        r"""
        - f etc/selinux/semanage.conf 0644 "module-store = direct\nstore-root=/var/lib/selinux\n"
        + f etc/selinux/semanage.conf 0644 "module-store = direct\nstore-root=/etc/selinux\n" @step:selinux
        + d etc/selinux/targeted/active 0755 @package:test
        + d etc/selinux/targeted/active/modules 0755 @package:test
        + d etc/selinux/targeted/active/modules/100 0755 @package:test
        + d etc/selinux/targeted/active/modules/100/x 0755 @package:test
        + f etc/selinux/targeted/active/modules/100/x/cil 0600 "x" @package:test
        + f etc/selinux/targeted/semanage.read.LOCK 0600 "" @package:test
        - d var/lib/selinux 0755
        + l var/lib/selinux ../../etc/selinux @step:selinux
        - d var/lib/selinux/final 0700
        - d var/lib/selinux/targeted 0755
        - d var/lib/selinux/targeted/active 0755
        - d var/lib/selinux/targeted/active/modules 0755
        - d var/lib/selinux/targeted/active/modules/100 0755
        - d var/lib/selinux/targeted/active/modules/100/x 0755
        - f var/lib/selinux/targeted/active/modules/100/x/cil 0600 "x"
        - f var/lib/selinux/targeted/semanage.read.LOCK 0600 ""
        """
    )
    assert selinux.move_store(after, store) == after

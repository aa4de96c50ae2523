"""The pure finish, and how failed programs are reported."""

from __future__ import annotations

import dataclasses

import pytest

from compose.errors import PostprocessError, ScriptError, TreeError
from compose.events import Reporter
from compose.lint.check import lint_tree
from compose.postprocess import etc, finish, machineid, programs, var
from compose.postprocess.layout import lay_out
from compose.postprocess.options import AddedFile, BootLocation, PostprocessOptions, Script
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from tests.support.told import Told
from tests.support.treetext import MemoryStore, changes, dump, expect, parse


def test_etc_becomes_usr_etc_once() -> None:
    store = MemoryStore()
    before = parse("d etc 0750\nf etc/passwd 0644 ''\nd usr/etc 0755", store)
    after = etc.move(before)
    assert dump(after, store).splitlines() == expect(
        """
        d / 0755
        d usr 0755
        d usr/etc 0755
        f usr/etc/passwd 0644 "''"
        """
    )
    with pytest.raises(PostprocessError, match=r"Tree contains both /etc and /usr/etc \(x\)"):
        etc.move(parse("f etc/y 0644 ''\nf usr/etc/x 0644 ''", store))


def test_backups_and_locks_are_cleaned_away() -> None:
    store = MemoryStore()
    before = parse(
        """
        f etc/passwd- 0600 ""
        f etc/.pwd.lock 0600 ""
        f etc/selinux/targeted/semanage.trans.LOCK 0600 ""
        f etc/selinux/targeted/setrans.conf 0600 ""
        f etc/subuid 0644 ""
        """,
        store,
    )
    assert changes(before, finish.clean(before), store) == expect(
        """
        - f etc/.pwd.lock 0600 ""
        - f etc/passwd- 0600 ""
        - f etc/selinux/targeted/semanage.trans.LOCK 0600 ""
        """
    )


def test_what_finalize_leaves_behind() -> None:
    options = PostprocessOptions(no_initramfs=True)
    store = MemoryStore()
    pyc = b"\xa7\r\r\n" + bytes(4) + b"TIME" + b"SIZE" + b"code"
    before = parse(
        """
        d usr/etc/ssh 0755
        d var 0755
        f usr/etc/passwd 0644 "root:x:0:0::/:/bin/sh"
        f usr/etc/shadow 0 "root:*:::::::"
        f usr/share/rpm/rpmdb.sqlite 0644 "db"
        """,
        store,
    )
    editor = before.edit()
    writer = "treefile:finalize.d/1"
    for path, data in {
        "usr/etc/ssh/ssh_host_rsa_key": b"key",
        "usr/etc/passwd-": b"old",
        "usr/etc/machine-id": b"0123",
        "usr/lib/x.pyc": pyc,
        "usr/share/rpm/rpmdb.sqlite-shm": b"x",
        "usr/share/rpm/rpmdb.sqlite-wal": b"",
        "usr/share/made": b"made",
        "var/log/x": b"log",
    }.items():
        editor.add_file(path, store.add_bytes(data, 0o644), writer=writer)
    editor.add_dir("var/lib/made", 0o700, writer=writer)
    after, dropped = finish.settle_again(editor.build(), options, store)
    new = set(after.entries) - set(before.entries)
    assert {each for each in new if not after[each].is_dir} == {
        "usr/etc/gshadow", "usr/etc/machine-id", "usr/lib/x.pyc", "usr/lib/tmpfiles.d/rpm-ostree-autovar.conf",
        "usr/lib/rpm-ostree/tmpfiles.d/@compose.conf", "usr/share/made",
    }  # fmt: skip
    assert store.read(after["usr/lib/x.pyc"].blob) == pyc.replace(b"TIME", bytes(4))
    assert store.read(after["usr/etc/machine-id"].blob) == b""
    assert b"d /var/lib/made 0700" in store.read(after["usr/lib/tmpfiles.d/rpm-ostree-autovar.conf"].blob)
    assert [(each.path, each.expected) for each in dropped] == [("etc/ssh/ssh_host_rsa_key", False)]
    assert finish.settle_again(after, options, store) == (after, ())


def test_machine_id() -> None:
    store = MemoryStore()
    before = parse('f etc/machine-id 0644 "0123"', store)
    assert changes(before, machineid.reset(before, store, compat=True), store) == expect(
        '- f etc/machine-id 0644 "0123"\n+ f etc/machine-id 0444 "" @step:machine-id'
    )
    assert changes(before, machineid.reset(before, store, compat=False), store) == ['- f etc/machine-id 0644 "0123"']
    empty = parse('f etc/machine-id 0644 ""', store)
    assert machineid.reset(empty, store, compat=True) == empty


SYSTEM = r"""
l bin usr/bin
l sbin usr/bin
l lib usr/lib
l lib64 usr/lib64
d usr/lib64 0755
f usr/bin/su 4755 "su"
f usr/lib64/libnss_altfiles.so.2 0755 ""
f usr/lib/os-release 0644 "ID=test\nPRETTY_NAME=\"Test 1\"\n"
l etc/os-release ../usr/lib/os-release
f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\nchrony:x:998:996::/:/bin/false\n"
f etc/group 0644 "root:x:0:\nchrony:x:996:\n"
f etc/shadow 0000 "root:*:19000::::::\n"
f etc/gshadow 0000 ""
f etc/nsswitch.conf 0644 "passwd: files\ngroup: files\n"
f usr/lib/modules/6.1/vmlinuz 0755 "kernel"
f usr/lib/modules/6.1/kernel/a.ko 0644 "a"
f usr/lib/modules/6.1/modules.dep 0644 "kernel/a.ko:\n"
f usr/lib/sysimage/rpm/rpmdb.sqlite 0644 "db"
d var/lib/chrony 0750 owner=998:996
f var/lib/chrony/drift 0640 "1" owner=998:996
"""


def whole(text: str, options: PostprocessOptions) -> tuple[Tree, MemoryStore]:
    """Layout and finish, without programs in between."""
    store = MemoryStore()
    tree, kver, _ = lay_out(parse(text, store), options, store, Reporter())
    tree, _ = finish.finish(tree, options, store, kver)
    found = lint_tree(tree, store, bootable=not options.container)
    assert [each for each in found if each.rule not in ("initramfs", "baseimage-composefs")] == []
    return tree, store


def test_what_packages_put_in_the_way() -> None:
    kept = "\n".join(each for each in SYSTEM.splitlines() if "tmpfiles.d" not in each)
    with pytest.raises(TreeError, match="is not a directory and cannot hold") as caught:
        whole(f"{kept}\nl usr/lib/tmpfiles.d ../share", PostprocessOptions(no_initramfs=True))
    assert caught.value.hint == "/usr/lib/tmpfiles.d is from package:test"


def test_programs_do_not_see_the_build_s_machine_id() -> None:
    """dracut with --hostonly would put it into the initramfs, the same for all machines."""
    store = MemoryStore()
    before = parse(f'{SYSTEM}f etc/machine-id 0444 "0123456789abcdef0123456789abcdef\\n"', store)
    for compat in (True, False):
        tree, _, _ = lay_out(before, PostprocessOptions(machineid_compat=compat), store, Reporter())
        assert dump(tree, store).count("etc/machine-id") == compat
        assert ('f etc/machine-id 0444 ""' in dump(tree, store)) is compat


def test_remove_files_may_remove_a_second_kernel_or_a_packaged_boot_file() -> None:
    store = MemoryStore()
    second = 'f usr/lib/modules/6.2/vmlinuz 0755 "other"\nf boot/grub2/grubenv 0644 "x"\nf boot/config-6.1 0644 "c"'
    options = PostprocessOptions(remove_files=("usr/lib/modules/6.2", "usr/lib/ostree-boot/grub2"))
    tree, kver, _ = lay_out(parse(SYSTEM + second, store), options, store, Reporter())
    assert (kver, tree.children("usr/lib/modules"), tree.children("usr/lib/ostree-boot")) == (
        "6.1",
        ["6.1"],
        ["config-6.1"],
    )


def test_an_initramfs_of_the_treefile_s_author() -> None:
    """Without dracut it is kept, also when the root is read back from a directory; with dracut it would be lost."""
    store = MemoryStore()
    path = "usr/lib/modules/6.1/initramfs.img"
    options = PostprocessOptions(add_files=(AddedFile(dest=path, content=b"mine"),), no_initramfs=True)
    tree, _, _ = lay_out(parse(SYSTEM, store), options, store, told := Told())
    assert (store.read(tree[path].blob), told.warnings) == (b"mine", [])  # type: ignore[arg-type]
    editor = tree.edit()
    editor.replace(path, writer="rootfs")
    again, _, _ = lay_out(editor.build(), options.without_treefile_steps(), store, Reporter())
    assert path in again
    lay_out(parse(SYSTEM, store), dataclasses.replace(options, no_initramfs=False), store, told)
    assert told.warnings == [
        f"add-files: /{path} is replaced by the initramfs that dracut builds; to keep the file, set no-initramfs: true"
    ]


def test_what_packages_have_in_usr_etc_becomes_configuration() -> None:
    """nodejs-npm has a link there to its own file in /etc, which will be in the link's place."""
    store = MemoryStore()
    before = parse(
        r"""
        f etc/npmrc 0644 "prefix=/usr/local"
        f etc/same 0644 "x"
        d etc/app 0755
        l etc/moved ../usr/etc/moved
        l usr/etc/npmrc ../../etc/npmrc
        l usr/etc/unmade /etc/unmade
        f usr/etc/moved/m 0644 "m"
        f usr/etc/same 0644 "x"
        f usr/etc/app/app.conf 0644 "a"
        l usr/etc/other ../share/other
        """,
        store,
    )
    assert changes(before, etc.adopt(before), store) == expect(
        """
        + f etc/app/app.conf 0644 "a" @package:test
        - l etc/moved ../usr/etc/moved
        + d etc/moved 0755 @package:test
        + f etc/moved/m 0644 "m" @package:test
        + l etc/other ../share/other @package:test
        - d usr/etc 0755
        - d usr/etc/app 0755
        - f usr/etc/app/app.conf 0644 "a"
        - d usr/etc/moved 0755
        - f usr/etc/moved/m 0644 "m"
        - l usr/etc/npmrc ../../etc/npmrc
        - l usr/etc/other ../share/other
        - f usr/etc/same 0644 "x"
        - l usr/etc/unmade /etc/unmade
        """
    )


def test_two_files_for_one_place_in_etc() -> None:
    store = MemoryStore()
    for there in ('f usr/etc/x 0644 "b"', "l usr/etc/x ../../etc/y", "d usr/etc/x 0755"):
        with pytest.raises(PostprocessError, match="/usr/etc/x of test and /etc/x of test differ") as caught:
            etc.adopt(parse(f'f etc/x 0644 "a"\nf etc/y 0644 ""\n{there}', store))
        assert caught.value.hint is not None


def test_an_empty_usr_etc_makes_room_for_the_link_that_scripts_see() -> None:
    store = MemoryStore()
    before = parse("d etc 0755\nd usr/etc 0755", store)
    assert changes(before, etc.adopt(before), store) == ["- d usr/etc 0755"]


def test_programs_find_the_configuration_of_a_finished_tree_in_etc() -> None:
    store = MemoryStore()
    before = parse('d usr 0755\nd etc 0755\nf etc/x 0644 "x"', store)
    finished = etc.move(before).edit()
    # what a finished tree may have in its place
    finished.add_dir("etc", writer="rootfs")
    restored = etc.restore(finished.build())
    assert changes(before, restored, store) == []
    assert etc.restore(restored) is restored
    finished.add_file("etc/y", store.add_bytes(b""), writer="rootfs")
    assert etc.restore(finished.build()) == finished.build()
    bare = parse("d etc 0755", store)
    assert etc.restore(bare) is bare


def test_of_usr_etc_in_a_foreign_root_only_links_to_etc_are_known_to_be_a_package_s() -> None:
    store = MemoryStore()
    editor = parse("f etc/y 0644 ''", store).edit()
    editor.add_symlink("usr/etc/y", "/etc/y", writer="rootfs")
    assert "usr/etc" not in etc.adopt(editor.build())
    editor.add_file("usr/etc/x", store.add_bytes(b""), writer="rootfs")
    assert etc.adopt(editor.build()) == editor.build()


def test_the_whole_of_a_small_system() -> None:
    options = PostprocessOptions(no_initramfs=True, boot_location=BootLocation.MODULES, tmp_is_dir=True)
    tree, store = whole(SYSTEM, options)
    kept = [line for line in dump(tree, store).splitlines() if not line.startswith("f") or "tmpfiles.d/" not in line]
    assert kept == expect(
        r"""
        d / 0755
        l bin usr/bin
        d boot 0755
        d dev 0755
        l home var/home
        l lib usr/lib
        l lib64 usr/lib64
        l media run/media
        l mnt var/mnt
        l opt var/opt
        l ostree sysroot/ostree
        d proc 0755
        l root var/roothome
        d run 0755
        l sbin usr/bin
        l srv var/srv
        d sys 0755
        d sysroot 0755
        d tmp 1777
        d usr 0755
        d usr/bin 0755
        f usr/bin/su 4755 "su"
        d usr/etc 0755
        f usr/etc/group 0644 "root:x:0:\n"
        f usr/etc/gshadow 0000 ""
        f usr/etc/machine-id 0444 ""
        f usr/etc/nsswitch.conf 0644 "passwd: files altfiles\ngroup: files altfiles\n"
        l usr/etc/os-release ../usr/lib/os-release
        f usr/etc/passwd 0644 "root:x:0:0::/root:/bin/sh\n"
        f usr/etc/shadow 0000 "root:*:::::::\n"
        d usr/lib 0755
        f usr/lib/group 0644 "chrony:x:996:\n"
        d usr/lib/modules 0755
        d usr/lib/modules/6.1 0755
        d usr/lib/modules/6.1/kernel 0755
        f usr/lib/modules/6.1/kernel/a.ko 0644 "a"
        f usr/lib/modules/6.1/modules.dep 0644 "kernel/a.ko:\n"
        f usr/lib/modules/6.1/vmlinuz 0755 "kernel"
        f usr/lib/os-release 0644 "ID=test\nPRETTY_NAME=\"Test 1\"\n"
        f usr/lib/passwd 0644 "chrony:x:998:996::/:/bin/false\n"
        d usr/lib/rpm 0755
        d usr/lib/rpm/macros.d 0755
        f usr/lib/rpm/macros.d/macros.rpm-ostree 0644 "%_dbpath /usr/share/rpm\n"
        d usr/lib/rpm-ostree 0755
        d usr/lib/rpm-ostree/tmpfiles.d 0755
        d usr/lib/sysimage 0755
        l usr/lib/sysimage/rpm ../../share/rpm
        d usr/lib/sysimage/rpm-ostree-base-db 0755
        f usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite 0644 "db"
        d usr/lib/tmpfiles.d 0755
        d usr/lib64 0755
        f usr/lib64/libnss_altfiles.so.2 0755 ""
        l usr/local ../var/usrlocal
        d usr/share 0755
        d usr/share/rpm 0755
        f usr/share/rpm/rpmdb.sqlite 0644 "db"
        d usr/share/rpm-ostree 0755
        f usr/share/rpm-ostree/treefile.json 0644 "{}\n"
        d var 0755
        """
    )
    lines = {
        path: store.read(entry.blob).decode().splitlines()[1:]
        for path, entry in tree.entries.items()
        if "tmpfiles.d/" in path and "integration" not in path and entry.blob is not None
    }
    chrony = expect("d /var/lib 0755 root root - -\nd /var/lib/chrony 0750 chrony chrony - -")
    own = ["d /var/tmp 1777 root root - -"]
    assert lines == {
        var.AUTOVAR: [*chrony, *own],
        f"{var.STAGED}/test.conf": chrony,
        f"{var.STAGED}/@compose.conf": own,
    }


def test_every_entry_keeps_or_names_its_writer() -> None:
    tree, _ = whole(SYSTEM, PostprocessOptions(no_initramfs=True))
    writers = {entry.writer.partition(":")[0] for _, entry in tree.walk()}
    assert writers == {"package", "step"}


class Log(Reporter):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def record(
    status: int, *, timed_out: bool = False, body: str = "#!/usr/bin/perl\n", owner: str = "treefile"
) -> ProgramRecord:
    program = Program(owner=owner, phase="postprocess[0]", argv=("{script}",), body=body, timeout=5.0)
    output = "".join(f"line {number}\n" for number in range(50))
    return ProgramRecord(program=program, status=status, timed_out=timed_out, seconds=0.1, output=output)


@pytest.mark.parametrize(
    ("failed", "message"),
    [
        (record(3), r"postprocess\[0\] \(treefile\) failed with status 3"),
        (record(-9), "was killed by SIGKILL"),
        (record(-9, timed_out=True), "was stopped after 5 s"),
    ],
)
def test_a_failed_program_is_told_with_its_last_lines(failed: ProgramRecord, message: str) -> None:
    with pytest.raises(ScriptError, match=message) as caught:
        programs.check(failed, log := Log())
    assert caught.value.details[-1] == "line 49"
    assert len(caught.value.details) == 20
    assert log.lines == [f"postprocess[0]: line {number}" for number in range(30)]


def test_what_the_treefile_s_scripts_print_is_in_the_log() -> None:
    programs.check(record(0), log := Log())
    assert log.lines == [f"postprocess[0]: line {number}" for number in range(50)]
    # dracut's would drown the rest
    programs.check(record(0, owner="step:initramfs"), log := Log())
    assert log.lines == []


def test_printed_lines_cannot_move_the_cursor() -> None:
    printed = "\x1b[1;31mred\x1b[0m  \n\n  \t indented\r\x1b]0;title\x07\n50%\r100%\ngrüße \ufffd"
    known = dataclasses.replace(record(0), output=printed)
    assert known.lines == ["red", "  \t indented", "\x1b]0;title\x07", "50%", "100%", "grüße \ufffd"]


def test_a_missing_interpreter_is_guessed_at() -> None:
    with pytest.raises(ScriptError) as caught:
        programs.check(record(127), Reporter())
    assert caught.value.hint is not None
    assert "/usr/bin/perl" in caught.value.hint


def test_scripts_inline_first_then_the_file_s() -> None:
    options = PostprocessOptions(
        postprocess=(
            Script(name="postprocess[0]", body=b"echo hi"),
            Script(name="postprocess[1]", body=b"#!/usr/bin/env bash\n"),
        ),
        postprocess_script=Script(name="finish.bin", body=b"\x7fELF\xff"),
    )
    found = list(programs.treefile_scripts(options))
    assert [program.argv for program in found] == [("/bin/sh", "{script}"), ("{script}",), ("{script}",)]
    assert found[2].body.encode("utf-8", "surrogateescape") == b"\x7fELF\xff"


def test_semodule_only_for_a_policy_that_was_never_built() -> None:
    store = MemoryStore()
    modules = "d etc/selinux/targeted/active/modules/100 0700\n"
    (program,) = programs.policy_builds(parse(modules, store))
    assert program.argv == ("/usr/sbin/semodule", "-n", "-B", "-s", "targeted")
    assert list(programs.policy_builds(parse(modules + "f etc/selinux/targeted/policy/policy.33 0644 ''", store))) == []
    assert list(programs.policy_builds(parse("d etc/selinux/targeted/contexts/files 0755", store))) == []

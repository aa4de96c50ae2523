"""Everything not in the commit is reported: a tree with files in every place passes through the whole stage."""

from __future__ import annotations

from compose.events import Reporter
from compose.postprocess.losses import losses
from compose.postprocess.options import Dropped, PostprocessOptions
from compose.postprocess.stage import postprocess
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from tests.support.treetext import MemoryStore, parse

PLACES = (
    *("usr/bin", "usr/etc-like", "etc/conf.d", "opt/app", "usr/local/bin", "srv", "home/user", "root", "mnt", "media"),
    *("var/lib/app", "var/cache/app", "var/log", "var/tmp", "var/lib/rpm-state", "run/app", "run/lock", "var/run/x"),
    *("dev/x", "proc/x", "sys/x", "tmp", "sysroot/x", "boot", "data/own", "var/lib/alternatives", "var/usrlocal/bin"),
)


def tree_of(store: MemoryStore) -> Tree:
    """Each place has a packaged file, a scriptlet's file, a symlink and an empty file."""
    editor = parse("d usr 0755\nd etc 0755", store).edit()
    for place in PLACES:
        for number, writer in enumerate(("package:p-1-1.noarch", "scriptlet:p-1-1.noarch:%post")):
            blob = store.add_bytes(f"{place} {number}".encode())
            editor.add_file(f"{place}/file{number}", blob, writer=writer)
        editor.add_symlink(f"{place}/link", f"target of {place}", writer="package:p-1-1.noarch")
        editor.add_file(f"{place}/empty", store.add_bytes(b""), writer="package:p-1-1.noarch")
    # two files that would be at one place
    editor.add_file("usr/lib/opt/app/file0", store.add_bytes(b"other"), writer="package:q-1-1.noarch")
    return editor.build()


def dropped_of(**options: object) -> tuple[Tree, Tree, tuple[Dropped, ...]]:
    store = MemoryStore()
    before = tree_of(store)
    how = PostprocessOptions(container=True, selinux=False, **options)  # type: ignore[arg-type]
    found = postprocess(before, how, store, "/nonexistent", Reporter())  # type: ignore[arg-type]
    return before, found.tree, found.dropped


def test_every_file_is_in_the_commit_or_listed() -> None:
    before, after, dropped = dropped_of()
    contents = {(entry.blob and entry.blob.digest, entry.target) for entry in after.entries.values()}
    listed = {each.path for each in dropped}
    lines = "".join(f"/{path}\n" for path in after.entries)
    for path, entry in before.walk():
        if entry.is_dir or (entry.blob and entry.blob.digest, entry.target) in contents:
            continue
        place = after.resolve(path, follow_last=False)
        if entry.is_symlink and place.startswith(("var/", "run/")):
            continue
        assert {path, place} & listed, (path, lines)
    # the content of a place that is not the image's is gone indeed
    assert {"var/usrlocal/bin/file0", "dev/x/file0", "tmp/file0", "var/cache/app/file0", "run/app/file0"} <= listed
    assert {"opt/app/file0", "data/own/file1"} <= listed


def test_only_what_somebody_may_miss_is_told() -> None:
    _, _, dropped = dropped_of()
    expected = {each.path: each.expected for each in dropped}
    assert expected["tmp/file1"]
    assert expected["var/log/file1"]
    assert not expected["tmp/file0"]
    assert not expected["var/log/file0"]
    assert not expected["var/lib/app/file1"]


def test_what_the_treefile_removes() -> None:
    _, _, dropped = dropped_of(remove_files=("/usr/etc/conf.d", "usr/bin/file0"))
    reasons = {each.path: (each.reason, each.expected) for each in dropped}
    for path in ("etc/conf.d/file0", "etc/conf.d/link", "usr/bin/file0"):
        assert reasons[path] == ("remove-files", True)
    assert "usr/bin/file1" not in reasons


def test_what_a_program_removed() -> None:
    store = MemoryStore()
    before, after = (parse(text, store) for text in ('f usr/a 0644 "a"\nf usr/b 0644 "b"', 'f usr/c 0644 "b"'))
    program = Program(owner="treefile:postprocess[0]", phase="postprocess[0]", argv=())
    record = ProgramRecord(
        program=program, status=0, timed_out=False, seconds=0, output="", changed=("usr/a", "usr/b", "usr/c")
    )
    assert losses(before, after, (), [record], ()) == (
        Dropped(path="usr/a", reason="removed by postprocess[0]", expected=True),
    )


def test_what_was_told_is_not_told_again() -> None:
    store = MemoryStore()
    told = (Dropped(path="var/usrlocal/x", reason="told"),)
    before = parse('f usr/local/x 0644 "x"', store)
    after = parse("l usr/local ../var/usrlocal", store)
    assert losses(before, after, told, (), ()) == ()


def test_what_the_treefile_removes_through_a_symlink() -> None:
    store = MemoryStore()
    before, after = (parse(f"l bin usr/bin\n{more}", store) for more in ('f usr/bin/a 0755 "a"', "d usr/bin 0755"))
    expected = (Dropped(path="usr/bin/a", reason="remove-files", expected=True),)
    assert losses(before, after, (), (), ("bin/a",)) == expected
    assert losses(before, after, (), (), ("bin//./a",)) == expected

"""Updating a live root to another tree, without losing changes by programs; reading and writing files in it."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import SandboxError, ScriptError, StorageError
from compose.events import Reporter
from compose.process import Program
from compose.tree import Tree
from compose.workroot.materialise import materialise
from compose.workroot.workroot import Workroot
from tests.support.told import Told
from tests.support.workroots import scan

pytestmark = pytest.mark.root


def workroot(tree: Tree, store: BlobStore, directory: str) -> Workroot:
    return Workroot(tree, store, directory, reporter=Reporter(), epoch=1700000000)


def run(root: Workroot, body: str) -> str:
    record = root.run(Program(owner="scriptlet:x", phase="%pre", argv=("/bin/sh", "{script}"), body=body))
    assert record.status == 0, record.output
    return record.output


def test_what_programs_did_stays(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        run(root, "echo user >> /etc/passwd; echo made > /usr/made; rm -r /usr/full/deep")
        root.apply(small)
        assert run(root, "tail -n 1 /etc/passwd; cat /usr/made; ls /usr/full").split() == ["user", "made", "a"]
        tree = root.absorb()
    assert tree["usr/made"].writer == "scriptlet:x:%pre"
    assert "usr/full/deep/b" not in tree


def test_metadata_not_applied_yet_is_kept_for_what_was_written(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        run(root, "echo more >> /usr/setuid; echo new > /usr/private/new")
        tree = root.absorb()
        assert (tree["usr/setuid"].permissions, tree["usr/setuid"].uid) == (0o4755, 3)
        assert tree["usr/private"] == small["usr/private"]
        root.apply(small)
        assert run(root, "cat /usr/setuid") == "setuidmore\n"
        tree = root.absorb()
    assert (tree["usr/setuid"].permissions, tree["usr/setuid"].uid) == (0o4755, 3)
    assert tree["usr/private"] == small["usr/private"]


def test_a_symlink_in_place_of_a_file_leads_nowhere(
    small: Tree, store: BlobStore, directory: str, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.write_text("host")
    host.chmod(0o600)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/new").write_text("host")
    editor = small.edit()
    editor.add_file("usr/full/new", store.add_bytes(b"new"), writer="t")
    with workroot(small, store, directory) as root:
        run(root, f"rm -r /usr/setuid /usr/private /usr/capable; ln -s {host} /usr/setuid; ln -s {host} /usr/capable")
        run(root, f"rm -r /usr/full; ln -s {tmp_path}/outside /usr/full")
        root.apply(small)
        with pytest.raises(StorageError):
            root.apply(editor.build())
    assert stat.S_IMODE(host.stat().st_mode) == 0o600
    assert host.stat().st_uid == os.geteuid()
    assert host.read_text() == (tmp_path / "outside/new").read_text() == "host"


def test_content_and_paths_of_another_tree(small: Tree, store: BlobStore, directory: str) -> None:
    editor = small.edit()
    editor.add_file("usr/full/a", store.add_bytes(b"other"), 0o640, writer="t", gid=7)
    editor.remove("usr/full/deep")
    editor.add_symlink("usr/full/deep", "a", writer="t")
    editor.remove("etc/passwd")
    for name in ("usr/h1", "usr/h2"):
        editor.put(name, replace(small["usr/setuid"], link="group"))
    editor.add_dir("usr/sticky", 0o1777, writer="t")
    wanted = editor.build()
    with workroot(small, store, directory) as root:
        run(root, "true")
        root.apply(wanted)
        shown = run(root, "cat /usr/full/deep; ls -ln /usr/h1; ls -lnd /usr/sticky; ls /etc")
        assert shown.startswith("other")
        lines = shown.splitlines()
        assert lines[0].split()[:4] == ["other-rwsr-xr-x", "2", "3", "4"]
        assert lines[1].startswith("drwxrwxrwt")
        assert len(lines) == 2
        assert root.absorb() == wanted
        # what only apply() made, and a program removed, is gone
        run(root, "rm /usr/h1 /usr/sticky -r")
        tree = root.absorb()
    assert "usr/h1" not in tree
    assert "usr/sticky" not in tree
    assert tree["usr/h2"] == wanted["usr/h2"]


def test_read_is_bounded(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        run(root, "echo 12345 > /usr/big; mkfifo /usr/fifo")
        assert root.read("usr/fifo") is None
        with pytest.raises(ScriptError, match="6 bytes"):
            root.read("usr/big", limit=5)
        for name in ("usr/..", "", "usr/."):
            with pytest.raises(ValueError, match="names no file"):
                root.write(name, b"", writer="t")


@pytest.mark.parametrize("name", ["run", "tmp", "var"])
def test_a_tree_whose_directories_are_symlinks_to_the_host(
    name: str, small: Tree, store: BlobStore, directory: str, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    (host / "tmp").mkdir(parents=True)
    editor = small.edit()
    editor.remove(name)
    editor.add_symlink(name, str(host), writer="t")
    with workroot(editor.build(), store, directory) as root:
        assert run(root, "true") == ""
    assert [str(path) for path in host.rglob("*")] == [str(host / "tmp")]


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_a_tree_without_a_place_for_devices(name: str, small: Tree, store: BlobStore, directory: str) -> None:
    editor = small.edit()
    editor.remove(name)
    editor.add_symlink(name, "/etc", writer="t")
    with workroot(editor.build(), store, directory) as root, pytest.raises(SandboxError, match=f"/{name} in the tree"):
        root.run(Program(owner="x", phase="%post", argv=("/bin/sh", "-c", "true")))


def test_ordinary_files_are_the_blobs_own_inodes(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        materialise(small, store, str(tmp_path))
    finally:
        os.umask(umask)
    passwd = small["etc/passwd"].blob
    assert passwd is not None
    assert os.path.samefile(tmp_path / "etc/passwd", store.path(passwd))
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()} == {0o755}
    assert (tmp_path / "usr/full").stat().st_mtime == small["usr/full"].mtime


def test_a_missing_blob_is_named(small: Tree, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(StorageError, match="missing from the cache"):
        materialise(small, BlobStore(str(tmp_path / "empty")), str(tmp_path / "root"))


def test_a_directory_is_scanned_as_it_is(store: BlobStore, tmp_path: Path) -> None:
    top = tmp_path / "root"
    (top / "usr/bin").mkdir(parents=True)
    (top / "usr/bin/tool").write_text("tool")
    (top / "usr/bin/tool").chmod(0o4755)
    os.link(top / "usr/bin/tool", top / "usr/bin/twin")
    os.symlink("/nowhere", top / "link")
    os.mkfifo(top / "fifo")
    os.chown(top / "usr", 5, 6)
    os.setxattr(top / "usr/bin", "user.component", b"x")
    os.setxattr(
        top / "usr/bin",
        "system.posix_acl_access",
        bytes.fromhex("0200000001000700ffffffff02000700e803000004000500ffffffff10000700ffffffff20000500ffffffff"),
    )
    (top / "tmp").mkdir()

    told = Told()
    tree = scan(str(top), store, writer="step:scan", reporter=told)
    assert sorted(tree.entries) == ["", "link", "tmp", "usr", "usr/bin", "usr/bin/tool", "usr/bin/twin"]
    assert tree["usr/bin/tool"].permissions == 0o4755
    assert tree["usr/bin/tool"].link == tree["usr/bin/twin"].link != ""
    assert (tree["usr"].uid, tree["usr"].gid) == (5, 6)
    assert tree["usr/bin"].xattrs == ((b"user.component", b"x"),)
    assert tree["link"].target == "/nowhere"
    assert tree["tmp"].writer == "step:scan"
    assert told.warnings == [
        "/fifo: fifo made by step:scan dropped, a commit cannot hold it",
        "/usr/bin: ACL made by step:scan dropped, a commit cannot hold it",
    ]

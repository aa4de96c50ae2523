"""The same labels as the field's own tools give: selabel_lookup, and ostree commit with the tree's policy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.label import audit, label, rules
from compose.tree import Tree

FILES = "usr/etc/selinux/mls/contexts/files"
RULES = {
    "file_contexts": """\
/.*	system_u:object_r:default_t:s0
/	-d	system_u:object_r:root_t:s0
/etc(/.*)?	system_u:object_r:etc_t:s0
/etc/shadow	--	system_u:object_r:shadow_t:s0
/etc/[^/]*\\.conf	--	system_u:object_r:conf_t:s0
/usr(/.*)?	system_u:object_r:usr_t:s0
/usr/bin(/.*)?	system_u:object_r:bin_t:s0
/usr/bin/link	-l	system_u:object_r:link_t:s0
/usr/lib/units(/.*)?	system_u:object_r:unit_t:s0
/var(/.*)?	system_u:object_r:var_t:s0
/root(/.*)?	system_u:object_r:admin_t:s0
/usr/share/none(/.*)?	<<none>>
/usr/share/none/link	-l	system_u:object_r:link_t:s0
/usr/share/kind	--	system_u:object_r:file_t:s0
/usr/share/kind	-d	system_u:object_r:directory_t:s0
/usr/share/kind/.*	-l	<<none>>
""",
    "file_contexts.homedirs": "/var/home/[^/]+/.+	unconfined_u:object_r:user_home_t:s0\n",
    "file_contexts.local": """\
/usr/bin/special	system_u:object_r:local_t:s0:c1,c2
/usr/share/none/special	<<none>>
/var/cache	-d	system_u:object_r:cache_t:s0
""",
    "file_contexts.subs_dist": "/home /var/home\n/etc/units /usr/lib/units\n/usr/etc /etc\n/usr/etc/units /usr/lib/units\n",
    "file_contexts.subs": "/usr/alias /usr/bin\n",
}
PATHS = (
    *("usr/bin/sh", "usr/bin/special", "usr/bin/ä b", "usr/alias/x", "usr/lib/units/a.service", "usr/lib/x.so"),
    *("usr/etc/shadow", "usr/etc/a.conf", "usr/etc/b.conf.d/x", "usr/etc/units/a.service", "home/me/file", "root/x"),
    *("usr/share/none/x", "usr/share/none/special", "usr/share/kind/file"),
)
LINKS = {"usr/bin/link": "sh", "bin": "usr/bin", "usr/share/none/link": "x", "usr/share/kind/link": "file"}
# What the policy names <<none>>: the label of the directory.
NONE = ("usr/share/none", "usr/share/none/x", "usr/share/none/special", "usr/share/kind/link")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "store"))


@pytest.fixture
def tree(store: BlobStore) -> Tree:
    editor = Tree.empty().edit()
    for path in PATHS:
        editor.add_file(path, store.add_bytes(b""), writer="test")
    for path, target in LINKS.items():
        editor.add_symlink(path, target, writer="test")
    for name in ("var/cache", "usr/empty", "home"):
        editor.add_dir(name, writer="test")
    editor.add_file("usr/etc/selinux/config", store.add_bytes(b"SELINUX=enforcing\nSELINUXTYPE=mls\n"), writer="test")
    # ostree wants a compiled policy to take a checksum of
    editor.add_file("usr/etc/selinux/mls/policy/policy.33", store.add_bytes(b"policy"), writer="test")
    for name, text in RULES.items():
        editor.add_file(f"{FILES}/{name}", store.add_bytes(text.encode()), writer="test")
    return editor.build()


@pytest.fixture
def ours(tree: Tree, store: BlobStore, tmp_path: Path) -> dict[str, str]:
    labelled = label(tree, store, str(tmp_path), Reporter())
    return {path: dict(entry.xattrs)[b"security.selinux"].decode()[:-1] for path, entry in labelled.walk()}


def write(tree: Tree, store: BlobStore, top: Path) -> None:
    for path, entry in tree.walk():
        place = top / path
        if entry.is_dir:
            place.mkdir()
        elif entry.target is not None:
            place.symlink_to(entry.target)
        else:
            assert entry.blob is not None
            place.write_bytes(store.read(entry.blob))


def test_what_the_policy_names_none(ours: dict[str, str]) -> None:
    for path in NONE:
        assert ours[path] == ours[path.rpartition("/")[0]]
    assert ours["usr/share/none/link"] == "system_u:object_r:link_t:s0"
    assert ours["usr/share/kind"] == "system_u:object_r:directory_t:s0"


@pytest.mark.parametrize("jobs", [2, 3, 12])
def test_more_processes_say_the_same(
    jobs: int, tree: Tree, store: BlobStore, tmp_path: Path, ours: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_MANY", 1)
    labelled = label(tree, store, str(tmp_path), Reporter(), jobs=jobs)
    assert {path: dict(entry.xattrs)[b"security.selinux"].decode()[:-1] for path, entry in labelled.walk()} == ours


def test_the_audit_agrees(tree: Tree, store: BlobStore, tmp_path: Path) -> None:
    found = audit(label(tree, store, str(tmp_path), Reporter()), store, str(tmp_path), Reporter())
    assert (found.checked, found.inherited, found.mislabelled) == (len(tree), len(NONE), ())


def test_selabel_lookup_gives_the_same(tree: Tree, store: BlobStore, tmp_path: Path, ours: dict[str, str]) -> None:
    write(tree, store, tmp_path / "root")
    contexts = str(tmp_path / "root" / FILES / "file_contexts")
    for path, entry in tree.walk():
        looked_up = "/" + path.replace("usr/etc", "etc", 1)
        # the type is a number; a word is taken for 0, any type
        command = ["selabel_lookup", "-r", "-b", "file", "-f", contexts, "-k", looked_up, "-t", str(entry.mode)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        assert (done.returncode != 0) == (path in NONE), path
        if path not in NONE:
            assert done.stdout.split()[-1] == ours[path], path


@pytest.mark.root
def test_ostree_commit_gives_the_same(tree: Tree, store: BlobStore, tmp_path: Path, ours: dict[str, str]) -> None:
    write(tree, store, tmp_path / "root")
    repo = str(tmp_path / "repo")

    def ostree(*arguments: str) -> str:
        return subprocess.run(
            ["ostree", f"--repo={repo}", *arguments], stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    ostree("init", "--mode=bare-user")
    policy = f"--selinux-policy={tmp_path / 'root'}"
    ostree("commit", "-b", "x", f"--tree=dir={tmp_path / 'root'}", policy, "--selinux-labeling-epoch=1")
    theirs = {}
    for line in ostree("ls", "-RX", "x").splitlines():
        match = re.fullmatch(
            r".*\{ (?:\[\(b'security\.selinux', b'(.*?)'\)\]|@a\(ayay\) \[\]) \} /(.*?)(?: -> .*)?", line
        )
        assert match, line
        theirs[match[2]] = match[1]
    # it leaves them without a label
    assert [theirs.pop(path) for path in NONE] == [None] * len(NONE)
    assert theirs == {path: context for path, context in ours.items() if path not in NONE}

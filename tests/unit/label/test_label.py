"""Labels by a small policy made by hand. libselinux does the look-ups; no SELinux is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import selinux

from compose.errors import LabelError
from compose.events import Reporter
from compose.label import Mislabelled, audit, label, policy_of
from compose.tree import Tree
from tests.support.treetext import MemoryStore, parse

FILES = "usr/etc/selinux/mls/contexts/files"
CONFIG = r'f usr/etc/selinux/config 0644 "# SELINUXTYPE=other\nSELINUX=enforcing\nSELINUXTYPE=mls\n"' + "\n"


def rule(pattern: str, type_: str, kind: str = "") -> str:
    context = "<<none>>" if type_ == "none" else f"system_u:object_r:{type_}_t:s0"
    return f"{pattern}\t{kind}\t{context}\n" if kind else f"{pattern}\t{context}\n"


CONTEXTS = (
    rule("/.*", "default")
    + rule("/", "root", "-d")
    + rule("/etc(/.*)?", "etc")
    + rule("/etc/shadow", "shadow", "--")
    + rule("/usr(/.*)?", "usr")
    + rule("/usr/bin(/.*)?", "bin")
    + rule("/usr/lib/units(/.*)?", "unit")
    + rule("/usr/share/secret(/.*)?", "none")
    + rule("/var(/.*)?", "var")
)


class Listener(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def labels(tmp_path: Path, text: str, *, listener: Reporter | None = None, **rules: str) -> dict[str, str]:
    """Type of each path of a tree with the policy; rules are the companion files, by suffix."""
    store = MemoryStore()
    editor = parse(CONFIG + text, store).edit()
    for suffix, content in {"": CONTEXTS, **{f".{name}": value for name, value in rules.items()}}.items():
        editor.add_file(f"{FILES}/file_contexts{suffix}", store.add_bytes(content.encode()), writer="test")
    tree = label(editor.build(), store, str(tmp_path), listener or Reporter())
    assert list(tmp_path.iterdir()) == []
    found = {}
    for path, entry in tree.walk():
        ((name, value),) = [pair for pair in entry.xattrs if pair[0] == b"security.selinux"]
        assert name
        assert value.endswith(b":s0\0")
        found[path] = value.split(b":")[2].decode()
    return found


def test_every_entry_by_path_and_type(tmp_path: Path) -> None:
    found = labels(tmp_path, "f usr/bin/sh 0755 ''\nl bin usr/bin\nd var 0755\nf 'x 0644 ''\nf usr/bin/ä 0755 ''")
    assert (found[""], found["usr"], found["usr/bin"], found["usr/bin/sh"]) == ("root_t", "usr_t", "bin_t", "bin_t")
    assert (found["bin"], found["var"], found["usr/bin/ä"]) == ("default_t", "var_t", "bin_t")


def test_usr_etc_is_looked_up_as_etc(tmp_path: Path) -> None:
    found = labels(
        tmp_path,
        "f usr/etc/shadow 0000 ''\nf usr/etc/units/a 0644 ''\nd usr/etcetera 0755",
        subs_dist="/etc/units /usr/lib/units\n",
    )
    assert (found["usr/etc"], found["usr/etc/shadow"], found["usr/etc/units/a"]) == ("etc_t", "shadow_t", "unit_t")
    assert found["usr/etcetera"] == "usr_t"


def test_the_companion_files_count(tmp_path: Path) -> None:
    found = labels(
        tmp_path,
        "f usr/a/x 0644 ''\nf usr/b/x 0644 ''\nf home/me/x 0644 ''\nf usr/local/x 0644 ''",
        local=rule("/usr/a(/.*)?", "local"),
        homedirs=rule("/var/home/[^/]+/.+", "user_home"),
        subs_dist="/home /var/home\n",
        subs="/usr/b /usr/bin\n",
    )
    assert (found["usr/a/x"], found["usr/b/x"]) == ("local_t", "bin_t")
    assert (found["home/me/x"], found["usr/local/x"]) == ("user_home_t", "usr_t")


def test_a_compiled_file_is_not_read(tmp_path: Path) -> None:
    found = labels(tmp_path, "f usr/bin/sh 0755 ''", bin="damaged", **{"homedirs.bin": "damaged"})
    assert found["usr/bin/sh"] == "bin_t"


def test_what_the_policy_does_not_label_gets_the_label_of_its_directory(tmp_path: Path) -> None:
    listener = Listener()
    found = labels(tmp_path, "f usr/share/secret/a 0644 ''", listener=listener)
    assert found["usr/share/secret/a"] == found["usr/share/secret"] == found["usr/share"] == "usr_t"
    (warning,) = listener.warnings
    assert "2 paths" in warning
    assert "/usr/share/secret, /usr/share/secret/a" in warning


def test_mount_points_without_a_label_are_nothing_to_warn_of(tmp_path: Path) -> None:
    names, listener = ("dev", "proc", "run", "sys", "tmp"), Listener()
    text = "".join(f"d {name} 0755\n" for name in names)
    found = labels(tmp_path, text, listener=listener, local="".join(rule(f"/{name}", "none") for name in names))
    assert {found[name] for name in names} == {found[""]}
    assert listener.warnings == []


def test_a_label_that_was_there_is_replaced_and_others_stay(tmp_path: Path) -> None:
    store = MemoryStore()
    tree = parse(
        CONFIG + "f usr/bin/ping 0755 '' xattr=security.capability=0100 xattr=security.selinux=78\n", store
    ).edit()
    tree.add_file(f"{FILES}/file_contexts", store.add_bytes(CONTEXTS.encode()), writer="test")
    before = tree.build()
    after = label(before, store, str(tmp_path), Reporter())
    assert after["usr/bin/ping"].xattrs == (
        (b"security.capability", b"\x01\0"),
        (b"security.selinux", b"system_u:object_r:bin_t:s0\0"),
    )
    assert after["usr/bin/ping"].writer == before["usr/bin/ping"].writer
    assert label(after, store, str(tmp_path), Reporter()) == after


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Tree, MemoryStore]:
    store = MemoryStore()
    text = CONFIG + "f usr/etc/shadow 0000 ''\nf usr/share/secret/a 0644 ''\nd proc 0755\n"
    # one with another attribute before its label
    text += "f usr/bin/sh 0755 '' xattr=security.capability=0100\n"
    editor = parse(text, store).edit()
    editor.add_file(f"{FILES}/file_contexts", store.add_bytes(CONTEXTS.encode()), writer="test")
    return label(editor.build(), store, str(tmp_path), Reporter()), store


def test_the_audit_finds_nothing_in_what_was_labelled(labelled: tuple[Tree, MemoryStore], tmp_path: Path) -> None:
    tree, store = labelled
    found = audit(tree, store, str(tmp_path), Reporter())
    assert (found.policy, found.checked, found.inherited, found.unlabelled) == ("mls", len(tree), 2, 0)
    assert found.mislabelled == ()
    assert found.equal == len(tree) - 2


def test_the_audit_finds_what_came_after_the_labels(labelled: tuple[Tree, MemoryStore], tmp_path: Path) -> None:
    tree, store = labelled
    editor = tree.edit()
    editor.add_file("usr/bin/late", store.add_bytes(b""), writer="test")
    for path, type_ in (("usr/bin/sh", b"usr_t"), ("usr/share/secret/a", b"secret_t")):
        editor.put(path, tree[path].with_xattr(b"security.selinux", b"system_u:object_r:%b:s0\0" % type_))
    found = audit(editor.build(), store, str(tmp_path), Reporter())
    assert (found.checked, found.inherited, found.unlabelled, found.equal) == (len(tree) + 1, 1, 1, len(tree) - 3)
    assert found.mislabelled == (
        Mislabelled(path="usr/bin/late", label=None, expected="system_u:object_r:bin_t:s0"),
        Mislabelled(path="usr/bin/sh", label="system_u:object_r:usr_t:s0", expected="system_u:object_r:bin_t:s0"),
        # the policy names it <<none>>: it has its directory's
        Mislabelled(
            path="usr/share/secret/a", label="system_u:object_r:secret_t:s0", expected="system_u:object_r:usr_t:s0"
        ),
    )


def test_the_audit_asks_the_policy_that_is_there_now(labelled: tuple[Tree, MemoryStore], tmp_path: Path) -> None:
    tree, store = labelled
    editor = tree.edit()
    rules = store.add_bytes(rule("/usr/bin/sh", "shell").encode())
    editor.put(f"{FILES}/file_contexts.local", replace(tree[f"{FILES}/file_contexts"], blob=rules))
    (found,) = audit(editor.build(), store, str(tmp_path), Reporter()).mislabelled
    assert (found.path, found.expected) == ("usr/bin/sh", "system_u:object_r:shell_t:s0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "SELinux enabled, but no policy found in tree"),
        ('f usr/etc/selinux/config 0644 "SELINUX=enforcing\\n"', "names none"),
        (CONFIG, "there is no /usr/etc/selinux/mls"),
        (CONFIG + "d usr/etc/selinux/mls 0755", "has no /usr/etc/selinux/mls/contexts/files/file_contexts"),
        (CONFIG + f'f {FILES}/file_contexts 0644 "/( x\\n"', "cannot be applied to /"),
        (CONFIG + f'f {FILES}/file_contexts 0644 "/usr\\n"', "cannot read"),
        (CONFIG + f'f {FILES}/file_contexts 0644 "/usr\\tu:r:usr_t:s0\\n"', "no label for /$"),
    ],
)
def test_no_policy_to_label_with(tmp_path: Path, text: str, message: str) -> None:
    store = MemoryStore()
    with pytest.raises(LabelError, match=message):
        label(parse(text, store), store, str(tmp_path), Reporter())


def test_the_last_choice_of_a_policy_counts() -> None:
    store = MemoryStore()
    tree: Tree = parse(
        r'f usr/etc/selinux/config 0644 "SELINUXTYPE=a\n SELINUXTYPE = b # c\n"' + "\nd usr/etc/selinux/b 0755", store
    )
    assert policy_of(tree, store) == "b"


def test_what_was_looked_up_is_not_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    work, memo = tmp_path / "work", tmp_path / "labels"
    work.mkdir()

    def tree_with(rules: str, text: str = "") -> Tree:
        editor = parse(CONFIG + "f usr/bin/sh 0755 ''\nf usr/share/secret/key 0600 ''\n" + text, store).edit()
        editor.add_file(f"{FILES}/file_contexts", store.add_bytes(rules.encode()), writer="test")
        return editor.build()

    def labelled(tree: Tree) -> tuple[Tree, int]:
        """The tree, and how many look-ups it took."""
        count = 0
        real = selinux.selabel_lookup_raw

        def counted(*arguments: object) -> object:
            nonlocal count
            count += 1
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(selinux, "selabel_lookup_raw", counted)
            after = label(tree, store, str(work), Reporter(), memo=str(memo))
        assert after == label(tree, store, str(work), Reporter())
        return after, count

    tree = tree_with(CONTEXTS)
    first, count = labelled(tree)
    assert count == len(tree)
    again, count = labelled(tree)
    assert again == first
    assert count == 0
    assert labelled(tree_with(CONTEXTS, "f usr/bin/new 0755 ''"))[1] == 1
    # another type at the path, and other rules
    assert labelled(tree_with(CONTEXTS, "l usr/bin/new sh"))[1] == 1
    other = tree_with(CONTEXTS + rule("/usr/bin/sh", "shell"))
    assert labelled(other)[1] == len(other)
    for path in memo.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert labelled(tree)[1] == len(tree)


def test_libselinux_is_upgraded_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a process that runs for days; the kernel marks the library that it still uses."""
    real = Path.read_text

    def maps(path: Path, *arguments: str | None, **options: str | None) -> str:
        text = real(path, *arguments, **options)
        return text.replace("/libselinux.so.1\n", "/libselinux.so.1 (deleted)\n") if path.name == "maps" else text

    store = MemoryStore()
    editor = parse(CONFIG, store).edit()
    editor.add_file(f"{FILES}/file_contexts", store.add_bytes(CONTEXTS.encode()), writer="test")
    tree, memo, listener = editor.build(), tmp_path / "labels", Listener()
    monkeypatch.setattr(Path, "read_text", maps)
    after = label(tree, store, str(tmp_path), listener, memo=str(memo))
    assert after == label(tree, store, str(tmp_path), listener)
    assert (memo.exists(), listener.warnings) == (False, [])

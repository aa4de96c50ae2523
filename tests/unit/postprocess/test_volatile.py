"""Files that differ with each compose, or identify a machine."""

from __future__ import annotations

import hashlib
import os
import py_compile
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from compose.postprocess.volatile import normalise_jks, normalise_pyc, settle
from compose.tree import Tree
from tests.support.treetext import MemoryStore, changes, expect, parse


def written(text: str, store: MemoryStore, writer: str) -> Tree:
    editor = parse(text, store).edit()
    for path in editor.subtree(""):
        editor.replace(path, writer=writer)
    return editor.build()


KEYS = """\
f etc/ssh/ssh_host_ed25519_key 0600 "secret"
f etc/ssh/ssh_host_ed25519_key.pub 0644 "public"
f etc/pki/tls/private/localhost.key 0600 "secret"
f etc/ssl/private/ssl-cert-snakeoil.key 0640 "secret"
f etc/bind/rndc.key 0640 "secret"
f etc/rndc.key 0640 "secret"
f usr/lib/sysimage/libdnf5/transaction_history.sqlite 0644 "times"
f usr/share/fonts/dejavu/.uuid 0644 "random"
"""
NAMES = """\
f etc/iscsi/initiatorname.iscsi 0600 "random"
f etc/nvme/hostnqn 0644 "random"
f etc/nvme/hostid 0644 "random"
"""
KEPT = """\
f etc/ssh/sshd_config 0600 "x"
f etc/ssh/moduli 0644 "x"
f etc/nvme/discovery.conf 0644 "x"
f usr/lib/sysimage/rpm/rpmdb.sqlite 0644 "db"
"""


@pytest.mark.parametrize(
    ("writer", "names"), [("scriptlet:p-1-1.x86_64:%post", True), ("treefile:postprocess[0]", False), ("step:x", True)]
)
def test_what_is_of_one_machine_is_dropped_and_told(writer: str, names: bool) -> None:
    store = MemoryStore()
    tree, dropped = settle(written(KEYS + NAMES + KEPT, store, writer), store)
    gone = [line.split()[1] for line in (KEYS + (NAMES if names else "")).splitlines()]
    assert sorted(each.path for each in dropped) == sorted(gone)
    assert {each.path for each in dropped if each.expected} == {path for path in gone if path.startswith("usr/")}
    kept = KEPT + ("" if names else NAMES)
    assert all(line.split()[1] in tree for line in kept.splitlines())
    assert "etc/ssh" in tree
    assert settle(tree, store) == (tree, ())


@pytest.mark.parametrize("writer", ["package:openssh-server-9-1.x86_64", "step:add-files", "rootfs"])
def test_what_somebody_means_stays(writer: str) -> None:
    store = MemoryStore()
    before = written(KEYS + NAMES, store, writer)
    assert settle(before, store) == (before, ())


def test_bytecode_that_a_script_leaves_goes_by_no_time() -> None:
    store = MemoryStore()
    before = written(
        'f usr/lib/x.pyc 0644 "\\u0001\\u0002\\r\\n\\u0000\\u0000\\u0000\\u0000TIMEsizecode"', store, "treefile:x"
    )
    assert changes(before, settle(before, store)[0], store) == expect(
        r"""
        - f usr/lib/x.pyc 0644 "\u0001\u0002\r\n\u0000\u0000\u0000\u0000TIMEsizecode"
        + f usr/lib/x.pyc 0644 "\u0001\u0002\r\n\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000sizecode" @treefile:x
        """
    )


@pytest.mark.parametrize("data", [b"", b"short", b"\1\2\r\n\1\0\0\0HASHHASHcode", b"\1\2xx" + bytes(20)])
def test_other_bytecode_is_left_alone(data: bytes) -> None:
    assert normalise_pyc(data) == data


def test_python_believes_it_where_sources_have_no_time(tmp_path: Path) -> None:
    """As on a client: OSTree checks out files with mtime 0."""
    source = tmp_path / "module.py"
    source.write_text("X = 1\n")
    compiled = py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    assert compiled is not None
    Path(compiled).write_bytes(normalise_pyc(Path(compiled).read_bytes()))
    os.utime(source, (0, 0))
    done = subprocess.run(
        [sys.executable, "-B", "-v", "-c", "import module"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"{compiled} matches" in done.stderr


def key_store(when: int, *, tag: int = 2, password: str = "changeit") -> bytes:
    body = bytes.fromhex("feedfeed0000000200000002")
    for name in (b"one", b"another"):
        body += struct.pack(">IH", tag, len(name)) + name + struct.pack(">Q", when)
        body += struct.pack(">H", 5) + b"X.509" + struct.pack(">I", 300) + bytes(300)
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def test_times_in_a_java_key_store() -> None:
    assert normalise_jks(key_store(1_700_000_000_000)) == key_store(0)
    assert normalise_jks(key_store(0)) == key_store(0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"x" * 40, key_store(7, tag=1), key_store(7, password="secret"), key_store(7)[:-1],
        key_store(7).replace(bytes(300), bytes(299)),
    ],
)  # fmt: skip
def test_what_is_no_such_key_store_stays(data: bytes) -> None:
    assert normalise_jks(data) == data


def test_a_key_store_that_ends_early_stays() -> None:
    body = bytes.fromhex("feedfeed00000002000000ff") + bytes(3)
    data = body + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()
    assert normalise_jks(data) == data


def test_a_key_store_is_known_by_its_name() -> None:
    store = MemoryStore()
    editor = Tree.empty().edit()
    for path in ("etc/pki/ca-trust/extracted/java/cacerts", "etc/other.jks"):
        editor.add_file(path, store.add_bytes(key_store(7), 0o444), 0o444, writer="scriptlet:p-1-1.noarch:%post")
    tree, dropped = settle(editor.build(), store)
    assert not dropped
    assert store.read(tree["etc/pki/ca-trust/extracted/java/cacerts"].blob) == key_store(0)
    assert store.read(tree["etc/other.jks"].blob) == key_store(7)

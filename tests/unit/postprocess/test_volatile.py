"""What is never the same twice."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from compose.postprocess.volatile import settle, steady_pyc
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
    assert steady_pyc(data) == data


def test_python_believes_it_where_sources_have_no_time(tmp_path: Path) -> None:
    """As on a client: OSTree checks files out with the time 0."""
    source = tmp_path / "module.py"
    source.write_text("X = 1\n")
    compiled = py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    assert compiled is not None
    Path(compiled).write_bytes(steady_pyc(Path(compiled).read_bytes()))
    os.utime(source, (0, 0))
    done = subprocess.run(
        [sys.executable, "-B", "-v", "-c", "import module"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert f"{compiled} matches" in done.stderr

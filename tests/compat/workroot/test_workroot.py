"""Programs in a workroot: what they can do, which changes return to the tree, what they cannot reach."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import SandboxError, ScriptError
from compose.events import Reporter
from compose.interpreter import python
from compose.process import Program, ProgramRecord
from compose.tree import BlobRef, Entry, Tree
from compose.workroot.live import _PROGRAM
from compose.workroot.workroot import Workroot
from tests.support.told import Told

pytestmark = pytest.mark.root


def shell(body: str, **options: object) -> Program:
    return Program(owner="scriptlet:x", phase="%post", argv=("/bin/sh", "{script}", "1"), body=body, **options)  # type: ignore[arg-type]


def lua(body: str, **options: object) -> Program:
    return Program(owner="scriptlet:x", phase="%post", argv=("<lua>", "1"), body=body, lua=True, **options)  # type: ignore[arg-type]


def workroot(tree: Tree, store: BlobStore, directory: str, reporter: Reporter | None = None) -> Workroot:
    return Workroot(tree, store, directory, reporter=reporter or Reporter(), epoch=1700000000)


def after(tree: Tree, store: BlobStore, directory: str, body: str) -> Tree:
    """The tree after one shell script that must succeed."""
    with workroot(tree, store, directory) as root:
        root.apply(tree)
        record = root.run(shell(body))
        assert record.status == 0, record.output
        return root.absorb()


def differences(before: Tree, now: Tree) -> set[str]:
    return {path for path in before.entries.keys() | now.entries.keys() if before.get(path) != now.get(path)}


def test_nothing_changed_is_the_same_tree(small: Tree, store: BlobStore, directory: str) -> None:
    assert after(small, store, directory, "cat /etc/passwd; touch /usr/full/a; chmod 755 /usr/full") == small


def test_owners_modes_and_capabilities_are_applied(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        before = root.run(shell("ls -ln /usr/setuid"))
        assert before.output.split()[::2][:2] == ["-rwxr-xr-x", "0"], before.output
        root.apply(small)
        now = root.run(shell("ls -ln /usr/setuid; ls -lnd /usr/private; getcap /usr/capable")).output.splitlines()
        assert now[0].startswith("-rwsr-xr-x 1 3 4")
        assert now[1].split()[::2][:2] == ["drwxr-s---", "1"]
        assert now[2] == "/usr/capable cap_net_raw=ep"


def test_changes_come_back_with_their_writer(small: Tree, store: BlobStore, directory: str) -> None:
    body = """
        echo new > /usr/new; chmod 640 /usr/new; chown 5:6 /usr/new; echo more >> /etc/passwd
        rm /usr/full/deep/b; ln -s target /usr/link; mkdir -p /usr/d/e; ln /usr/new /usr/hard; mv /usr/full/a /usr/moved
    """
    tree = after(small, store, directory, body)
    expected = {"usr/new", "etc/passwd", "usr/full/deep/b", "usr/link", "usr/d", "usr/d/e", "usr/hard", "usr/full/a"}
    assert differences(small, tree) == expected | {"usr/moved"}
    new = tree["usr/new"]
    assert (new.permissions, new.uid, new.gid, new.writer) == (0o640, 5, 6, "scriptlet:x:%post")
    assert new.blob is not None
    assert store.read(new.blob) == b"new\n"
    assert new.link == tree["usr/hard"].link != ""
    assert tree["usr/link"].target == "target"


def test_an_append_reaches_no_blob_and_no_other_path(small: Tree, store: BlobStore, directory: str) -> None:
    editor = small.edit()
    blob = small["usr/full/a"].blob
    assert blob is not None
    editor.add_file("usr/twin", blob, writer="t")
    tree = after(editor.build(), store, directory, "echo more >> /usr/twin")
    assert store.read(blob) == b"a"
    assert tree["usr/full/a"].blob == blob
    twin = tree["usr/twin"].blob
    assert twin is not None
    assert store.read(twin) == b"amore\n"


def test_a_directory_replaced_hides_what_was_in_it(small: Tree, store: BlobStore, directory: str) -> None:
    tree = after(small, store, directory, "rm -r /usr/full; mkdir /usr/full; echo c > /usr/full/c")
    assert tree.children("usr/full") == ["c"]


def test_a_directory_becomes_a_symlink_and_a_symlink_a_directory(small: Tree, store: BlobStore, directory: str) -> None:
    tree = after(small, store, directory, "rm -r /usr/full; ln -s private /usr/full; rm /usr/sbin; mkdir /usr/sbin")
    assert tree["usr/full"].target == "private"
    assert tree["usr/sbin"].is_dir
    assert "usr/full/a" not in tree


def test_what_lies_on_private_mounts_is_not_kept(small: Tree, store: BlobStore, directory: str) -> None:
    assert after(small, store, directory, "touch /tmp/x /run/x /dev/shm/x /var/tmp/x; echo x > /dev/null") == small


def test_fifos_are_dropped_with_a_warning(small: Tree, store: BlobStore, directory: str) -> None:
    told = Told()
    with workroot(small, store, directory, told) as root:
        assert root.run(shell("mkfifo /usr/fifo")).status == 0
        assert "usr/fifo" not in root.absorb()
    assert told.warnings == ["/usr/fifo: fifo made by scriptlet:x:%post dropped, a commit cannot hold it"]


def test_names_that_are_not_utf8_name_their_writer(small: Tree, store: BlobStore, directory: str) -> None:
    body = "touch \"$(printf '/usr/\\377')\""
    message = "made by scriptlet:x:%post: the name is not UTF-8"
    with workroot(small, store, directory) as root, pytest.raises(ScriptError, match=message):
        root.run(shell(body))


def test_record(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        record = root.run(shell("echo out; echo err >&2; echo $1; touch /usr/made; exit 7"))
        assert record.status == 7
        assert record.output == "out\nerr\n1\n"
        assert record.changed == ("usr/made",)
        assert root.run(shell("true")).changed == ()
        assert [each.status for each in root.records] == [7, 0]


def test_signal_missing_interpreter_and_time_limit(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        assert root.run(shell("kill -9 $$")).status == -signal.SIGKILL
        missing = root.run(Program(owner="x", phase="%post", argv=("/usr/bin/none", "{script}"), body="x"))
        assert (missing.status, missing.output) == (127, "/usr/bin/none: No such file or directory\n")
        begun = time.monotonic()
        hung = root.run(shell("sleep 100 & sleep 100", timeout=0.3))
        assert hung.timed_out
        assert time.monotonic() - begun < 5


def test_a_server_that_is_killed(small: Tree, store: BlobStore, directory: str) -> None:
    """As by the kernel, for want of memory."""
    with workroot(small, store, directory) as root:
        root.run(shell(":"))
        assert root._live is not None and root._live._process is not None
        root._live._process.kill()
        with pytest.raises(SandboxError, match="the workroot's server was killed by SIGKILL") as caught:
            root.run(shell(":"))
    assert "fewer --jobs" in str(caught.value.hint)
    assert not os.path.exists(directory)


def test_a_server_whose_compose_was_killed_says_nothing(store: BlobStore, directory: str) -> None:
    process = subprocess.Popen(
        python(_PROGRAM, directory, store.root, "0", ""),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate(pickle.dumps(("no such method", ()))) == (b"", b"")
    assert process.returncode == 1


def test_nothing_runs_on_while_changes_are_read(small: Tree, store: BlobStore, directory: str) -> None:
    """A process that did could lead the reader out of the tree by symlinks."""

    def running() -> list[str]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                found += [pid] if b"98.7654" in Path(f"/proc/{pid}/cmdline").read_bytes() else []
        return found

    many = "i=0; while [ $i -lt 400 ]; do sleep 98.7654 & i=$((i+1)); done; touch /usr/started; wait"
    with workroot(small, store, directory) as root:
        for _ in range(3):
            hung = root.run(shell(many, timeout=3))
            # reads nothing, so that it is quick
            assert running() == []
            assert hung.timed_out


def test_a_program_that_closes_its_output_goes_on(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        record = root.run(
            shell("echo said; exec >/dev/null 2>&1; sleep 0.3; cat /usr/full/a && touch /usr/made; exit 7")
        )
        assert (record.status, record.output, record.changed) == (7, "said\n", ("usr/made",))
        assert root.run(shell("exec >&- 2>&-; sleep 100", timeout=0.3)).timed_out


def test_stdin_and_environment(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        assert root.run(shell("cat", stdin=b"/usr/a\n/usr/b\n")).output == "/usr/a\n/usr/b\n"
        assert root.run(shell("cat")).output == ""
        names = sorted(line.split("=")[0] for line in root.run(shell("env")).output.splitlines())
        assert set(names) <= {
            "HOME",
            "LANG",
            "OLDPWD",
            "PATH",
            "PWD",
            "SOURCE_DATE_EPOCH",
            "SYSTEMD_OFFLINE",
            "TZ",
            "_",
        }
        assert root.run(shell("hostname; umask; echo $SOURCE_DATE_EPOCH")).output == "localhost\n0022\n1700000000\n"


def test_a_daemon_left_behind_is_killed(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        begun = time.monotonic()
        assert root.run(shell("sleep 50 & exit 0")).status == 0
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("what", "body"),
    [
        (
            "host files",
            "cat MARKER || cat /proc/1/root/MARKER || cat /proc/$PPID/root/MARKER || cat /proc/1/cwd/MARKER",
        ),
        ("processes of the host", "test $(ls -d /proc/[0-9]* | tail -1) != /proc/1 && test -e /proc/4000"),
        ("network", "ls /sys/class/net; python3 -S -c 'import _socket; _socket.socket().connect((\"127.0.0.1\", 1))'"),
        ("devices", "mknod /usr/sda b 8 0"),
        ("mounts", "mount -t tmpfs tmpfs /usr"),
        ("the host name", "hostname evil"),
        ("kernel settings", "echo 1 > /proc/sys/kernel/panic"),
        ("sysrq", "echo s > /proc/sysrq-trigger"),
        ("the terminal", "echo x > /dev/tty"),
        ("other descriptors", "test $(ls /proc/self/fd | tail -1) -gt 6"),
    ],
)
def test_out_of_reach(what: str, body: str, small: Tree, store: BlobStore, directory: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.write_text("of the host")
    with workroot(small, store, directory) as root:
        assert root.run(shell(body.replace("MARKER", str(marker)))).status != 0, what


def test_setuid_is_noted_and_obeyed_by_nobody(small: Tree, store: BlobStore, directory: str) -> None:
    body = """
        cp /usr/bin/cat /usr/bin/become-root; chmod 4755 /usr/bin/become-root
        setpriv --reuid=5 --clear-groups /usr/bin/become-root /proc/self/status
    """
    with workroot(small, store, directory) as root:
        record = root.run(shell(body))
        assert record.status == 0, record.output
        assert [line.split()[1:] for line in record.output.splitlines() if line.startswith("Uid:")] == [["5"] * 4]
        assert root.absorb()["usr/bin/become-root"].permissions == 0o4755
        # on this machine nobody else gets to it
        assert os.stat(directory).st_mode & 0o7777 == 0o700


def test_lua(small: Tree, store: BlobStore, directory: str) -> None:
    body = """
        assert(arg[1] == "<lua>" and arg[2] == 1 and #arg == 2)
        assert(rpm.next_file == nil)
        posix.mkdir("/usr/by-lua")
        posix.symlink("by-lua", "/usr/by-link")
        print("a}b %{name} %d")
        return 3
    """
    with workroot(small, store, directory) as root:
        record = root.run(lua(body))
        assert record.status == 0, record.output
        assert record.output == "a}b %{name} %d\n"
        tree = root.absorb()
    assert tree["usr/by-lua"].is_dir
    assert tree["usr/by-link"].target == "by-lua"


def test_lua_of_a_relocatable_package(small: Tree, store: BlobStore, directory: str) -> None:
    environment = (("RPM_INSTALL_PREFIX", "/a"), ("RPM_INSTALL_PREFIX0", "/a"), ("RPM_INSTALL_PREFIX1", "/b c"))
    with workroot(small, store, directory) as root:
        assert root.run(lua("print(table.unpack(RPM_INSTALL_PREFIX))", environment=environment)).output == "/a\t/b c\n"
        assert root.run(lua("print(RPM_INSTALL_PREFIX)")).output == "nil\n"


def test_few_open_files(small: Tree, store: BlobStore, directory: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with workroot(small, store, directory) as root:
            assert root.run(shell("true")).status == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_lua_faults(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        for body, message in (("error('no')", "no"), ("this is no lua", "syntax error"), ("x.y = 1", "nil value")):
            record = root.run(lua(body))
            assert record.status == 1
            assert message in record.output


def test_lua_file_trigger_gets_its_paths(small: Tree, store: BlobStore, directory: str) -> None:
    body = "local f = rpm.next_file() while f do print(f) f = rpm.next_file() end"
    with workroot(small, store, directory) as root:
        assert root.run(lua(body, stdin=b"/a\n/b c\n")).output == "/a\n/b c\n"


def test_read_and_write_stay_inside(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        assert root.run(shell("ln -s /etc/passwd /usr/absolute; ln -s ../../../../../etc/shadow /usr/out")).status == 0
        assert root.read("usr/absolute") == b"root:x:0:0::/root:/bin/sh\n"
        assert root.read("usr/out") is None
        assert root.read("etc") is None
        root.write("etc/new", b"new", 0o600, writer="step:t")
        tree = root.absorb()
    assert tree["etc/new"].writer == "step:t"
    assert tree["etc/new"].permissions == 0o600


def test_nothing_is_left(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        root.run(shell("true"))
    assert not os.path.exists(directory)
    assert directory not in Path("/proc/mounts").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_compose_leaves_no_process_and_no_mount(number: int, directory: str, tmp_path: Path) -> None:
    marker = "sleep 4242"
    program = f"""
import sys
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.process import Program
from compose.tree import BlobRef, Entry, Tree
from compose.workroot.live import _PROGRAM
from compose.workroot.workroot import Workroot
store = BlobStore({str(tmp_path / "s")!r})
editor = Tree.empty().edit()
for name in ("dev", "proc", "sys", "run", "tmp", "usr/bin"): editor.add_dir(name, writer="t")
with Workroot(editor.build(), store, {directory!r}, reporter=Reporter(), epoch=1) as root:
    print("up", flush=True)
    root.run(Program(owner="x", phase="y", argv=("<lua>", "1"), lua=True, body="posix.sleep(4242)"))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        alive = [
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if directory in _read(path) and path.parent.name != str(os.getpid())
        ]
        if not alive:
            break
        time.sleep(0.05)
    assert not alive, marker
    assert directory not in Path("/proc/mounts").read_text()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_program_costs_little(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        records: list[ProgramRecord] = [root.run(shell("true")) for _ in range(10)]
    assert all(record.status == 0 for record in records)


HOLE = """
local file = io.open("/usr/hole", "w")
file:write("begin")
file:seek("set", SIZE - 3)
file:write("end")
file:close()
"""


def test_a_hole_takes_no_room(small: Tree, store: BlobStore, directory: str) -> None:
    with workroot(small, store, directory) as root:
        root.apply(small)
        assert root.run(lua(HOLE.replace("SIZE", str(1 << 28)))).status == 0
        # in the cache, and in the file that is made of it
        blob = root.absorb()["usr/hole"].blob
        assert blob is not None and blob.size == 1 << 28
        assert os.stat(store.path(blob)).st_blocks * 512 < 1 << 20
        shown = root.run(lua('local s = io.open("/usr/hole") s:seek("end", -3) print(s:read("a"))'))
        assert shown.output == "end\n"


def test_a_hole_larger_than_the_disk(small: Tree, store: BlobStore, directory: str) -> None:
    """Every byte of it would have to be written to the repository."""
    with workroot(small, store, directory) as root:
        root.apply(small)
        disk = os.statvfs(store.root)
        size = disk.f_bfree * disk.f_frsize + (1 << 34)
        with pytest.raises(ScriptError, match=rf"^/usr/hole, made by scriptlet:x:%post, has {size} bytes") as caught:
            root.run(lua(HOLE.replace("SIZE", str(size))))
        assert store.root in str(caught.value)


def test_linked_files_of_a_root_directory(small: Tree, store: BlobStore, directory: str, tmp_path: Path) -> None:
    """The store only borrows them, and the process that runs the programs has another store."""
    place = tmp_path / "private"
    place.write_text("private\n")
    time_of_it = int(place.stat().st_mtime)
    os.utime(place, (time_of_it, time_of_it))
    blob = BlobRef(digest=hashlib.sha256(b"private\n").hexdigest(), size=8, mode=0o600, mtime=time_of_it)
    store.borrow(blob, str(place))
    editor = small.edit()
    for name in ("one", "two"):
        editor.put(
            f"usr/{name}", Entry(mode=stat.S_IFREG | 0o640, gid=7, blob=blob, mtime=time_of_it, link="x", writer="x")
        )
    tree = editor.build()
    assert after(tree, store, directory, "[ /usr/one -ef /usr/two ] && cat /usr/one") == tree

"""Observing lookups: which are recorded, of which processes, and when observation ends."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from compose.sandbox import kernel, lookups, observe
from compose.sandbox.observe import Observation, Observer

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(lookups.abi_of(os.uname().machine) is None, reason="unknown system calls"),
]


def observed(body: Callable[[], object]) -> Observation | None:
    """Observe a process that calls `body`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        try:
            kernel.forbid_new_privileges()
            listener = lookups.start()
            assert listener is not None
            socket.send_fds(theirs, [b"x"], [listener])
            os.close(listener)
            body()
        finally:
            os._exit(0)
    try:
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
        observer = Observer(listener, os.open("/", os.O_PATH))
        os.waitpid(child, 0)
        observer.close()
        return observer.observation()
    finally:
        ours.close()
        theirs.close()


def exists(path: str, directory: int | None = None) -> bool:
    try:
        os.stat(path, dir_fd=directory)
    except OSError:
        return False
    return True


def test_paths_are_heard_however_they_are_said() -> None:
    def body() -> None:
        usr = os.open("/usr", os.O_PATH)
        for _ in range(3):
            exists("none", usr)
            exists("/usr//./lib/" + "long" * 200)
        os.close(usr)
        # the same number, another directory
        os.open("/etc", os.O_PATH)
        exists("none", usr)
        os.chdir("/usr/lib")
        exists("none")

    found = observed(body)
    assert found is not None
    assert {"/usr/none", "/etc/none", "/usr/lib/none", "/usr/lib/" + "long" * 200} <= found.looked


@pytest.mark.parametrize("release", [(5, 14), (99, 0)])
def test_kernels_that_tell_of_the_end_and_others(release: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "release", lambda: release)
    found = observed(lambda: exists("/usr/none"))
    assert found is not None
    assert "/usr/none" in found.looked


def test_a_process_is_followed_through_what_it_becomes() -> None:
    """The child of vfork() shares the memory of its parent until it execs."""
    inner = "test -e /usr/none-2; exec /bin/sh -c 'test -e /usr/none-3'"
    script = f'test -e /usr/none-1; /bin/sh -c "{inner}"; test -e /usr/none-4'

    def body() -> None:
        exists("/usr/none-0")
        for _ in range(20):
            os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", script], {}), 0)
        exists("/usr/none-5")

    found = observed(body)
    assert found is not None
    assert {f"/usr/none-{number}" for number in range(6)} <= found.looked
    assert "/bin/sh" in found.read


def test_no_terminal_becomes_the_observers_own() -> None:
    """Whoever holds its other end could send the observer signals."""

    def body() -> None:
        _, terminal = os.openpty()
        with suppress(OSError):
            os.execv(os.ttyname(terminal), ["x"])

    child = os.fork()
    if not child:
        done = False
        try:
            os.setsid()
            observed(body)
            with suppress(OSError):
                os.open("/dev/tty", os.O_RDONLY)
                os._exit(1)
            done = True
        finally:
            os._exit(not done)
    assert os.waitpid(child, 0)[1] == 0


def test_more_processes_than_are_kept_open() -> None:
    def body() -> None:
        children = []
        for number in range(observe._MAX_PROCESSES + 10):
            child = os.fork()
            if not child:
                exists(f"/usr/none-{number}")
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)

    found = observed(body)
    assert found is not None
    assert {f"/usr/none-{number}" for number in range(observe._MAX_PROCESSES + 10)} <= found.looked


@pytest.mark.parametrize("address", [1, (1 << 47) - 1, 1 << 47, 1 << 63, (1 << 64) - 1])
def test_no_address_is_a_fault_of_who_gives_it(address: int) -> None:
    number = {name: number for number, name in lookups.abi_of(os.uname().machine).names.items()}["statfs"]  # type: ignore[union-attr]

    def body() -> None:
        kernel._libc.syscall(number, ctypes.c_ulong(address), 0)
        exists("/usr/none")

    found = observed(body)
    assert found is not None
    assert "/usr/none" in found.looked


@pytest.mark.parametrize(("resolve", "known"), [(0, True), (0x10, False)])
def test_a_root_of_its_own_for_one_call(resolve: int, known: bool) -> None:
    """openat2() with RESOLVE_IN_ROOT takes "/lib" as relative to the directory."""

    def body() -> None:
        usr = os.open("/usr", os.O_PATH)
        how = struct.pack("=3Q", os.O_PATH, 0, resolve)
        ctypes.CDLL(None).syscall(ctypes.c_long(437), usr, b"/lib", how, ctypes.c_size_t(len(how)))

    assert (observed(body) is not None) == known


@pytest.mark.parametrize(("paths", "known"), [(10, True), (1000, False)])
def test_who_looks_everywhere_is_not_followed(paths: int, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "_MAX_CHARACTERS", 10_000)

    def body() -> None:
        for number in range(paths):
            exists(f"/usr/a path that is not there/{number}")

    assert (observed(body) is not None) == known


@pytest.mark.parametrize(
    ("path", "astray"),
    [
        *(("/proc/self/root/usr", True), ("/proc/self/../self/root/usr", True), ("/dev/fd/../root", True)),
        *(("/dev/stdin/a", True), ("/dev/stdin", False), ("/dev/null", False), ("/proc/cpuinfo", False)),
    ],
)
def test_what_leads_back_into_the_tree(path: str, astray: bool) -> None:
    assert observe.leads_astray(path) is astray

"""The server as hostile and careless clients see it: by sockets, on a repository of a few files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.errors import RepositoryError, UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.repo import Repo
from compose.serve import server as serving
from compose.serve.server import Server
from tests.unit.serve.test_paths import HEX, OBJECT

SMALL, LARGE = f"/objects/{OBJECT}.dirtree", f"/objects/{OBJECT}.filez"
DATA = bytes(range(256)) * 4096


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def ask(self, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name] = value
        size = int(headers.get("Content-Length", 0))
        return Answer(status, headers, b"" if method == "HEAD" or status == 304 else self.file.read(size))

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def is_closed(self) -> bool:
        return self.file.read(1) == b""


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    path = tmp_path / "repo"
    with Repo.create(str(path)) as repo:
        (path / "config").write_text('[core]\nrepo_version=1\nmode=archive\n[remote "up"]\nurl=https://me:secret@up/\n')
        (path / "refs/heads/os").mkdir()
        (path / "refs/heads/os/main").write_text(HEX + "\n")
        (path / "summary").write_bytes(b"summary")
        (path / f"objects/{HEX[:2]}").mkdir()
        (path / SMALL[1:]).write_bytes(b"small")
        (path / LARGE[1:]).write_bytes(DATA)
        (path / "tmp/secret").write_text("secret")
        yield repo


@pytest.fixture(autouse=True)
def no_wait_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_POLL", 0.01)


@pytest.fixture
def server(repo: Repo) -> Iterator[Server]:
    with Server(repo, "127.0.0.1", 0, Reporter()) as server, server.in_background():
        yield server


@pytest.fixture
def connect() -> Iterator[Callable[[Server], Client]]:
    """Connections, closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def made(server: Server) -> Client:
            client = Client(server.port)
            stack.callback(client.close)
            return client

        yield made


@pytest.fixture
def client(server: Server, connect: Callable[[Server], Client]) -> Client:
    return connect(server)


def test_one_connection_for_all(client: Client) -> None:
    assert client.ask("/refs/heads/os/main").body == f"{HEX}\n".encode()
    assert client.ask("/summary.sig").status == 404
    assert client.ask(SMALL).body == b"small"
    assert client.ask(LARGE).body == DATA
    head = client.ask(LARGE, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))
    assert client.ask("/summary").body == b"summary"


def test_config_is_what_clients_need_of_it(client: Client) -> None:
    assert client.ask("/config").body == b"[core]\nrepo_version=1\nmode=archive-z2\n"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/tmp/secret",
        "/.lock",
        "/refs/heads/os",
        "/refs/heads/../../tmp/secret",
        "/%2e%2e/etc/passwd",
        "/../etc/passwd",
    ],
)
def test_nothing_else_is_served(client: Client, target: str) -> None:
    answer = client.ask(target)
    assert (answer.status, answer.body) == (404, b"not found\n")
    assert client.ask(SMALL).status == 200


def test_symlinks_lead_nowhere_out(repo: Repo, client: Client, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    for name, target in (("up", "../../../outside"), ("absolute", str(tmp_path / "outside")), ("loop", "loop")):
        os.symlink(target, f"{repo.path}/refs/heads/{name}")
        assert client.ask(f"/refs/heads/{name}").status == 404
    # an alias, as ostree makes them
    os.symlink("os/main", f"{repo.path}/refs/heads/alias")
    assert client.ask("/refs/heads/alias").body == f"{HEX}\n".encode()


def test_what_is_no_file_keeps_nobody_waiting(repo: Repo, client: Client) -> None:
    os.mkfifo(f"{repo.path}/refs/heads/pipe")
    assert client.ask("/refs/heads/pipe").status == 404


def test_another_repository_in_its_place(
    repo: Repo, server: Server, client: Client, connect: Callable[[Server], Client]
) -> None:
    assert client.ask("/summary").body == b"summary"
    shutil.rmtree(repo.path)
    assert connect(server).ask("/summary").status == 404
    os.mkdir(repo.path)
    # one that is made at this moment
    assert connect(server).ask("/summary").status == 404
    with Repo.create(repo.path):
        Path(repo.path, "summary").write_bytes(b"another")
        Path(repo.path, "config").write_text("[core]\nrepo_version=1\nmode=archive\nindexed-deltas=true\n")
        assert connect(server).ask("/summary").body == b"another"
        assert b"indexed-deltas" in client.ask("/config").body
        assert client.ask("/summary").body == b"another"


def test_what_cannot_be_read_is_told(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    told: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(reporter, "warn", told.append)
    monkeypatch.setattr(serving.syscalls, "open_in_root", refused)
    with (
        Server(repo, "127.0.0.1", 0, reporter) as server,
        server.in_background(),
        contextlib.closing(Client(server.port)) as client,
    ):
        assert [client.ask(target).status for target in (SMALL, "/config")] == [500, 200]
    assert told == [f"cannot serve {SMALL[1:]}: Permission denied"]


def test_conditions(repo: Repo, client: Client) -> None:
    first = client.ask("/summary")
    tag, date = first.headers["ETag"], first.headers["Last-Modified"]
    assert first.headers["Cache-Control"] == "no-cache"
    for header in (f"If-None-Match: {tag}", f"If-Modified-Since: {date}"):
        again = client.ask("/summary", header)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    Path(repo.path, "new").write_bytes(b"Summary")
    os.rename(f"{repo.path}/new", f"{repo.path}/summary")
    new = client.ask("/summary", f"If-None-Match: {tag}", f"If-Modified-Since: {date}")
    assert (new.status, new.body) == (200, b"Summary")
    assert new.headers["ETag"] != tag


def test_parts(client: Client) -> None:
    part = client.ask(LARGE, "Range: bytes=1000-299999")
    assert (part.status, part.body) == (206, DATA[1000:300000])
    assert part.headers["Content-Range"] == f"bytes 1000-299999/{len(DATA)}"
    assert client.ask(SMALL, "Range: bytes=-2").body == b"ll"
    none = client.ask(SMALL, "Range: bytes=5-")
    assert (none.status, none.body, none.headers["Content-Range"]) == (416, b"", "bytes */5")
    assert client.ask(SMALL, "Range: bytes=0-0,2-2").status == 200
    assert client.ask(SMALL, "Range: bytes=1-", 'If-Range: "other"').body == b"small"
    assert client.ask(SMALL, "Range: bytes=1-", method="HEAD").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "x" * 100])
def test_other_methods(client: Client, method: str) -> None:
    assert client.ask("/summary", method=method).status == 501


@pytest.mark.parametrize("header", ["Content-Length: 60", "Transfer-Encoding: chunked"])
def test_a_body_is_not_taken_for_the_next_request(client: Client, header: str) -> None:
    body = b"GET /tmp/secret HTTP/1.1\r\nHost: x\r\n\r\n"
    assert client.ask("/summary", header, body=body).body == b"summary"
    assert client.is_closed()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /summary HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /summary HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /summary HTTP/9.1\r\n\r\n", 505),
        (b"GET  /summary x HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00 hello tls\r\n", 400),
    ],
)
def test_what_is_no_request(
    server: Server, client: Client, connect: Callable[[Server], Client], sent: bytes, status: int
) -> None:
    client.socket.sendall(sent)
    # what was not read makes it a reset, sometimes before the answer has been
    with contextlib.suppress(ConnectionError):
        assert str(status).encode() in client.file.read()
    assert connect(server).ask("/summary").status == 200


@pytest.mark.parametrize("begun", [b"", b"GET /summary HTTP/1.1\r\nA: "])
def test_who_says_nothing_is_let_go(server: Server, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_TIMEOUT", 0.3)
    with contextlib.closing(Client(server.port)) as client:
        client.socket.sendall(begun)
        assert client.is_closed()


def test_who_says_a_little_now_and_then_is_let_go_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_TIMEOUT", 0.5)
    sent = 0
    with contextlib.closing(Client(server.port)) as client, contextlib.suppress(ConnectionError):
        client.socket.settimeout(0.1)
        while sent < 50:
            client.socket.sendall(b"A")
            sent += 1
            with contextlib.suppress(TimeoutError):
                if client.socket.recv(1) == b"":
                    break
    assert 2 < sent < 20


def test_connections_are_bounded_and_further_ones_wait(
    repo: Repo, connect: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", 2)
    with Server(repo, "127.0.0.1", 0, Reporter()) as server, server.in_background():
        first, second, third = (connect(server) for _ in range(3))
        assert [each.ask("/summary").status for each in (first, second)] == [200, 200]
        third.socket.sendall(b"GET /summary HTTP/1.1\r\nHost: x\r\n\r\n")
        third.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            third.socket.recv(1)
        first.close()
        third.socket.settimeout(10)
        assert third.socket.recv(15) == b"HTTP/1.1 200 OK"


def test_who_takes_an_answer_slowly_makes_room_for_others(
    repo: Repo, connect: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", 1)
    monkeypatch.setattr(serving, "_TIMEOUT", 0.2)
    monkeypatch.setattr(serving, "_SLOWEST", 1 << 40)
    with open(f"{repo.path}{LARGE}", "wb") as large:
        large.truncate(1 << 34)
    with Server(repo, "127.0.0.1", 0, Reporter()) as server, server.in_background():
        slow = connect(server)
        slow.socket.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # longer than the time for a request, as long as nobody waits
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            assert slow.socket.recv(1 << 20)
        other = connect(server)
        other.socket.sendall(b"GET /summary HTTP/1.1\r\nHost: x\r\n\r\n")
        until = time.monotonic() + 5
        with contextlib.suppress(ConnectionError):
            while slow.socket.recv(1 << 20):
                assert time.monotonic() < until
        assert other.answer().body == b"summary"


def test_who_asks_again_and_again_makes_room_for_others(
    repo: Repo, connect: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", 1)
    with Server(repo, "127.0.0.1", 0, Reporter()) as server, server.in_background():
        first = connect(server)
        assert "Connection" not in first.ask("/summary").headers
        second = connect(server)
        second.socket.sendall(b"GET /summary HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = [first.ask("/summary")]
        while "Connection" not in answers[-1].headers:
            assert len(answers) < 1000
            answers.append(first.ask("/summary"))
        assert {each.body for each in answers} == {b"summary"}
        assert first.is_closed()
        assert second.answer().body == b"summary"


def test_it_ends_while_clients_wait(
    repo: Repo, connect: Callable[[Server], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_MAX_CONNECTIONS", 1)
    with Server(repo, "127.0.0.1", 0, Reporter()) as server, server.in_background():
        clients = [connect(server) for _ in range(3)]
        assert clients[0].ask("/summary").status == 200


@pytest.mark.parametrize("mode", [Mode.BARE, Mode.BARE_USER, Mode.BARE_USER_ONLY])
def test_only_archives(tmp_path: Path, mode: Mode) -> None:
    with (
        Repo.create(str(tmp_path / "bare"), mode) as repo,
        pytest.raises(RepositoryError, match=f"is a {mode} repository") as found,
    ):
        Server(repo, "127.0.0.1", 0, Reporter())
    assert "pull-local" in str(found.value.hint)


@pytest.mark.parametrize(
    ("bind", "hint"),
    [("192.0.2.1", "--bind"), ("no such name", "--bind"), ("x" * 300, "--bind"), ("127.0.0.1", "--port=0")],
)
def test_addresses_that_cannot_be_had(repo: Repo, server: Server, bind: str, hint: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on") as found:
        Server(repo, bind, server.port, Reporter())
    assert hint in str(found.value.hint)


def test_of_ipv6(repo: Repo) -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6") or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")
    with Server(repo, "::1", 0, Reporter()) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        assert server.is_local

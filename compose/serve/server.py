"""The server: GET and HEAD of what compose.serve.paths lets through, opened beneath the repository's descriptor."""

from __future__ import annotations

import errno
import io
import os
import socket
import socketserver
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from compose import syscalls
from compose.errors import RepositoryError, UsageError
from compose.events import Reporter
from compose.ostree.config import Config
from compose.ostree.repo import Repo
from compose.serve.conditions import etag_of, is_known, last_modified_of, part_of
from compose.serve.offered import check_served, name_of
from compose.serve.paths import Asked, Kind, asked
from compose.serve.pulls import Pulls

_THREADS = 128
"""Connections at once; a client has 8, further ones wait."""
_PATIENCE = 30.0
"""Seconds that a connection may take for its next request, from the first byte to the last, and be idle before; and for a part
of an answer."""
_IN_ONE_GO = 64 << 10
"""Bytes of an answer that goes in one packet with its headers; most objects are small."""
_POLL = 0.2
"""Seconds until it is noticed that a pull went quiet, or that serving is to end."""
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Server(ThreadingHTTPServer):
    """Serves a repository from construction to close; a context manager. url: of the repository, with the port it has got.

    Raises RepositoryError for a repository that clients cannot pull from, UsageError for an address that cannot be had.
    """

    allow_reuse_port = False
    request_queue_size = _THREADS

    def __init__(self, repo: Repo, bind: str, port: int, reporter: Reporter) -> None:
        """bind: name or number of an address. port: 0 for any that is free."""
        check_served(repo)
        self.repo = repo
        self.config = _public(repo.config)
        self.pulls = Pulls(lambda commit: name_of(repo, commit), reporter)
        self.warn = reporter.warn
        self._slots = threading.BoundedSemaphore(_THREADS)
        self._ending = False
        try:
            found = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family, address = found[0][0], found[0][4]
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except (OSError, OverflowError, UnicodeError) as error:
            raise _refused(bind, port, error) from error

    @property
    def host(self) -> str:
        """Number of the address that it is bound to."""
        return str(self.server_address[0])

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def is_local(self) -> bool:
        """Is it for this machine alone?"""
        return self.host.startswith("127.") or self.host == "::1"

    @property
    def url(self) -> str:
        host = self.host if self.host not in ("0.0.0.0", "::") else socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def server_bind(self) -> None:
        # not HTTPServer's, which asks the name service what this machine is called
        socketserver.TCPServer.server_bind(self)

    def run(self) -> None:
        """Serve until a signal's handler raises, or in_background() ends."""
        self.serve_forever(_POLL)

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Serve in a thread as long as the context lasts."""
        thread = threading.Thread(target=self.run, name="serve", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ending = True
            self.shutdown()
            thread.join()

    def server_close(self) -> None:
        super().server_close()
        self.pulls.tell(all_of_them=True)

    def service_actions(self) -> None:
        self.pulls.tell()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._follow()
        while not self._slots.acquire(timeout=_POLL):
            self.service_actions()
            if self._ending:
                self.shutdown_request(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # of clients that go away is nothing to be said
        if not isinstance(error, ConnectionError | TimeoutError):
            self.warn(f"serving {client_address[0]}: {type(error).__name__}: {error}")

    def _follow(self) -> None:
        """Where another repository has its path now, as after `compose cache gc --preview`, serve that one."""
        try:
            if os.path.samestat(os.stat(self.repo.path), os.fstat(self.repo.fd)):
                return
            with Repo.open(self.repo.path) as new:
                check_served(new)
                self.config = _public(new.config)
                # in its place, for other threads open files beneath it at this moment
                os.dup2(new.fd, self.repo.fd, inheritable=False)
        except (OSError, RepositoryError):
            # there is none, or not yet
            pass

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[int, os.stat_result] | None]:
        """A regular file of the repository, and its status; None when there is none. A symlink leads nowhere out of it.

        Raises OSError when it cannot be opened.
        """
        try:
            fd = syscalls.open_in_root(self.repo.fd, path, _READ)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
            yield None
            return
        try:
            status = os.fstat(fd)
            yield (fd, status) if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)


class _Incoming(io.RawIOBase):
    """What a client sends. deadline: of the monotonic clock; a client that sends a byte now and then keeps no thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "compose"
    sys_version = ""
    # headers and body may be two writes: the second would wait for an acknowledgement of the first
    disable_nagle_algorithm = True
    wbufsize = 2 * _IN_ONE_GO
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.deadline = time.monotonic() + _PATIENCE
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *arguments: Any) -> None:
        """Pulls are told, not requests."""

    def log_request(self, *arguments: Any) -> None:
        """See there."""

    def _answer(self, *, body: bool) -> None:
        self.connection.settimeout(_PATIENCE)
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            # what it would be is not read, and must not be taken for the next request
            self.close_connection = True
        what = asked(self.path)
        if what is None:
            self._text(HTTPStatus.NOT_FOUND, b"not found\n", body=body)
            return
        if what.kind is Kind.CONFIG:
            self._text(HTTPStatus.OK, self.server.config, body=body)
            self._note(what, len(self.server.config))
            return
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self.server.opened(what.path))
            except OSError as error:
                self.server.warn(f"cannot serve {what.path}: {error.strerror}")
                self._text(HTTPStatus.INTERNAL_SERVER_ERROR, b"cannot be read\n", body=body)
                return
            if found is None:
                self._text(HTTPStatus.NOT_FOUND, b"not found\n", body=body)
                self._note(what, None)
            else:
                self._note(what, self._file(*found, what, body=body))

    def _note(self, what: Asked, sent: int | None) -> None:
        self.server.pulls.note(self.client_address[0], what, sent)

    def _text(self, status: HTTPStatus, text: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self._end_headers()
        if body:
            self.wfile.write(text)

    def _file(self, fd: int, status: os.stat_result, what: Asked, *, body: bool) -> int:
        """Answer with a file, or with what is wanted of it; returns bytes sent."""
        headers = self.headers
        if is_known(headers.get("If-None-Match"), headers.get("If-Modified-Since"), status):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._describe(status, what)
            self._end_headers()
            return 0
        part = part_of(headers.get("Range"), headers.get("If-Range"), status) if body else None
        size = status.st_size
        if part is not None and not part:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self._end_headers()
            return 0
        self.send_response(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT)
        if part is not None:
            self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}")
        part = part if part is not None else range(size)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self._describe(status, what)
        self._end_headers()
        return self._send(fd, part) if body and part else 0

    def _describe(self, status: os.stat_result, what: Asked) -> None:
        self.send_header("ETag", etag_of(status))
        self.send_header("Last-Modified", last_modified_of(status))
        if what.kind in (Kind.SUMMARY, Kind.REF):
            # a cache on the way is to ask whether it is new
            self.send_header("Cache-Control", "no-cache")

    def _end_headers(self) -> None:
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, fd: int, part: range) -> int:
        if len(part) <= _IN_ONE_GO:
            data = os.pread(fd, len(part), part.start)
            self.wfile.write(data)
            sent = len(data)
        else:
            self.wfile.flush()
            with open(fd, "rb", buffering=0, closefd=False) as file:
                sent = self.connection.sendfile(file, part.start, len(part))
        if sent < len(part):
            # it became shorter: that it is not whole is told by the end of the connection
            self.close_connection = True
        return sent


def _public(config: Config) -> bytes:
    """The repository's config as clients need it: its remotes, which may have passwords, are nobody's business."""
    lines = ["[core]", "repo_version=1", f"mode={config.mode}"]
    if config.tombstones:
        lines.append("tombstone-commits=true")
    if config.indexed_deltas:
        lines.append("indexed-deltas=true")
    if config.collection_id:
        lines.append(f"collection-id={config.collection_id}")
    return "".join(f"{line}\n" for line in lines).encode()


def _refused(bind: str, port: int, error: Exception) -> UsageError:
    number = error.errno if isinstance(error, OSError) else None
    said = getattr(error, "strerror", None) or str(error)
    hint = "give --bind a name or number of an address of this machine: 127.0.0.1, ::1, 0.0.0.0 for all"
    if number == errno.EADDRINUSE:
        hint = "another program has it: give another --port, or --port=0 for any that is free"
    elif number in (errno.EACCES, errno.EPERM):
        hint = "ports below 1024 are for root: give a higher --port"
    return UsageError(f"cannot serve at {bind}, port {port}: {said}", hint=hint)

"""The HTTP server: GET and HEAD of the paths in compose.serve.paths, opened beneath the repository's descriptor."""

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
from compose.serve.conditions import etag_of, last_modified_of, not_modified, requested_range
from compose.serve.offered import check_served, name_of
from compose.serve.paths import Kind, Resource, parse_target
from compose.serve.pulls import Pulls

_MAX_CONNECTIONS = 128
"""Connections served at once, each by a thread; further ones wait. A client opens 8."""
_TIMEOUT = 30.0
"""Seconds until a connection's next request must be complete, idle time included, and for each write of a response."""
_SLOWEST = 16 << 10
"""Bytes per second, on average, that a client must take to keep its connection while others wait for one."""
_PIECE = 256 << 10
"""Bytes of a response that are sent between two looks at the clock."""
_SMALL = 64 << 10
"""Bytes of a body that is sent in one write with its headers; most objects are smaller."""
_POLL = 0.2
"""Seconds between checks whether a pull is over, or the server is to stop."""
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Server(ThreadingHTTPServer):
    """Serves a repository; a context manager. It listens once constructed; run() or in_background() answers.

    Raises RepositoryError for a repository that clients cannot pull from, UsageError if it cannot listen on the address.
    """

    allow_reuse_port = False
    request_queue_size = _MAX_CONNECTIONS

    def __init__(self, repo: Repo, bind: str, port: int, reporter: Reporter) -> None:
        """bind: host name or IP address. port: 0 for any free one."""
        check_served(repo)
        self.repo = repo
        self.config = _public_config(repo.config)
        self.pulls = Pulls(lambda commit: name_of(repo, commit), reporter)
        self.warn = reporter.warn
        # does a client wait for the end of another one's connection?
        self.crowded = False
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._ending = False
        try:
            found = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family, address = found[0][0], found[0][4]
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except (OSError, OverflowError, UnicodeError) as error:
            raise _bind_error(bind, port, error) from error

    @property
    def host(self) -> str:
        """IP address that the server is bound to."""
        return str(self.server_address[0])

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host.startswith("127.") or self.host == "::1"

    @property
    def url(self) -> str:
        host = self.host if self.host not in ("0.0.0.0", "::") else socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def server_bind(self) -> None:
        # HTTPServer's asks the name service for the name of this machine
        socketserver.TCPServer.server_bind(self)

    def run(self) -> None:
        """Serve until a signal handler raises, or in_background() ends."""
        self.serve_forever(_POLL)

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Serve in a thread while the context lasts."""
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
        self.pulls.report(final=True)

    def service_actions(self) -> None:
        self.pulls.report()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._reopen_if_replaced()
        while not self._slots.acquire(timeout=_POLL):
            self.crowded = True
            self.service_actions()
            if self._ending:
                self.shutdown_request(request)
                return
        self.crowded = False
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
        # clients may go away at any time
        if not isinstance(error, ConnectionError | TimeoutError):
            self.warn(f"serving {client_address[0]}: {type(error).__name__}: {error}")

    def _reopen_if_replaced(self) -> None:
        """Serve the repository now at the path if it was replaced, as after `compose cache gc --preview`."""
        try:
            if os.path.samestat(os.stat(self.repo.path), os.fstat(self.repo.fd)):
                return
            with Repo.open(self.repo.path) as new:
                check_served(new)
                self.config = _public_config(new.config)
                # keep the number of the descriptor, which other threads are using
                os.dup2(new.fd, self.repo.fd, inheritable=False)
        except (OSError, RepositoryError):
            # none is there, or not yet
            pass

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[int, os.stat_result] | None]:
        """Descriptor and status of a regular file; None if there is none. Symlinks cannot lead out of the repository.

        Raises OSError if the file cannot be opened.
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


class _RequestStream(io.RawIOBase):
    """Bytes from a client until a deadline (monotonic time), so that one sending a byte now and then cannot hold a thread."""

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
    # of two writes, headers and body, the second would wait until the first is acknowledged
    disable_nagle_algorithm = True
    wbufsize = 2 * _SMALL
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _RequestStream(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.deadline = time.monotonic() + _TIMEOUT
        super().handle_one_request()

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *arguments: Any) -> None:
        """Log nothing: pulls are reported, not requests."""

    def log_request(self, *arguments: Any) -> None:
        """Log nothing; see log_message()."""

    def _answer(self, *, body: bool) -> None:
        self.connection.settimeout(_TIMEOUT)
        if self.server.crowded:
            # the next request takes its turn
            self.close_connection = True
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            # the body is not read, and must not be taken for the next request
            self.close_connection = True
        resource = parse_target(self.path)
        if resource is None:
            self._text(HTTPStatus.NOT_FOUND, b"not found\n", body=body)
            return
        if resource.kind is Kind.CONFIG:
            self._text(HTTPStatus.OK, self.server.config, body=body)
            self._note(resource, len(self.server.config))
            return
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self.server.opened(resource.path))
            except OSError as error:
                self.server.warn(f"cannot serve {resource.path}: {error.strerror}")
                self._text(HTTPStatus.INTERNAL_SERVER_ERROR, b"cannot be read\n", body=body)
                return
            if found is None:
                self._text(HTTPStatus.NOT_FOUND, b"not found\n", body=body)
                self._note(resource, None)
            else:
                self._note(resource, self._file(*found, resource, body=body))

    def _note(self, resource: Resource, sent: int | None) -> None:
        self.server.pulls.note(self.client_address[0], resource, sent)

    def _text(self, status: HTTPStatus, text: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self._end_headers()
        if body:
            self.wfile.write(text)

    def _file(self, fd: int, status: os.stat_result, resource: Resource, *, body: bool) -> int:
        """Respond with a file or the requested part of it; returns the bytes of it that were sent."""
        headers = self.headers
        if not_modified(headers.get("If-None-Match"), headers.get("If-Modified-Since"), status):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._send_validators(status, resource)
            self._end_headers()
            return 0
        part = requested_range(headers.get("Range"), headers.get("If-Range"), status) if body else None
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
        self._send_validators(status, resource)
        self._end_headers()
        return self._send(fd, part) if body and part else 0

    def _send_validators(self, status: os.stat_result, resource: Resource) -> None:
        self.send_header("ETag", etag_of(status))
        self.send_header("Last-Modified", last_modified_of(status))
        if resource.kind in (Kind.SUMMARY, Kind.REF):
            # caches must ask again each time
            self.send_header("Cache-Control", "no-cache")

    def _end_headers(self) -> None:
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, fd: int, part: range) -> int:
        if len(part) <= _SMALL:
            data = os.pread(fd, len(part), part.start)
            self.wfile.write(data)
            sent = len(data)
        else:
            self.wfile.flush()
            sent = self._send_large(fd, part)
        if sent < len(part):
            # the file was truncated meanwhile: closing the connection tells the client
            self.close_connection = True
        return sent

    def _send_large(self, fd: int, part: range) -> int:
        begun = time.monotonic()
        total = 0
        with open(fd, "rb", buffering=0, closefd=False) as file:
            while left := len(part) - total:
                sent = self.connection.sendfile(file, part.start + total, min(left, _PIECE))
                if not sent:
                    break
                total += sent
                spent = time.monotonic() - begun
                if self.server.crowded and spent > _TIMEOUT and total < spent * _SLOWEST:
                    raise TimeoutError
        return total


def _public_config(config: Config) -> bytes:
    """The part of a repository's config that clients need; its remotes may contain passwords."""
    lines = ["[core]", "repo_version=1", f"mode={config.mode}"]
    if config.tombstones:
        lines.append("tombstone-commits=true")
    if config.indexed_deltas:
        lines.append("indexed-deltas=true")
    if config.collection_id:
        lines.append(f"collection-id={config.collection_id}")
    return "".join(f"{line}\n" for line in lines).encode()


def _bind_error(bind: str, port: int, error: Exception) -> UsageError:
    number = error.errno if isinstance(error, OSError) else None
    reason = getattr(error, "strerror", None) or str(error)
    hint = "give --bind a host name or IP address of this machine: 127.0.0.1, ::1, or 0.0.0.0 for all"
    if number == errno.EADDRINUSE:
        hint = "another program is using it: give another --port, or --port=0 for any free one"
    elif number in (errno.EACCES, errno.EPERM):
        hint = "ports below 1024 are reserved for root: give a higher --port"
    return UsageError(f"cannot listen on {bind}, port {port}: {reason}", hint=hint)

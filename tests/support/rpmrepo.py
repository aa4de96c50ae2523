"""Small RPM repositories made by the real rpmbuild, rpmsign and createrepo_c, and a web server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

DEFAULT_TAGS = "Release: 1\nSummary: test\nLicense: MIT\n"


@dataclass(frozen=True)
class Package:
    """tags: further lines of the preamble ("Requires: x"). size: bytes of its one file, usr/share/NAME."""

    name: str
    tags: str = ""
    version: str = "1.0"
    size: int = 100
    arch: str = "noarch"


def build(packages: list[Package], into: Path) -> dict[str, Path]:
    """Build RPMs; returns them by name."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for package in packages:
            spec = Path(work, f"{package.name}.spec")
            spec.write_text(
                f"Name: {package.name}\nVersion: {package.version}\n{DEFAULT_TAGS}{package.tags}\n"
                "%description\ntest\n%install\nmkdir -p %{buildroot}/usr/share\n"
                f"head -c {package.size} /dev/zero | tr '\\0' x >%{{buildroot}}/usr/share/{package.name}\n"
                f"%files\n/usr/share/{package.name}\n"
            )
            run("rpmbuild", "-bb", "--quiet", "--target", f"{package.arch}-linux",
                "--define", f"_topdir {work}/top", "--define", f"_rpmdir {into}",
                "--define", "_build_name_fmt %{NAME}-%{VERSION}.%{ARCH}.rpm",
                "--define", "_binary_payload w.ufdio", str(spec))  # fmt: skip
    return {package.name: into / f"{package.name}-{package.version}.{package.arch}.rpm" for package in packages}


def index(directory: Path) -> None:
    """Make its repodata/."""
    shutil.rmtree(directory / "repodata", ignore_errors=True)
    run("createrepo_c", "--quiet", str(directory))


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Keys:
    """Throw-away GPG keys. The home is a short path: the agent's socket lies in it."""

    def __init__(self) -> None:
        self.home = tempfile.mkdtemp(prefix="gpg-", dir="/tmp")

    def gpg(self, *arguments: str) -> str:
        return run("gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", *arguments,
                   GNUPGHOME=self.home)  # fmt: skip

    def make(self, name: str, *, algorithm: str = "ed25519", usage: str = "sign", expires: str = "never") -> None:
        self.gpg("--quick-generate-key", address(name), algorithm, usage, expires)

    def fingerprint(self, name: str) -> str:
        """Lower case hex."""
        lines = self.gpg("--list-keys", "--with-colons", address(name)).splitlines()
        return next(line.split(":")[9].lower() for line in lines if line.startswith("fpr:"))

    def export(self, *names: str, armor: bool = True) -> bytes:
        done = subprocess.run(
            ["gpg", "--batch", *(["--armor"] if armor else []), "--export", *map(address, names)],
            env=os.environ | {"GNUPGHOME": self.home}, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout

    def revoke(self, name: str) -> None:
        certificate = Path(self.home, "openpgp-revocs.d", self.fingerprint(name).upper() + ".rev")
        certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
        self.gpg("--import", str(certificate))

    def sign(self, rpm: Path, name: str, *options: str) -> None:
        self.sign_all([rpm], name, *options)

    def sign_all(self, rpms: Iterable[Path], name: str, *options: str) -> None:
        words = (*options, "--define", f"_gpg_name {address(name)}", "--addsign", *map(str, rpms))
        run("rpmsign", *words, GNUPGHOME=self.home)

    def close(self) -> None:
        run("gpgconf", "--kill", "all", GNUPGHOME=self.home)
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def keyring(*names: str) -> Iterator[Keys]:
    """A key of each name, in the GNUPGHOME of what runs in the context."""
    keys = Keys()
    try:
        for name in names:
            keys.make(name)
        with mock.patch.dict(os.environ, GNUPGHOME=keys.home):
            yield keys
    finally:
        keys.close()


def address(name: str) -> str:
    return f"{name}@example.com"


class Server:
    """Serves a directory on loopback with byte ranges.

    faults: end of a path -> what happens to its next requests, in order: a status (int), "cut" (the connection ends in
    the middle of the body), "garbage" (the right number of wrong bytes), "endless" (64 MiB, whatever there is), "vast" (the
    beginning of 1 TiB), "stall" (half of the body, the rest when release is set).
    login: USER:PASSWORD that each request must bring, "" for none.
    sent: bytes of endless and vast bodies that clients took.
    requests: (path, Range header or ""). As a proxy it answers for every host; the path is a URL then, or HOST:PORT of a
    tunnel, which it refuses.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.faults: dict[str, list[int | str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.release = threading.Event()
        self.login = ""
        self.sent = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def do_CONNECT(self) -> None:
                server.requests.append((self.path, ""))
                self.send_error(403)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "")
        self.requests.append((handler.path, wanted))
        fault = next((each.pop(0) for end, each in self.faults.items() if handler.path.endswith(end) and each), None)
        path = self.directory / urlsplit(handler.path).path.lstrip("/")
        if self.login and handler.headers.get("Authorization") != "Basic " + b64encode(self.login.encode()).decode():
            fault = 401
        if isinstance(fault, int) or (fault not in ("endless", "vast") and not path.is_file()):
            handler.send_response(fault if isinstance(fault, int) else 404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if fault == "endless":
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(64):
                    handler.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    self.sent += 1 << 20
                handler.wfile.write(b"0\r\n\r\n")
            handler.close_connection = True
            return
        if fault == "vast":
            handler.send_response(200)
            handler.send_header("Content-Length", str(1 << 40))
            handler.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(256):
                    handler.wfile.write(bytes(1 << 20))
                    self.sent += 1 << 20
            handler.close_connection = True
            return
        data = path.read_bytes()
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        half = start + (len(data) - start) // 2
        if fault == "cut":
            handler.wfile.write(data[start:half])
            handler.close_connection = True
        elif fault == "stall":
            handler.wfile.write(data[start:half])
            self.release.wait(60)
            with contextlib.suppress(OSError):
                handler.wfile.write(data[half:])
        elif fault == "garbage":
            handler.wfile.write(b"?" * (len(data) - start))
        else:
            handler.wfile.write(data[start:])

    def asked_for(self, end: str) -> list[str]:
        """Range headers of the requests for a path."""
        return [wanted for path, wanted in self.requests if path.endswith(end)]

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

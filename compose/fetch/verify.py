"""Digest and signature of RPM files on disk; `verify()` runs in a child process, for librpm reads what is hostile."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compose.errors import ComposeError, FetchError, PackageError, StorageError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import PublicKey
from compose.rpm.signature import Keyring, check_unsigned, read_layout
from compose.solve.resolution import ResolvedPackage

_CHUNK = 1 << 20
# createrepo_c's names of algorithms that hashlib calls otherwise
_ALGORITHMS = {"sha": "sha1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A package and where its RPM lies."""

    package: ResolvedPackage
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """keys: of each repository, None for one with gpgcheck=0. jobs: threads."""

    files: tuple[File, ...]
    keys: tuple[tuple[str, tuple[PublicKey, ...] | None], ...]
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """sha256 and key as in RpmFile; or the fault: FetchError when the file is not what the repository's metadata says
    (another copy may be), TrustError or PackageError when it is and must not be used."""

    sha256: str = ""
    key: str = ""
    fault: ComposeError | None = None


def verify(job: Job, reporter: Reporter) -> tuple[Verdict, ...]:
    """A verdict per file, in their order."""
    keyrings = {repo: None if keys is None else Keyring(keys) for repo, keys in job.keys}
    # librpm is used by one thread at a time; it needs some 100 us per package, hashing is what takes long
    librpm = threading.Lock()

    total = sum(file.package.download_size for file in job.files)
    with reporter.task("Verifying packages", total=total, unit="bytes") as task:

        def one(file: File) -> Verdict:
            try:
                return _verify(file, keyrings[file.package.repo], librpm)
            except (FetchError, PackageError, TrustError) as fault:
                return Verdict(fault=fault)
            finally:
                task.advance(file.package.download_size, detail=str(file.package.nevra))

        with ThreadPoolExecutor(max_workers=job.jobs) as pool:
            return tuple(pool.map(one, job.files))


def _verify(file: File, keyring: Keyring | None, librpm: threading.Lock) -> Verdict:
    package = file.package
    name = f"{package.nevra} of repository {package.repo!r}"
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StorageError(f"cannot read {file.path}: {error.strerror}") from error
    try:
        algorithm, expected = package.checksum
        algorithm = _ALGORITHMS.get(algorithm, algorithm)
        if algorithm not in hashlib.algorithms_guaranteed:
            raise PackageError(f"{name}: its repository uses the unknown checksum {algorithm!r}")

        def compare(found: str) -> None:
            if found != expected:
                raise FetchError(f"{name} is corrupted: it has {algorithm} {found}, its repository says {expected}")

        size = os.fstat(fd).st_size
        if package.download_size and size != package.download_size:
            raise FetchError(f"{name} is corrupted: it has {size} bytes, its repository says {package.download_size}")
        try:
            layout = read_layout(fd, name)
        except PackageError:
            # most likely damaged on its way here; if not, then it is so in the repository
            compare(*_digests(fd, (algorithm, 0)))
            raise
        listed, whole, payload = _digests(fd, (algorithm, 0), ("sha256", 0), ("sha256", layout.payload_offset))
        compare(listed)
        with librpm:
            checked = check_unsigned(fd, name) if keyring is None else keyring.check(fd, name, layout)
        if checked.nevra != package.nevra:
            raise TrustError(
                f"{name} is in truth {checked.nevra}",
                hint="the repository offers one package under the name of another: do not use it",
            )
        if checked.payload_digest is not None:
            algorithm, expected_payload = checked.payload_digest
            if algorithm != "sha256":
                (payload,) = _digests(fd, (algorithm, layout.payload_offset))
            if payload != expected_payload:
                raise PackageError(
                    f"{name}: its payload is not the one that its header was made for",
                    hint="it was damaged or tampered with before it came into the repository: do not use it",
                )
        return Verdict(sha256=whole, key=checked.key)
    finally:
        os.close(fd)


def _digests(fd: int, *wanted: tuple[str, int]) -> tuple[str, ...]:
    """Hex digests of the file from an offset to its end, each (hashlib name, offset), in one pass."""
    hashes = {each: hashlib.new(each[0], usedforsecurity=False) for each in dict.fromkeys(wanted)}
    position = 0
    while chunk := os.pread(fd, _CHUNK, position):
        for (_, start), total in hashes.items():
            if start < position + len(chunk):
                total.update(memoryview(chunk)[max(0, start - position) :])
        position += len(chunk)
    return tuple(hashes[each].hexdigest() for each in wanted)

"""Checks the digests and signatures of RPM files; runs in a child process, for librpm parses hostile data."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compose import fs
from compose.errors import ComposeError, FetchError, PackageError, StorageError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import PublicKey
from compose.rpm.signature import Keyring, check_unsigned, read_layout
from compose.solve.resolution import ResolvedPackage

# createrepo_c's names of algorithms that hashlib names differently
_ALGORITHMS = {"sha": "sha1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A package and the path of its RPM."""

    package: ResolvedPackage
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """keys: by repository id, None if it has gpgcheck=0. jobs: threads."""

    files: tuple[File, ...]
    keys: tuple[tuple[str, tuple[PublicKey, ...] | None], ...]
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """sha256 and key as in RpmFile, or a fault: FetchError if the file is not what the repository's metadata describes
    (another copy may be), TrustError or PackageError if it is, but must not be used."""

    sha256: str = ""
    key: str = ""
    fault: ComposeError | None = None


def hash_name(algorithm: str) -> str | None:
    """hashlib's name of a checksum's algorithm, None for one that cannot be checked."""
    name = _ALGORITHMS.get(algorithm, algorithm)
    # the digests of shake_* have no fixed length
    return name if name in hashlib.algorithms_guaranteed and not name.startswith("shake_") else None


def verify(job: Job, reporter: Reporter) -> tuple[Verdict, ...]:
    """Return a verdict per file, in the order of files. Raises StorageError for one that cannot be read."""
    keyrings = {repo: None if keys is None else Keyring(keys) for repo, keys in job.keys}
    # one thread at a time uses librpm, which takes about 100 us per package; the hashing takes longer
    librpm = threading.Lock()

    total = sum(file.package.download_size for file in job.files)
    with reporter.task("Verifying packages", total=total, unit="bytes") as task:

        def verdict_on(file: File) -> Verdict:
            try:
                return _verify(file, keyrings[file.package.repo], librpm)
            except (FetchError, PackageError, TrustError) as fault:
                return Verdict(fault=fault)
            except OSError as error:
                raise StorageError(f"cannot read {file.path}: {error.strerror}", hint=fs.FAILING) from error
            finally:
                task.advance(file.package.download_size, detail=str(file.package.nevra))

        with ThreadPoolExecutor(max_workers=job.jobs) as pool:
            return tuple(pool.map(verdict_on, job.files))


def _verify(file: File, keyring: Keyring | None, librpm: threading.Lock) -> Verdict:
    package = file.package
    name = f"{package.nevra} of repository {package.repo!r}"
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        given, expected = package.checksum
        algorithm = hash_name(given)
        if algorithm is None:
            raise PackageError(f"{name}: its repository uses the unknown checksum {given!r}")

        def compare(found: str) -> None:
            if found != expected:
                raise FetchError(f"{name} is corrupted: it has {algorithm} {found}, its repository says {expected}")

        size = os.fstat(fd).st_size
        if package.download_size and size != package.download_size:
            raise FetchError(f"{name} is corrupted: it has {size} bytes, its repository says {package.download_size}")
        try:
            layout = read_layout(fd, name)
        except PackageError:
            # most likely damaged in transit; otherwise the repository's own file is
            compare(*_digests(fd, (algorithm, 0)))
            raise
        listed, whole, payload = _digests(fd, (algorithm, 0), ("sha256", 0), ("sha256", layout.payload_offset))
        compare(listed)
        with librpm:
            checked = check_unsigned(fd, name) if keyring is None else keyring.check(fd, name, layout)
        if checked.nevra != package.nevra:
            raise TrustError(
                f"{name} is actually {checked.nevra}",
                hint="the repository offers one package under the name of another: do not use it",
            )
        if checked.payload_digest is not None:
            algorithm, expected_payload = checked.payload_digest
            if algorithm != "sha256":
                (payload,) = _digests(fd, (algorithm, layout.payload_offset))
            if payload != expected_payload:
                raise PackageError(
                    f"{name}: its payload does not have the digest that its header records",
                    hint="it was damaged or tampered with before it entered the repository: do not use it",
                )
        return Verdict(sha256=whole, key=checked.key)
    finally:
        os.close(fd)


def _digests(fd: int, *wanted: tuple[str, int]) -> tuple[str, ...]:
    """Return hex digests of the file, computed in one pass. wanted: pairs of hashlib name and offset to start at."""
    hashes = {key: hashlib.new(key[0], usedforsecurity=False) for key in dict.fromkeys(wanted)}
    position = 0
    for chunk in fs.chunks(fd):
        for (_, start), total in hashes.items():
            if start < position + len(chunk):
                total.update(memoryview(chunk)[max(0, start - position) :])
        position += len(chunk)
    return tuple(hashes[key].hexdigest() for key in wanted)

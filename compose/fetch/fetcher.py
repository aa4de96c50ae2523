"""Fetch stage: downloads the resolved packages, and accepts only what their repositories describe and signed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from compose import fs
from compose.cachedir import CacheDir
from compose.errors import ComposeError, FetchError, PackageError, TrustError
from compose.events import Reporter
from compose.fetch import dnf, transfers, urls, verify
from compose.fetch.keys import download_keys, load_keys
from compose.fetch.rpmfile import RpmFile
from compose.fetch.verdicts import Verdicts
from compose.fetch.verify import File, Verdict
from compose.rpm import child
from compose.rpm.header import path_fault
from compose.rpm.nevra import Nevra
from compose.rpm.pgp import PublicKey
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import COMMAND_LINE, Resolution, ResolvedPackage, lies_below

Keys = tuple[tuple[str, tuple[PublicKey, ...] | None], ...]
"""By repository id; None where signatures are not checked."""

_LITTLE = 16 << 20
"""Bytes that are downloaded even before it is known whether they are needed."""


def fetch(
    resolution: Resolution,
    access: RepoAccess,
    network: RepoNetwork,
    reporter: Reporter,
    *,
    jobs: int = 1,
    before_much: Callable[[], object] = lambda: None,
) -> tuple[RpmFile, ...]:
    """Return the packages of a resolution as verified files in CACHEDIR/rpms, in the resolution's order.

    Packages of a file:// repository are copied there too: a file must not change after it was verified. A cached
    package is verified like a downloaded one, unless it was verified before and is untouched since. jobs: threads that
    copy and hash. before_much: called before more than a little is downloaded.

    Raises TrustError (unsigned, wrong key, no key given), FetchError (cannot be downloaded, or is corrupted, and then
    removed from the cache), PackageError (damaged in its repository), StorageError.
    """
    keys = _keys(resolution, access, network, reporter)
    files = tuple(File(package=package, path=_cached_path(package, network)) for package in resolution.packages)
    known = Verdicts(network.cachedir, keys)
    verdicts: dict[File, Verdict] = {}
    present = []
    for file in files:
        if _complete(file):
            verdict = known.look(file)
            if verdict is None:
                present.append(file)
            else:
                verdicts[file] = verdict
    verdicts.update(zip(present, _verified(present, keys, jobs, reporter), strict=True))
    missing = tuple(file for file in files if file not in verdicts or _discard_corrupted(file, verdicts[file]))
    cached = verdicts.keys() - missing
    for file in cached:
        # the time of its last use
        with fs.storage_errors(file.path):
            os.utime(os.path.dirname(file.path))
    if missing and network.cache_only:
        raise FetchError(
            f"{len(missing)} of {len(files)} packages are not in the cache {network.rpms_dir}",
            hint="compose once without --cache-only or --offline",
            details=tuple(str(file.package.nevra) for file in missing),
        )
    if missing:
        if sum(file.package.download_size for file in missing) > _LITTLE:
            before_much()
        _download(missing, resolution, access, network, reporter, jobs)
        for file in missing:
            known.look(file)
        verdicts.update(zip(missing, _verified(missing, keys, jobs, reporter), strict=True))
        for file in missing:
            _discard_corrupted(file, verdicts[file])
    known.note({file: verdicts[file] for file in (*present, *missing)})
    _raise_faults([fault for file in files if (fault := verdicts[file].fault)])
    return tuple(
        RpmFile(
            package=file.package,
            path=file.path,
            sha256=verdicts[file].sha256,
            key=verdicts[file].key,
            cached=file in cached,
        )
        for file in files
    )


def missing_bytes(resolution: Resolution, network: RepoNetwork) -> dict[Nevra, int]:
    """Return how many bytes fetch() would download, for each package that is not in the cache, or only in part."""
    found = {}
    for package in resolution.packages:
        # an RPM from outside the repositories is in the cache already
        if package.repo == COMMAND_LINE:
            continue
        lacking = _lacking(_cached_path(package, network), package)
        if lacking > 0:
            found[package.nevra] = lacking
    return found


def _lacking(path: str, package: ResolvedPackage) -> int:
    """Return how many bytes of a package are not at its path, which may have a part of it."""
    try:
        present = os.lstat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        present = 0
    return max(0, package.download_size - present)


def _keys(resolution: Resolution, access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> Keys:
    """Return the keys of each repository that packages come from."""
    used = {package.repo for package in resolution.packages}
    repos = [repo for repo in resolution.repos if repo.id in used]
    download_keys([repo for repo in repos if repo.gpgcheck], access, network, reporter)
    # an RPM from outside the repositories is pinned by the treefile itself
    own = ((COMMAND_LINE, None),) if COMMAND_LINE in used else ()
    return own + tuple(
        (repo.id, load_keys(repo, access, network, reporter) if repo.gpgcheck else None) for repo in repos
    )


def _cached_path(package: ResolvedPackage, network: RepoNetwork) -> str:
    """Return CACHEDIR/rpms/ALGORITHM-DIGEST/NAME.rpm, so that two builds of the same name do not collide."""
    name = os.path.basename(package.location)
    algorithm, digest = package.checksum
    if not name or path_fault(name) or not digest.isalnum() or not algorithm.isalnum():
        raise FetchError(
            f"{package.nevra} of repository {package.repo!r} has the location {package.location!r} and the checksum "
            f"{algorithm}:{digest} in the metadata, from which no file name can be made",
            hint="the repository's metadata is wrong and must be regenerated",
        )
    return os.path.join(network.rpms_dir, f"{algorithm}-{digest}", name)


def _verified(files: Sequence[File], keys: Keys, jobs: int, reporter: Reporter) -> tuple[Verdict, ...]:
    if not files:
        return ()
    job = verify.Job(files=tuple(files), keys=keys, jobs=jobs)
    return child.call(verify.verify, job, reporter, crash=_verifier_crashed)


def _complete(file: File) -> bool:
    """Whether the file has its full size. A shorter one is an interrupted download, which will be resumed.

    Removes whatever is not a regular file in a directory of our own.
    """
    try:
        directory = os.lstat(os.path.dirname(file.path))
        status = os.lstat(file.path)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        _remove(file)
        return False
    if not fs.is_own_directory(directory) or not stat.S_ISREG(status.st_mode):
        _remove(file)
        return False
    return status.st_size >= file.package.download_size


def _remove(file: File) -> None:
    directory = os.path.dirname(file.path)
    with fs.storage_errors(directory):
        fs.remove_tree(directory)


def _discard_corrupted(file: File, verdict: Verdict) -> bool:
    """Remove a file from the cache if it is not the one in its repository, so that it is fetched again; return whether.

    A file that is the repository's, but must not be used, stays: fetching it again would not change it.
    """
    if not isinstance(verdict.fault, FetchError):
        return False
    _remove(file)
    return True


def _download(
    files: Sequence[File],
    resolution: Resolution,
    access: RepoAccess,
    network: RepoNetwork,
    reporter: Reporter,
    jobs: int,
) -> None:
    with downloads_locked(network.rpms_dir, reporter):
        # without what another compose has downloaded while this one waited
        files = [file for file in files if not _complete(file)]
        for file in files:
            directory = os.path.dirname(file.path)
            _make_directory(directory)
            with fs.storage_errors(directory):
                fs.remove_unfinished(directory, 0)
        remote = _copy_local(files, dict(resolution.directories), reporter, jobs)
        transfers.check_room(network.rpms_dir, sum(_lacking(file.path, file.package) for file in remote))
        if remote and resolution.locked:
            with CacheDir(network.cachedir).scratch() as scratch:
                by_url = urls.PackagesJob(files=remote, access=access, network=network, scratch=scratch)
                child.call(urls.download_packages, by_url, reporter, crash=_downloader_crashed)
        elif remote:
            job = dnf.Job(files=remote, access=access, network=network)
            child.call(dnf.download, job, reporter, crash=_downloader_crashed)


@contextmanager
def downloads_locked(rpms_dir: str, reporter: Reporter) -> Iterator[None]:
    """Hold the lock of CACHEDIR/rpms: two composes must not write one file at the same time, and a file that is being written
    looks damaged. Raises StorageError."""
    _make_directory(rpms_dir)
    path = os.path.join(rpms_dir, "lock")
    with fs.storage_errors(path), fs.obstacles(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with fs.storage_errors(path):
            fs.lock(descriptor, lambda: reporter.info(f"Waiting for another compose that downloads to {rpms_dir}"))
        yield
    finally:
        os.close(descriptor)


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise fs.storage_error(path, error) from error


def _copy_local(
    files: Sequence[File], directories: Mapping[str, str], reporter: Reporter, jobs: int
) -> tuple[File, ...]:
    """Copy files of repositories on this machine, and return the others and those that could not be copied.

    The downloader can copy files as well, and says why it fails, but it reads and hashes them in pieces of 16 KiB, with
    a call into Python for each. Whatever was copied is verified like a download.
    """
    local = [file for file in files if file.package.repo in directories and lies_below(file.package.location)]
    if not local:
        return tuple(files)
    total = sum(file.package.download_size for file in local)
    with reporter.task("Copying packages", total=total, unit="bytes") as task, ThreadPoolExecutor(jobs) as threads:

        def copy(file: File) -> bool:
            package = file.package
            try:
                fs.copy_file(os.path.join(directories[package.repo], package.location), file.path)
            except OSError:
                return False
            task.advance(package.download_size, detail=str(package.nevra))
            return True

        copied = {file for file, done in zip(local, threads.map(copy, local), strict=True) if done}
    return tuple(file for file in files if file not in copied)


def _raise_faults(faults: Sequence[ComposeError]) -> None:
    """Raise one error for all faults, of the gravest kind among them."""
    for kind in (TrustError, PackageError, FetchError):
        worst = [fault for fault in faults if isinstance(fault, kind)]
        if not worst:
            continue
        if len(faults) == 1:
            raise worst[0]
        hints = list(dict.fromkeys(fault.hint for fault in worst if fault.hint))
        raise kind(
            f"{len(faults)} packages cannot be used: {worst[0].message}, and others",
            hint="; ".join(hints) or None,
            details=tuple(fault.message for fault in faults),
        )


def _verifier_crashed(cause: str, output: tuple[str, ...]) -> PackageError:
    return PackageError(
        f"librpm died while verifying packages: {cause}",
        hint="one of the packages is malicious, or librpm has a bug; find the package with rpmkeys -K",
        details=output,
    )


def _downloader_crashed(cause: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(
        f"the downloader (libdnf5) died: {cause}", hint="run it again: what was downloaded is kept", details=output
    )

"""Pools: package repositories of one's own, which keep builds that other repositories have dropped.

A pool is a directory with a file NAME-VERSION-RELEASE.ARCH.rpm for each package that a compose needed, and repodata. Nothing is
ever removed from it here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from compose import fs
from compose.events import Reporter
from compose.fetch.rpmfile import RpmFile
from compose.pipeline.carried import carry
from compose.pipeline.contents import fetch_packages
from compose.pipeline.inputs import Stopwatch, gather
from compose.pipeline.options import ComposeOptions
from compose.rpm.nevra import Nevra
from compose.rpm.repodata import require_program, write_repodata


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """packages: how many the compose has. added: NEVRAs of those that were not in the pool, sorted. size: bytes of these."""

    packages: int
    added: tuple[Nevra, ...]
    size: int


def fill_pool(options: ComposeOptions, directory: str, reporter: Reporter, *, extensions: str | None = None) -> Pooled:
    """Add the packages of a compose to the pool at `directory`, which is created if missing.

    extensions: a file of extensions whose packages to add too. Raises a ComposeError; the pool's index then lists what it did
    before.
    """
    require_program()
    fs.check_directory(directory)
    with ExitStack() as stack:
        inputs = gather(options, reporter, Stopwatch(reporter), stack)
        rpms = fetch_packages(inputs, options, reporter)
        if extensions is not None:
            work = stack.enter_context(inputs.cache.scratch())
            rpms = (*rpms, *carry(inputs, rpms, extensions, options, work, reporter).rpms)
        stack.enter_context(_locked(directory, reporter))
        with fs.storage_errors(directory):
            # of a run that was killed; nobody else writes here now
            fs.remove_unfinished(directory, 0)
        added = [rpm for rpm in rpms if _add(rpm, directory, reporter)]
        write_repodata(directory)
    return Pooled(
        packages=len({each.package.nevra for each in rpms}),
        added=tuple(sorted(each.package.nevra for each in added)),
        size=sum(os.path.getsize(each.path) for each in added),
    )


@contextmanager
def _locked(directory: str, reporter: Reporter) -> Iterator[None]:
    """Make the directory of a pool, which one process at a time fills. Raises StorageError."""
    try:
        os.makedirs(directory, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise fs.storage_error(directory, error) from error
    try:
        fs.lock(fd, lambda: reporter.info(f"Waiting for another process that adds packages to {directory}"))
        yield
    finally:
        os.close(fd)


def _add(rpm: RpmFile, directory: str, reporter: Reporter) -> bool:
    """Copy a package into the pool unless it is there. Raises StorageError."""
    path = os.path.join(directory, rpm.package.nevra.file_name)
    try:
        with suppress(FileNotFoundError), fs.open_regular(path) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == rpm.sha256:
                return False
            reporter.warn(f"{path} is replaced, because the package of repository {rpm.package.repo!r} has other bytes")
        fs.copy_file(rpm.path, path)
    except OSError as error:
        raise fs.storage_error(path, error) from error
    return True

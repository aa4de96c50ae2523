"""Disk space that a compose needs."""

from __future__ import annotations

import os
from collections.abc import Mapping

from compose import fs
from compose.events import Reporter
from compose.fetch.fetcher import missing_bytes
from compose.importer.cache import ImportCache
from compose.pipeline.inputs import Inputs
from compose.plan import DiskNeed
from compose.rpm.nevra import Nevra
from compose.sizes import size


def disk_needs(inputs: Inputs, missing: Mapping[Nevra, int], new: int | None = None) -> tuple[DiskNeed, ...]:
    """Disk space needed in the cachedir and the repository, added up when they share a filesystem. Raises StorageError.

    missing: bytes to download, by package. new: bytes of files that the repository may not have yet; by default those that the
    cachedir does not have. A filesystem that only memory limits is left out.
    """
    cache = ImportCache(inputs.cache.join("manifests"), inputs.store)
    unpacked = sum(each.install_size for each in inputs.resolution.packages if not cache.has(each.checksum[1]))
    needs: dict[int, DiskNeed] = {}
    for path, needed in (
        (inputs.cache.path, sum(missing.values()) + unpacked),
        (inputs.repo.path, unpacked if new is None else new),
    ):
        with fs.storage_errors(path):
            device, status = os.stat(path).st_dev, os.statvfs(path)
        if not status.f_blocks:
            continue
        before = needs.get(device)
        needs[device] = DiskNeed(
            path=before.path if before else path,
            needed=needed + (before.needed if before else 0),
            free=status.f_bavail * status.f_frsize,
        )
    return tuple(needs.values())


def warn_of_little_space(inputs: Inputs, reporter: Reporter) -> None:
    """Warn, before the work, of a disk that may become full: packages are compressed in an archive repository, and parts of
    them may be there. Raises StorageError."""
    for each in disk_needs(inputs, missing_bytes(inputs.resolution, inputs.network)):
        if not each.enough:
            reporter.warn(
                f"{each.path} has {size(each.free)} free; this compose may need up to {size(each.needed)} there"
            )

"""The import stage: loads cached packages, and imports the others on all cores."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from compose import memory
from compose.errors import PackageError
from compose.events import Reporter, Task
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import ImportCache
from compose.importer.pool import ImportPool
from compose.rpm.manifest import PackageManifest

# Bytes. Measured: 80 MB for a kernel of 6,000 files; a decompressor's window may add 128 MiB, but rarely adds over 8.
_WORKER_MEMORY = 160 << 20


def import_packages(
    rpm_files: tuple[RpmFile, ...], cache: ImportCache, jobs: int, reporter: Reporter
) -> tuple[PackageManifest, ...]:
    """Return the packages' manifests, sorted by NEVRA; their files' contents are in cache.blobs.

    jobs: processes to use, fewer if memory is short. Packages whose cached import is intact are not imported again.
    Raises PackageError for a damaged or hostile package and for one that is not what its repository called it,
    StorageError if the disk refuses.
    """
    with reporter.task("Importing packages", total=len(rpm_files), unit="packages") as task:
        known: list[RpmFile] = []
        missing: list[RpmFile] = []
        for file in rpm_files:
            (known if cache.has(file.sha256) else missing).append(file)
        with _importing(missing, cache, jobs, reporter) as futures:
            found, damaged = [], []
            # loaded while others are imported
            for file in known:
                manifest = cache.load(file.sha256)
                if manifest is None:
                    damaged.append(file)
                else:
                    found.append(_checked(file, manifest))
                    task.advance(detail=str(manifest.nevra))
            cache.hits = len(found)
            found += _completed(futures, task)
        with _importing(damaged, cache, jobs, reporter) as futures:
            found += _completed(futures, task)
    return tuple(sorted(found, key=lambda manifest: manifest.nevra))


@contextmanager
def _importing(
    rpm_files: list[RpmFile], cache: ImportCache, jobs: int, reporter: Reporter
) -> Iterator[list[Future[PackageManifest]]]:
    """Import in the background; imports that are not done when the block ends are abandoned."""
    if not rpm_files:
        yield []
        return
    count = memory.fitting(min(jobs, len(rpm_files)), _WORKER_MEMORY, "Importing", reporter)
    # largest first: begun last, it would keep one core busy long after the others are done
    queue = sorted(rpm_files, key=lambda file: (-file.package.install_size, file.package.nevra))
    with ThreadPoolExecutor(count) as threads:
        try:
            with ImportPool(count, cache) as pool:
                yield [threads.submit(_import_one, file, cache, pool) for file in queue]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _completed(futures: list[Future[PackageManifest]], task: Task) -> Iterator[PackageManifest]:
    for future in as_completed(futures):
        manifest = future.result()
        task.advance(detail=str(manifest.nevra))
        yield manifest


def _import_one(file: RpmFile, cache: ImportCache, pool: ImportPool) -> PackageManifest:
    known_blobs = pool.import_rpm(file.path, file.sha256)
    manifest = cache.load(file.sha256, new=True)
    if manifest is None:
        raise PackageError(
            f"{file.package.nevra}: its manifest is damaged right after the import; is the disk failing?"
        )
    for blob in (entry.blob for entry in manifest.files if entry.blob is not None):
        if not known_blobs or cache.blobs.path(blob) not in known_blobs:
            cache.blobs.note_made(blob)
    return _checked(file, manifest)


def _checked(file: RpmFile, manifest: PackageManifest) -> PackageManifest:
    if manifest.nevra != file.package.nevra:
        raise PackageError(f"{file.path}: is {manifest.nevra}, but its repository calls it {file.package.nevra}")
    return manifest

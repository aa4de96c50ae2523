"""The stage: all packages of a compose, those that are not in the cache shared out over all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed

from compose import memory
from compose.errors import PackageError
from compose.events import Reporter, Task
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import ImportCache
from compose.importer.pool import ImportPool
from compose.rpm.manifest import PackageManifest

# Bytes. Measured: 80 MB for a kernel of 6,000 files; a decompressor's window may take 128 MiB more, and rarely takes 8.
_WORKER_MEMORY = 160 << 20


def import_packages(
    rpm_files: tuple[RpmFile, ...], cache: ImportCache, jobs: int, reporter: Reporter
) -> tuple[PackageManifest, ...]:
    """Manifests of the packages, sorted by NEVRA; their contents are in cache.blobs.

    jobs: processes to use, where there is memory for them. What the cache has whole is taken from there. Raises
    PackageError for a damaged or hostile package and for one that is not what the repository called it, StorageError when
    the disk refuses.
    """
    found: list[PackageManifest] = []
    missing: list[RpmFile] = []
    with reporter.task("Importing packages", total=len(rpm_files), unit="packages") as task:
        for file in rpm_files:
            manifest = cache.load(file.sha256)
            if manifest is None:
                missing.append(file)
            else:
                found.append(_expected(file, manifest))
                task.advance(detail=str(manifest.nevra))
        cache.hits = len(found)
        count = memory.fitting(min(jobs, len(missing)), _WORKER_MEMORY, "Importing", reporter)
        found += _import_missing(missing, cache, count, task)
    return tuple(sorted(found, key=lambda manifest: manifest.nevra))


def _import_missing(rpm_files: list[RpmFile], cache: ImportCache, jobs: int, task: Task) -> list[PackageManifest]:
    if not rpm_files:
        return []
    # a big package begun last would keep one core busy long after the others are done
    queue = sorted(rpm_files, key=lambda file: (-file.package.install_size, file.package.nevra))
    found = []
    with ThreadPoolExecutor(jobs) as threads:
        try:
            with ImportPool(jobs, cache) as pool:
                for future in as_completed([threads.submit(_import_one, file, cache, pool) for file in queue]):
                    manifest = future.result()
                    found.append(manifest)
                    task.advance(detail=str(manifest.nevra))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return found


def _import_one(file: RpmFile, cache: ImportCache, pool: ImportPool) -> PackageManifest:
    there = pool.import_rpm(file.path, file.sha256)
    manifest = cache.load(file.sha256)
    if manifest is None:
        raise PackageError(f"{file.package.nevra}: what was imported of it is damaged already; is the disk failing?")
    store = cache.blobs
    blobs = (each.blob for each in manifest.files if each.blob is not None)
    store.made.update(blob for blob in blobs if not there or store.path(blob) not in there)
    return _expected(file, manifest)


def _expected(file: RpmFile, manifest: PackageManifest) -> PackageManifest:
    if manifest.nevra != file.package.nevra:
        raise PackageError(f"{file.path}: is {manifest.nevra}, but its repository calls it {file.package.nevra}")
    return manifest

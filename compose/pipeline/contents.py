"""From the exact packages to their contents in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from compose.architecture import foreign, host_basearch
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import ImportCache
from compose.importer.stage import import_packages
from compose.pipeline import locking
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.space import warn_of_little_space
from compose.rpm.manifest import PackageManifest
from compose.rpm.order import install_order
from compose.sandbox import emulation
from compose.workroot.probe import probe
from compose.workroot.server import Form


@contextmanager
def sandbox_checked(inputs: Inputs, options: ComposeOptions, reporter: Reporter) -> Iterator[Callable[[], object]]:
    """Probe, in the background, which form of sandbox this machine allows, and report it.

    Yields a function that waits for the probe, as leaving the context does. Both raise SandboxError, with a hint, when no
    form works. Entering raises it for packages of an architecture whose programs this machine cannot run.
    """
    if options.download_only or options.download_only_rpms:
        yield lambda: None
        return
    other = foreign(inputs.treefile.basearch)
    if other is not None and emulation.emulator_for(other) is None:
        raise emulation.missing(other, host_basearch())
    with ThreadPoolExecutor(1) as background:
        checked = background.submit(_check_sandbox, inputs.cache, reporter, other)
        yield checked.result
        checked.result()


def _check_sandbox(cache: CacheDir, reporter: Reporter, other: str | None) -> None:
    with cache.scratch() as work:
        sandbox = probe(BlobStore(cache.join("blobs")), work, other)
    reporter.info(f"Sandbox: {sandbox}" + (f", {other} emulated by {emulation.emulator_for(other)}" if other else ""))
    if sandbox.form is Form.COPY:
        reporter.warn(f"the kernel refuses an overlay in {cache.path}: every workroot is a full copy")


def fetch_packages(
    inputs: Inputs, options: ComposeOptions, reporter: Reporter, before_much: Callable[[], object] = lambda: None
) -> tuple[RpmFile, ...]:
    """The packages as verified files. before_much: called before anything large is downloaded. Raises FetchError,
    TrustError, PackageError, StorageError."""
    if not options.download_only_rpms:
        warn_of_little_space(inputs, reporter)
    files = fetch(
        inputs.resolution, inputs.access, inputs.network, reporter, jobs=options.jobs, before_much=before_much
    )
    inputs.cache.count("rpms", asked=len(files), found=sum(file.cached for file in files))
    if inputs.lock is not None:
        locking.check_keys(inputs.lock, files)
    return files


def import_files(
    inputs: Inputs, files: tuple[RpmFile, ...], options: ComposeOptions, reporter: Reporter
) -> Sequence[PackageManifest]:
    """Import the packages into the cache and return their manifests, in install order unless they are only downloaded.

    Raises PackageError, AssembleError, StorageError.
    """
    cache = ImportCache(inputs.cache.join("manifests"), inputs.store)
    with ThreadPoolExecutor(1) as background:
        order = None
        if not options.download_only:
            # loading cached manifests leaves a core idle
            order = background.submit(install_order, [(file.package.nevra, file.path) for file in files], reporter)
        manifests = import_packages(files, cache, options.jobs, reporter)
    inputs.cache.count("manifests", asked=len(files), found=cache.hits)
    if order is None:
        return manifests
    by_nevra = {manifest.nevra: manifest for manifest in manifests}
    return [by_nevra[nevra] for nevra in order.result()]

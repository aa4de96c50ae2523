"""From the exact packages to their contents in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.errors import SandboxError
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import ImportCache
from compose.importer.stage import import_packages
from compose.pipeline import locking
from compose.pipeline.flat import host_basearch
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.rpm.manifest import PackageManifest
from compose.rpm.order import install_order
from compose.workroot.probe import probe
from compose.workroot.server import Form

_RUN_TOO = {"x86_64": "i386", "aarch64": "armhfp", "ppc64": "ppc", "s390x": "s390"}
"""What else the kernel of an architecture runs."""


@contextmanager
def sandbox_checked(inputs: Inputs, options: ComposeOptions, reporter: Reporter) -> Iterator[Callable[[], object]]:
    """Find out meanwhile on which rung of the ladder programs will run, and say so. Gives a function that waits for it, as
    the end of the context does: both raise SandboxError, with the way out, when there is none. So does this for packages of an
    architecture whose programs this machine does not run."""
    if options.download_only or options.download_only_rpms:
        yield lambda: None
        return
    basearch, host = inputs.treefile.basearch, host_basearch()
    if basearch not in (host, _RUN_TOO.get(host)):
        raise SandboxError(
            f"this machine, {host}, cannot run the programs of packages for {basearch}",
            hint=f"compose on a machine of {basearch}; --dry-run, --download-only and compose plan work here",
        )
    with ThreadPoolExecutor(1) as background:
        checked = background.submit(_check_sandbox, inputs.cache, reporter)
        yield checked.result
        checked.result()


def _check_sandbox(cache: CacheDir, reporter: Reporter) -> None:
    with cache.scratch() as work:
        rung = probe(BlobStore(cache.join("blobs")), work)
    reporter.info(f"Sandbox: {rung}")
    if rung.form is Form.COPY:
        reporter.warn(f"the kernel refuses an overlay in {cache.path}: every file is copied for each workroot")


def fetch_packages(
    inputs: Inputs, options: ComposeOptions, reporter: Reporter, before_much: Callable[[], object] = lambda: None
) -> tuple[RpmFile, ...]:
    """The packages as verified files. before_much: called before more than a little is downloaded. Raises FetchError,
    TrustError, PackageError, StorageError."""
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
    """Manifests of the packages, as they are to be installed, if they are; their contents are in the cache. Raises
    PackageError, AssembleError, StorageError."""
    cache = ImportCache(inputs.cache.join("manifests"), inputs.store)
    with ThreadPoolExecutor(1) as background:
        order = None
        if not options.download_only:
            # reading what is imported already leaves a core for it
            order = background.submit(install_order, [(file.package.nevra, file.path) for file in files], reporter)
        manifests = import_packages(files, cache, options.jobs, reporter)
    inputs.cache.count("manifests", asked=len(files), found=cache.hits)
    if order is None:
        return manifests
    named = {manifest.nevra: manifest for manifest in manifests}
    return [named[nevra] for nevra in order.result()]

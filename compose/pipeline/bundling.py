"""Bundles: fetching everything a compose needs into one file, and composing from it without network."""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack

from compose import bundle, fs
from compose.bundle import Index, Source
from compose.cachedir import CacheDir
from compose.errors import UsageError
from compose.events import Reporter
from compose.layers import copy_layers
from compose.ostree.repo import Repo
from compose.pipeline.carried import Carried, carried, carry
from compose.pipeline.contents import fetch_packages
from compose.pipeline.extensions import Fetched, fetch_extensions
from compose.pipeline.inputs import Inputs, Stopwatch, gather
from compose.pipeline.options import ComposeOptions, ComposeResult
from compose.pipeline.run import compose_tree
from compose.pipeline.sources import collect, options_of
from compose.scratch import directory_beside

_NOTHING = Carried(files={}, facts={}, rpms=(), repos=())
_RPMS = "rpms"
_METADATA = "repomd"
_LAYERS = "layers"


def write_bundle(options: ComposeOptions, path: str, reporter: Reporter, *, extensions: str | None = None) -> int:
    """Fetch everything a compose of the treefile needs into a bundle at `path`; returns the number of packages.

    extensions: a file of extensions to fetch too. Raises a ComposeError; an existing file at `path` is then left as it was.
    """
    fs.check_place(path)
    with ExitStack() as stack:
        inputs = gather(options, reporter, Stopwatch(reporter), stack)
        rpms = fetch_packages(inputs, options, reporter)
        work = stack.enter_context(inputs.cache.scratch())
        extra = carry(inputs, rpms, extensions, options, work, reporter) if extensions is not None else _NOTHING
        files, facts = collect(inputs, rpms, options, work, reporter, beside=extra.repos)
        files |= extra.files
        for each in (*rpms, *extra.rpms):
            files[os.path.relpath(each.path, inputs.cache.path)] = Source(path=each.path)
        files |= _metadata(inputs)
        if inputs.layers:
            files |= _layers(inputs, os.path.join(work, _LAYERS), options, reporter)
        _write(path, files, facts | extra.facts)
        return len({each.path for each in (*rpms, *extra.rpms)})


def compose_bundle(options: ComposeOptions, path: str, reporter: Reporter) -> ComposeResult:
    """compose_tree() from a bundle, without network access whatever the options say."""
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        index = unpack_bundle(path, cache, work)
        offline = dataclasses.replace(options, cache_only=True, layer_repo=bundled_layers(index, work))
        changed, given = options_of(index, path, work, offline)
        return compose_tree(changed, reporter, given)


def fetch_bundled_extensions(
    options: ComposeOptions, path: str, output: str, *, base: str | None, rootfs: str | None, reporter: Reporter
) -> Fetched:
    """fetch_extensions() from a bundle, without network access whatever the options say."""
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        index = unpack_bundle(path, cache, work)
        changed, _ = options_of(index, path, work, dataclasses.replace(options, cache_only=True))
        extensions, locked = carried(index, path, work, changed.basearch or "")
        return fetch_extensions(changed, extensions, output, base=base, rootfs=rootfs, reporter=reporter, locked=locked)


def unpack_bundle(path: str, cache: CacheDir, work: str) -> Index:
    """Unpack a bundle into a scratch directory of the cachedir, and its packages into the cachedir itself.

    The bundle's packages are not trusted: they are verified like everything in the cachedir. Raises UsageError if there is no
    such file, FetchError if it is damaged, StorageError.
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115, closed below, where an OSError is not one of opening it
    except OSError as error:
        raise UsageError(f"cannot read the bundle {path}: {error.strerror}") from error
    with stream:
        index = bundle.unpack(stream, path, work)
    for name in index.names(_RPMS):
        place = cache.join(name)
        with fs.storage_errors(place):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            os.rename(os.path.join(work, name), place)
    return index


def bundled_layers(index: Index, directory: str) -> str | None:
    """Path of the repository with the layers of an unpacked bundle; None when it has no layers."""
    return os.path.join(directory, _LAYERS) if index.names(_LAYERS) else None


def _layers(inputs: Inputs, path: str, options: ComposeOptions, reporter: Reporter) -> dict[str, Source]:
    """The layers' commits as an archive repository, whose files need no owners or xattrs."""
    with Repo.create(path) as repo:
        copy_layers(inputs.layer_repo, inputs.layers, inputs.store, repo, options.jobs, reporter)
    names = ["config"]
    for directory, _, files in os.walk(os.path.join(path, "objects")):
        names += [os.path.relpath(os.path.join(directory, name), path) for name in files]
    return {f"{_LAYERS}/{name}": Source(path=os.path.join(path, name)) for name in names}


def _metadata(inputs: Inputs) -> dict[str, Source]:
    """The repositories' metadata as cached by libdnf5, so that other packages can be solved; nothing when all are locked."""
    files: dict[str, Source] = {}
    known = {repo.id for repo in inputs.resolution.repos}
    top = inputs.network.metadata_dir
    for name in sorted(os.listdir(top)) if not inputs.resolution.locked else ():
        directory = os.path.join(top, name, "repodata")
        # ID-0123456789abcdef; the digits are a hash of its location
        if name.rpartition("-")[0] in known and os.path.isdir(directory):
            for file in os.listdir(directory):
                files[f"{_METADATA}/{name}/repodata/{file}"] = Source(path=os.path.join(directory, file))
    return files


def _write(path: str, files: dict[str, Source], facts: dict[str, object]) -> None:
    with directory_beside(path, ".compose-bundle-") as scratch, fs.storage_errors(path):
        unfinished = os.path.join(scratch, "bundle")
        with open(unfinished, "xb") as stream:
            bundle.write(stream, files, facts)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(unfinished, path)

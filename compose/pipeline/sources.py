"""The sources of a compose as relocatable files, and the options to compose from them.

    treefile/...                            the treefile and all files that it names, in their relative places
    root/etc/yum.repos.d/compose.repo       the repositories that were used, without passwords
    root/keys/ID-N.asc                      their keys
    compose.lock.yaml                       the exact packages

A bundle (bundling.py) adds the packages; the record of a commit (verifying.py) adds the inputs of its metadata.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import compose
from compose import fs
from compose.bundle import Index, Source
from compose.errors import FetchError, UsageError
from compose.events import Reporter
from compose.fetch.keys import read_key_file
from compose.fetch.repofiles import format_sections, portable
from compose.fetch.rpmfile import RpmFile
from compose.lock import own
from compose.lock.model import Lock, lock_of
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.previous import Given
from compose.pipeline.requests import known_files
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import RepoSnapshot, advisories_of
from compose.treefile.known import KnownFiles
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile

TREEFILE = "treefile"
_ROOT = "root"
_REPOS = f"{_ROOT}/etc/yum.repos.d"
LOCK = "compose.lock.yaml"


def collect(
    inputs: Inputs,
    rpms: Sequence[RpmFile],
    options: ComposeOptions,
    work: str,
    reporter: Reporter,
    *,
    beside: Sequence[RepoSnapshot] = (),
) -> tuple[dict[str, Source], dict[str, Any]]:
    """The sources by path, and facts about them.

    work: an existing directory, where the relocated treefile is tried. beside: repositories of packages outside the tree.
    Raises UsageError when the treefile cannot be relocated.
    """
    top, files = treefile_files(inputs.loaded, options, os.path.join(work, "sources"))
    repos = {each.id: each for each in (*inputs.resolution.repos, *beside)}
    used = {*(each.id for each in beside), *(each.package.repo for each in rpms)}
    files |= repositories(inputs.access, inputs.network, repos.values(), used, reporter)
    part = lock_of(inputs.request, inputs.resolution, {each.package.nevra: each.key for each in rpms})
    lock = own.format_lock(Lock(arches={inputs.treefile.basearch: part}))
    files[LOCK] = Source(data=lock.encode())
    facts = {
        "compose": compose.__version__,
        "treefile": top,
        "basearch": inputs.treefile.basearch,
        "lockfile-repos": inputs.given.lockfile_repos,
        "layers": {each.ref: each.commit for each in inputs.layers},
    }
    return files, facts


def options_of(index: Index, name: str, directory: str, options: ComposeOptions) -> tuple[ComposeOptions, Given]:
    """Turn `options` into ones that compose from sources unpacked in a directory. name: for messages. Raises FetchError."""
    facts = index.facts
    try:
        top = str(facts["treefile"])
        given = Given(
            # records of earlier versions, whose locks have none
            advisories=advisories_of(facts.get("advisories", [])),
            lockfile_repos=bool(facts["lockfile-repos"]),
            layers={str(ref): str(commit) for ref, commit in facts["layers"].items()},
            directory=directory,
        )
        if top not in index.names(TREEFILE):
            raise ValueError(f"has no {top}")
        changed = dataclasses.replace(
            options,
            treefile=os.path.join(directory, top),
            basearch=str(facts["basearch"]),
            source_root=os.path.join(directory, _ROOT),
            lockfiles=(os.path.join(directory, LOCK),),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FetchError(f"{name}: the facts are damaged: {error}", hint="create it again") from error
    return changed, given


def treefile_files(loaded: LoadedTreefile, options: ComposeOptions, trial: str) -> tuple[str, dict[str, Source]]:
    """The path of the treefile among the sources, and the files: itself and all that it names.

    trial: a directory to create, where the relocated treefile is tried. Raises UsageError when the treefile cannot be
    relocated.
    """
    paths = {os.path.abspath(each.path): each for each in loaded.files}
    common = os.path.commonpath([os.path.dirname(path) for path in paths])

    def place(path: str) -> str:
        return f"{TREEFILE}/{os.path.relpath(path, common)}"

    files = {place(path): Source(data=each.data, mode=each.mode) for path, each in paths.items()}
    top = place(os.path.abspath(options.treefile))
    _check_relocatable(loaded, top, files, trial, known_files(options))
    return top, files


def _check_relocatable(
    original: LoadedTreefile, top: str, files: Mapping[str, Source], directory: str, known: KnownFiles
) -> None:
    """Raise UsageError unless the treefile means the same in another directory: absolute paths, for one, lead back."""
    for path, source in files.items():
        place = os.path.join(directory, path)
        with fs.storage_errors(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            fs.atomic_write(place, source.data or b"", source.mode, fsync=False)
    loaded = load_treefile(os.path.join(directory, top), basearch=original.treefile.basearch, known=known)
    outside = [each.path for each in loaded.files if not os.path.abspath(each.path).startswith(f"{directory}/")]
    before, after = ((each.deciding_keys, each.deciding_files) for each in (original, loaded))
    if outside or before != after:
        raise UsageError(
            f"the treefile cannot be relocated: {outside[0] if outside else 'its includes'} would not be found elsewhere",
            hint="name files relative to the treefile that names them",
        )


def repositories(
    access: RepoAccess,
    network: RepoNetwork,
    repos: Iterable[RepoSnapshot],
    used: Container[str],
    reporter: Reporter,
    *,
    name: str = "compose.repo",
    enabled: bool = True,
) -> dict[str, Source]:
    """A .repo file with the repositories that `access` enables, and the keys of the used ones. enabled: see
    format_sections()."""
    files: dict[str, Source] = {}
    keys: dict[str, list[str]] = {}
    for repo in repos:
        for number, url in enumerate(repo.gpgkeys if repo.gpgcheck and repo.id in used else ()):
            path = f"keys/{repo.id}-{number}.asc"
            # still cached from the verification of the packages
            data = read_key_file(url, repo, access, network)
            files[f"{_ROOT}/{path}"] = Source(data=data)
            # searched below the source root first
            keys.setdefault(repo.id, []).append(f"file:///{path}")
    sections = portable(access, network, reporter)
    files[f"{_REPOS}/{name}"] = Source(data=format_sections(sections, keys, enabled=enabled).encode())
    return files

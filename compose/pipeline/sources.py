"""What decides a compose, as files that can be carried elsewhere, and a compose made of them.

    treefile/...                            the treefile and all files that it names, as they lie to each other
    root/etc/yum.repos.d/compose.repo       the repositories that took part, without passwords
    root/keys/ID-N.asc                      their keys
    compose.lock.yaml                       the exact packages

A bundle (bundling.py) adds the packages, the record of a commit (verifying.py) what its metadata came from.
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
from compose.pipeline.facts import advisories_of
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.previous import Given
from compose.pipeline.requests import known_files
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import RepoSnapshot
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
    """Files of a bundle by path, and its facts. work: an existing directory for a trial. beside: repositories that packages
    come from which are not of the tree.

    Raises UsageError when the treefile cannot be carried elsewhere.
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
        "advisories": [dataclasses.asdict(each) for each in inputs.resolution.advisories],
    }
    return files, facts


def options_of(index: Index, name: str, directory: str, options: ComposeOptions) -> tuple[ComposeOptions, Given]:
    """How to compose what was unpacked into a directory, `options` saying where and how. Raises FetchError."""
    facts = index.facts
    try:
        top = str(facts["treefile"])
        given = Given(
            advisories=advisories_of(facts["advisories"]),
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
        raise FetchError(f"{name}: what it says of itself is damaged: {error}", hint="make it anew") from error
    return changed, given


def treefile_files(loaded: LoadedTreefile, options: ComposeOptions, trial: str) -> tuple[str, dict[str, Source]]:
    """The place of the treefile among the files of a bundle, and these: it and all that it names. trial: an absent directory.

    Raises UsageError when the treefile cannot be carried elsewhere.
    """
    paths = {os.path.abspath(each.path): each for each in loaded.files}
    common = os.path.commonpath([os.path.dirname(path) for path in paths])

    def place(path: str) -> str:
        return f"{TREEFILE}/{os.path.relpath(path, common)}"

    files = {place(path): Source(data=each.data, mode=each.mode) for path, each in paths.items()}
    top = place(os.path.abspath(options.treefile))
    _try(loaded, top, files, trial, known_files(options))
    return top, files


def _try(original: LoadedTreefile, top: str, files: Mapping[str, Source], directory: str, known: KnownFiles) -> None:
    """Does the treefile mean the same in another place? An absolute path in it, for one, leads back to the first."""
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
            f"the treefile cannot be carried elsewhere: {outside[0] if outside else 'its includes'} would not be found there",
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
    """A .repo file of the repositories that access enables, and the keys of those that are used. enabled: as of
    format_sections()."""
    files: dict[str, Source] = {}
    keys: dict[str, list[str]] = {}
    for repo in repos:
        for number, url in enumerate(repo.gpgkeys if repo.gpgcheck and repo.id in used else ()):
            path = f"keys/{repo.id}-{number}.asc"
            # it was here a moment ago, when the packages were verified
            data = read_key_file(url, repo, access, network)
            files[f"{_ROOT}/{path}"] = Source(data=data)
            # looked for beneath the source root first
            keys.setdefault(repo.id, []).append(f"file:///{path}")
    sections = portable(access, network, reporter)
    files[f"{_REPOS}/{name}"] = Source(data=format_sections(sections, keys, enabled=enabled).encode())
    return files

"""Extensions in a bundle: solved on top of the bundle's packages, and available without network.

extensions/NAME                         the file of extensions
extensions.lock.yaml                    its exact packages
root/etc/yum.repos.d/extensions.repo    repositories that only extensions use
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compose import fs
from compose.bundle import Index, Source
from compose.errors import FetchError
from compose.events import Reporter
from compose.extensions import on_base
from compose.fetch.fetcher import fetch
from compose.fetch.rpmfile import RpmFile
from compose.lock import own
from compose.lock.model import Lock, lock_of
from compose.pipeline.extensions import Locked, newest, read_extensions, request_of_extensions, solve_extensions
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.sources import repositories
from compose.rpm.database import DATABASE_PATH, make_database, read_headers
from compose.rpm.repos import enabled_repos
from compose.solve.resolution import RepoSnapshot

_FILES = "extensions"
_LOCK = "extensions.lock.yaml"
_REPOS = "extensions.repo"
_FACT = "extensions"
_HINT = "create the bundle again: compose fetch TREEFILE --bundle=FILE --extensions=FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What extensions add to a bundle.

    files: by path in the bundle, without the packages. facts: added to the bundle's index. rpms: the packages, verified.
    repos: the repositories that the packages come from.
    """

    files: dict[str, Source]
    facts: dict[str, Any]
    rpms: tuple[RpmFile, ...]
    repos: tuple[RepoSnapshot, ...]


def carry(
    inputs: Inputs, rpms: Sequence[RpmFile], path: str, options: ComposeOptions, work: str, reporter: Reporter
) -> Carried:
    """Solve and fetch the extensions in the file at `path`, for a bundle.

    rpms: the packages of the tree that the extensions are for. work: an existing directory. Raises a ComposeError.
    """
    extensions = read_extensions(path, reporter)
    nevras = [each.package.nevra for each in rpms]
    chosen = on_base(extensions, inputs.treefile.basearch, newest(nevras))
    root = os.path.join(work, "base")
    _make_database(rpms, root, reporter)
    request = request_of_extensions(options, inputs.loaded, chosen)
    enabled = tuple(section.id for section in enabled_repos(request.access))
    request = replace(request, access=replace(request.access, repos=enabled))
    resolution = solve_extensions(request, chosen, root, inputs.network, reporter)
    found = fetch(resolution, request.access, inputs.network, reporter, jobs=options.jobs)
    part = lock_of(request, resolution, {each.package.nevra: each.key for each in found})
    files = {_LOCK: Source(data=own.format_lock(Lock(arches={inputs.treefile.basearch: part})).encode())}
    used = {each.package.repo for each in found}
    repos = tuple(repo for repo in resolution.repos if repo.id in used)
    of_tree = {section.id for section in enabled_repos(inputs.access)}
    if extra := tuple(each for each in enabled if each not in of_tree):
        access = replace(request.access, repos=extra)
        # disabled, so that a treefile that names no repositories does not take packages from them
        files |= repositories(access, inputs.network, repos, used, reporter, name=_REPOS, enabled=False)
    place = f"{_FILES}/{os.path.basename(path)}"
    files[place] = Source(path=path)
    facts = {_FACT: {"file": place, "base": sorted(map(str, nevras)), "repos": list(enabled)}}
    return Carried(files=files, facts=facts, rpms=found, repos=repos)


def carried(index: Index, name: str, directory: str, basearch: str) -> tuple[str, Locked]:
    """The path of the extensions file in an unpacked bundle, and its locked packages.

    name: of the bundle, for messages. directory: where it was unpacked. Raises FetchError for a bundle without extensions, or
    a damaged one.
    """
    if _FACT not in index.facts:
        raise FetchError(f"{name} has no extensions", hint=_HINT)
    try:
        found = index.facts[_FACT]
        path = str(found["file"])
        if path not in index.names(_FILES):
            raise ValueError(f"has no {path}")
        with open(os.path.join(directory, _LOCK), "rb") as file:
            lock = own.parse_lock(file.read(), _LOCK)
        locked = Locked(
            lock=lock.arches[basearch],
            base=tuple(map(str, found["base"])),
            repos=tuple(map(str, found["repos"])),
            place=name,
        )
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise FetchError(
            f"{name}: the list of extensions is damaged: {error}",
            hint=_HINT,
        ) from error
    return os.path.join(directory, path), locked


def _make_database(rpms: Sequence[RpmFile], root: str, reporter: Reporter) -> None:
    """The rpm database that the tree will have, as far as the solver reads it."""
    directory, scratch = os.path.join(root, DATABASE_PATH), f"{root}.new"
    with fs.storage_errors(root):
        os.makedirs(directory)
        os.mkdir(scratch)
    headers = read_headers([each.path for each in rpms], reporter)
    database = make_database(headers, scratch, states={}, epoch=0)
    with fs.storage_errors(directory), open(os.path.join(directory, "rpmdb.sqlite"), "wb") as file:
        file.write(database)

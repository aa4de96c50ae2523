"""The sources of a commit: keeping them beside it, and composing from them again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import compose
from compose import bindings, records
from compose.bundle import Index, Source
from compose.errors import ComposeError, FetchError, UsageError
from compose.events import Reporter
from compose.fetch.rpmfile import RpmFile
from compose.inputhash import Input, InputChange, InputKind, input_changes
from compose.ostree.repo import Repo
from compose.pipeline import beside
from compose.pipeline.facts import Facts
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.previous import Accounts, Given
from compose.pipeline.sources import TREEFILE, collect, options_of, treefile_files
from compose.treefile.model import LoadedTreefile

_ACCOUNTS = "accounts"
_METADATA = "metadata"

Sources = tuple[dict[str, Source], dict[str, Any]]
"""Files by path, and facts about them."""


def keep_sources(
    repo: Repo,
    sources: Future[Sources],
    options: ComposeOptions,
    commit: str,
    facts: Facts,
    parent: str | None,
    reporter: Reporter,
) -> None:
    """Keep the sources of a commit for `compose verify`.

    sources: the result of sources_of(). Errors are reported as warnings, for a commit is worth more.
    """
    with _errors_as_warnings(reporter):
        _keep(repo, *sources.result(), options, commit, facts, parent)


def leave_sources(
    inputs: Inputs,
    accounts: Accounts,
    rpms: Sequence[RpmFile],
    options: ComposeOptions,
    rootfs: str,
    reporter: Reporter,
) -> None:
    """Keep the sources of a root beside its directory, for when it is committed. Errors are reported as warnings."""
    beside.remove_sources(rootfs)
    with _errors_as_warnings(reporter), inputs.cache.scratch() as work:
        beside.write_sources(rootfs, *sources_of(inputs, accounts, rpms, options, work, reporter))


def keep_sources_of_root(
    repo: Repo,
    rootfs: str,
    loaded: LoadedTreefile,
    options: ComposeOptions,
    commit: str,
    facts: Facts,
    parent: str | None,
    work: str,
    reporter: Reporter,
) -> None:
    """Keep what leave_sources() left beside a root as the sources of its commit, but with the current treefile, which also
    determines metadata. Errors are reported as warnings."""
    with _errors_as_warnings(reporter):
        unpacked = os.path.join(work, "unpacked")
        os.mkdir(unpacked, 0o700)
        index = beside.unpack_sources(rootfs, unpacked)
        if index is None:
            raise UsageError("compose install left no sources beside the root")
        top, files = treefile_files(loaded, options, os.path.join(work, "sources"))
        for each in index.members:
            if not each.path.startswith(f"{TREEFILE}/"):
                files[each.path] = Source(path=os.path.join(unpacked, each.path), mode=each.mode)
        _keep(repo, files, {**index.facts, "treefile": top}, options, commit, facts, parent)


@contextmanager
def _errors_as_warnings(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except (ComposeError, OSError) as error:
        reporter.warn(f"the sources are not kept, and compose verify will not work for this commit: {error}")


def _tools() -> dict[str, str]:
    return {"compose": compose.__version__, **bindings.versions()}


def changed_tools(index: Index, name: str) -> tuple[InputChange, ...]:
    """Tools whose versions differ from those recorded with a commit; none if the record has no versions. Raises FetchError."""
    try:
        before, after = (
            [Input(kind=InputKind.TOOL, name=str(tool), value=str(version)) for tool, version in tools.items()]
            for tools in (index.facts.get("tools", _tools()), _tools())
        )
    except AttributeError as error:
        raise FetchError(f"{name}: the list of tools is damaged: {error}") from error
    return input_changes(before, after)


def sources_of(
    inputs: Inputs, accounts: Accounts, rpms: Sequence[RpmFile], options: ComposeOptions, work: str, reporter: Reporter
) -> Sources:
    """The sources of a compose. work: an existing directory. Raises ComposeError when they cannot be relocated."""
    files, about = collect(inputs, rpms, options, work, reporter)
    files |= {f"{_ACCOUNTS}/{name}": Source(data=data) for name, data in accounts.items()}
    return files, {**about, "tools": _tools()}


def _keep(
    repo: Repo,
    files: dict[str, Source],
    about: dict[str, Any],
    options: ComposeOptions,
    commit: str,
    facts: Facts,
    parent: str | None,
) -> None:
    for number, path in enumerate(options.metadata_files):
        files[f"{_METADATA}/{number}.json"] = Source(path=path)
    about["commit"] = {
        "epoch": facts.epoch,
        "version": facts.version,
        "parent": parent,
        "selinux": not options.disable_selinux,
        "metadata": [list(pair) for pair in options.metadata_strings],
    }
    records.keep_sources(repo, commit, files, about)


def rebuild_options(index: Index, name: str, directory: str, options: ComposeOptions) -> tuple[ComposeOptions, Given]:
    """Options to make a commit again from its sources, unpacked in a directory. Raises FetchError for a damaged record."""
    changed, given = options_of(index, name, directory, options)
    try:
        commit = index.facts["commit"]
        version = None if commit["version"] is None else str(commit["version"])
        strings = {str(key): str(value) for key, value in commit["metadata"]}
        changed = dataclasses.replace(
            changed,
            source_date_epoch=int(commit["epoch"]),
            parent=commit["parent"],
            no_parent=commit["parent"] is None,
            disable_selinux=not commit["selinux"],
            # an automatic version must not be incremented again
            metadata_strings=tuple((strings if version is None else strings | {"version": version}).items()),
            metadata_files=tuple(os.path.join(directory, each) for each in index.names(_METADATA)),
            force_nocache=True,
            sign=False,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FetchError(f"{name}: the options of the commit are damaged: {error}") from error
    accounts = {}
    for path in index.names(_ACCOUNTS):
        with open(os.path.join(directory, path), "rb") as file:
            accounts[os.path.basename(path)] = file.read()
    return changed, dataclasses.replace(given, accounts=accounts)

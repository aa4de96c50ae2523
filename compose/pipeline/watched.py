"""The local files that determine a compose, polled for changes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from compose.architecture import host_basearch
from compose.errors import ComposeError
from compose.ostree.refs import is_checksum
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import known_files, repo_access
from compose.rpm.repofile import RepoSection, absolute, local_path
from compose.rpm.repos import RepoAccess, enabled_repos, key_paths, variables
from compose.treefile.load import load_treefile, named_files
from compose.treefile.model import LoadedTreefile

_REPOMD = "repodata/repomd.xml"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)

Seen = dict[str, tuple[int, ...] | None]
"""By path, what identifies the state of a file; None for a missing one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What to watch. files: paths, existing or not. directories: (path, suffix of the names in it to watch)."""

    files: frozenset[str]
    directories: frozenset[tuple[str, str]]

    def look(self) -> Seen:
        """The current state of all files."""
        seen = {path: _state(path) for path in self.files}
        for directory, suffix in self.directories:
            for path in _names(directory, suffix):
                # a dangling symlink differs from a missing file
                seen[path] = _state(path) or ()
        return seen


def watched(options: ComposeOptions) -> Watched:
    """The files that a compose with these options reads: the treefile and all files that it names, .repo files and variables,
    keys and metadata of local package repositories, lockfiles, layers.

    For a treefile with errors: the files read until they were found.
    """
    basearch, known = options.basearch or host_basearch(), known_files(options)
    files, programs = named_files(options.treefile, basearch=basearch, known=known)
    directories = {(each, "") for each in programs}
    found = {*files, *options.lockfiles, *options.metadata_files}
    try:
        loaded = load_treefile(options.treefile, basearch=basearch, known=known)
    except ComposeError:
        return Watched(files=frozenset(found), directories=frozenset(directories))
    access = repo_access(options, loaded, with_lockfile=bool(options.lockfiles))
    directories |= {(each, ".repo") for each in (*access.repo_dirs, *access.override_dirs)}
    directories |= {(each, "") for each in access.vars_dirs}
    found |= {each.path for each in loaded.treefile.rpm_files if each.path is not None}
    found.update(_layers(options, loaded))
    try:
        values = variables(access)
        found.update(path for section in enabled_repos(access) for path in _of_repo(section, values, access))
    except ComposeError:
        # the compose reports it, and the fix is in one of the files above
        pass
    return Watched(files=frozenset(found), directories=frozenset(directories))


def changed(before: Seen, now: Seen) -> tuple[str, ...]:
    """Paths whose state differs, sorted."""
    return tuple(sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)))


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def _names(directory: str, suffix: str) -> Iterator[str]:
    """Paths in a directory, without the lock files that Emacs keeps while a buffer has unsaved changes."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if not name.startswith(".#") and name.endswith(suffix):
            yield os.path.join(directory, name)


def _layers(options: ComposeOptions, loaded: LoadedTreefile) -> Iterator[str]:
    """Files of the layers' refs; none in the preview repository, where only this compose commits."""
    repo = options.layer_repo or options.repo
    treefile = loaded.treefile
    for ref in (*treefile.ostree_layers, *treefile.ostree_override_layers):
        if repo is not None and not is_checksum(ref):
            yield os.path.join(repo, "refs/heads", ref)


def _of_repo(section: RepoSection, values: dict[str, str], access: RepoAccess) -> Iterator[str]:
    """Local files of a package repository."""
    for key in ("baseurl", "gpgkey", "mirrorlist", "metalink"):
        option = section.option(key)
        if option is None:
            continue
        text = _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), option.value)
        for url in absolute(key, text, os.path.dirname(option.path)).split():
            if (path := local_path(url)) is None:
                continue
            match key:
                case "baseurl":
                    yield os.path.join(path, _REPOMD)
                case "gpgkey":
                    yield from key_paths(path, access)
                case _:
                    yield path

"""`compose verify`: a commit made again of what is recorded of it, and compared."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from compose import records
from compose.cachedir import CacheDir
from compose.diff import PathChange, diff_commits
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.inputdiff import InputChange, input_changes
from compose.ostree.config import Mode
from compose.ostree.objects import COLLECTION_BINDING, COMPOSEFS_DIGEST, Commit
from compose.ostree.repo import Repo
from compose.pipeline.bundling import bundled_layers, unpack_bundle
from compose.pipeline.inspect import commit_of
from compose.pipeline.making import again, other_tools
from compose.pipeline.options import ComposeOptions
from compose.pipeline.run import compose_tree
from compose.records import Records, Run
from compose.variance import Kind, kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A path that differs. kind: of the difference in content, None when that is the same or only one has the path. writer:
    who made it, as tree.Entry says, "" when nothing tells. runs: programs that changed it, in order."""

    change: PathChange
    kind: Kind | None
    writer: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of it. commit, rebuilt: checksums. inputs: what decided the two and was not the same, versions of compose and
    of the libraries too. metadata: (key, before, after) of the commits' own data; None for what one lacks. paths: of the
    trees."""

    commit: str
    rebuilt: str
    inputs: tuple[InputChange, ...] = ()
    metadata: tuple[tuple[str, object, object], ...] = ()
    paths: tuple[Difference, ...] = ()

    @property
    def equal(self) -> bool:
        return self.commit == self.rebuilt


def verify(
    repository: str, revision: str, options: ComposeOptions, reporter: Reporter, *, bundle: str | None = None
) -> Verification:
    """Make a commit again, in a repository that is gone afterwards.

    options: where and how; its treefile, unless "", is composed in place of the recorded one. bundle: packages and layers
    that are taken from there. Raises a ComposeError: RepositoryError for a commit without a record, FetchError when packages
    are no longer to be had.
    """
    with (
        Repo.open(repository) as repo,
        CacheDir(options.cachedir).shared(reporter) as cache,
        cache.scratch() as work,
    ):
        checksum = commit_of(repo, revision)
        sources, packages, scratch = (os.path.join(work, name) for name in ("sources", "bundle", "repo"))
        os.mkdir(sources, 0o700)
        index = records.unpack_sources(repo, checksum, sources)
        record = f"the record of {checksum}"
        tools = other_tools(index, record)
        if tools:
            told = ", ".join(f"{each.name} {each.before or 'none'}, here {each.after or 'none'}" for each in tools)
            reporter.warn(f"the commit was made with other versions: {told}")
        layers = options.layer_repo
        if bundle is not None:
            os.mkdir(packages, 0o700)
            layers = layers or bundled_layers(unpack_bundle(bundle, cache, packages), packages)
        changed, given = again(index, record, sources, options)
        if options.treefile:
            changed = dataclasses.replace(changed, treefile=options.treefile)
        with _repo_like(scratch, repo.read_commit(checksum, (COMPOSEFS_DIGEST, COLLECTION_BINDING))) as other:
            changed = dataclasses.replace(changed, repo=scratch, layer_repo=layers or repository, rerun_programs=True)
            rebuilt = compose_tree(changed, reporter, given).commit
            assert rebuilt is not None
            if rebuilt == checksum:
                return Verification(commit=checksum, rebuilt=rebuilt)
            return _compared(repo, checksum, other, rebuilt, tools)


def _repo_like(path: str, commit: Commit) -> Repo:
    """A new repository, whose config asks for what the commit says because its own did."""
    collection = commit.get(COLLECTION_BINDING)
    return Repo.create(
        path,
        Mode.BARE_USER,
        composefs=commit.get(COMPOSEFS_DIGEST) is not None,
        collection_id=collection if isinstance(collection, str) else None,
    )


def _compared(repo: Repo, commit: str, other: Repo, rebuilt: str, tools: tuple[InputChange, ...]) -> Verification:
    known = [_known(repo, commit), _known(other, rebuilt)]
    found = diff_commits(repo, commit, rebuilt, other_repo=other)
    inputs = [each.inputs for each in known if each is not None]
    changes = input_changes(*inputs) if len(inputs) == 2 else ()
    return Verification(
        commit=commit,
        rebuilt=rebuilt,
        # of compose's version both tell
        inputs=tuple(dict.fromkeys((*tools, *changes))),
        metadata=_metadata_changes(repo.read_commit(commit), other.read_commit(rebuilt)),
        paths=tuple(_difference(each, repo, commit, other, rebuilt, known) for each in found.paths),
    )


def _known(repo: Repo, commit: str) -> Records | None:
    """Records of a commit: what is missing or damaged says less, and is no reason to say nothing."""
    try:
        return records.read(repo, commit)
    except RepositoryError:
        return None


def _metadata_changes(before: Commit, after: Commit) -> tuple[tuple[str, object, object], ...]:
    def flat(commit: Commit) -> dict[str, object]:
        found: dict[str, object] = {key: variant.value for key, variant in commit.metadata}
        return found | {"(parent)": commit.parent.hex() or None, "(timestamp)": commit.timestamp}

    old, new = flat(before), flat(after)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return tuple((key, old.get(key), new.get(key)) for key in keys)


def _difference(
    change: PathChange, repo: Repo, commit: str, other: Repo, rebuilt: str, known: list[Records | None]
) -> Difference:
    kind = None
    if "content" in change.aspects and change.before is not None and change.before.kind == "file":
        contents = (repo.read_file(commit, change.path), other.read_file(rebuilt, change.path))
        kind = kind_of(contents[0] or b"", contents[1] or b"")
    records_of = [each for each in known if each is not None and change.path in each.writers]
    if not records_of:
        return Difference(change=change, kind=kind, writer="", runs=())
    return Difference(
        change=change,
        kind=kind,
        writer=records_of[0].writers[change.path],
        runs=records.runs_that_changed(records_of[0], change.path),
    )

"""`compose verify`: make a commit again from its record, and compare."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from compose import records
from compose.cachedir import CacheDir
from compose.diff import PathChange, diff_commits
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.inputhash import InputChange, input_changes
from compose.ostree.objects import COLLECTION_BINDING, COMPOSEFS_DIGEST, Commit
from compose.ostree.repo import Repo
from compose.pipeline.bundling import bundled_layers, unpack_bundle
from compose.pipeline.making import changed_tools, rebuild_options
from compose.pipeline.options import ComposeOptions
from compose.pipeline.private import open_private
from compose.pipeline.run import compose_tree
from compose.records import Records, Run
from compose.variance import Kind, kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A path that differs.

    kind: of the difference in content; None when the content is the same, or only one commit has the path. writer: see
    tree.Entry; "" when unknown. runs: programs that changed it, in order.
    """

    change: PathChange
    kind: Kind | None
    writer: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of a verification.

    commit, rebuilt: checksums. inputs: inputs that differ, including versions of compose and its libraries. metadata: (key,
    before, after) from the commit objects; None for a key that one lacks. paths: differences between the trees.
    """

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
    """Make a commit again, in a temporary repository, and compare the two.

    options: where and how to compose; its treefile, unless "", replaces the recorded one. bundle: file to take packages and
    layers from. Raises a ComposeError: RepositoryError for a commit without a record, FetchError when packages are no longer
    available.
    """
    with (
        Repo.open(repository) as repo,
        CacheDir(options.cachedir).shared(reporter) as cache,
        cache.scratch() as work,
    ):
        checksum = repo.commit_of(revision)
        sources, packages, scratch = (os.path.join(work, name) for name in ("sources", "bundle", "repo"))
        os.mkdir(sources, 0o700)
        index = records.unpack_sources(repo, checksum, sources)
        record = f"the record of {checksum}"
        tools = changed_tools(index, record)
        if tools:
            versions = ", ".join(f"{each.name} {each.before or 'none'}, here {each.after or 'none'}" for each in tools)
            reporter.warn(f"the commit was made with other versions: {versions}")
        layers = options.layer_repo
        if bundle is not None:
            os.mkdir(packages, 0o700)
            layers = layers or bundled_layers(unpack_bundle(bundle, cache, packages), packages)
        changed, given = rebuild_options(index, record, sources, options)
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
    """Create a repository whose config gives commits the same composefs digest and collection binding as `commit`."""
    return open_private(
        path,
        composefs=commit.get(COMPOSEFS_DIGEST) is not None,
        collection_id=commit.text(COLLECTION_BINDING),
    )


def _compared(repo: Repo, commit: str, other: Repo, rebuilt: str, tools: tuple[InputChange, ...]) -> Verification:
    known = [_known(repo, commit), _known(other, rebuilt)]
    found = diff_commits(repo, commit, rebuilt, other_repo=other)
    inputs = [each.inputs for each in known if each is not None]
    changes = input_changes(*inputs) if len(inputs) == 2 else ()
    return Verification(
        commit=commit,
        rebuilt=rebuilt,
        # the version of compose is in both
        inputs=tuple(dict.fromkeys((*tools, *changes))),
        metadata=_metadata_changes(repo.read_commit(commit), other.read_commit(rebuilt)),
        paths=tuple(_difference(each, repo, commit, other, rebuilt, known) for each in found.paths),
    )


def _known(repo: Repo, commit: str) -> Records | None:
    """Records of a commit; None, and so a less detailed report, when they are missing or damaged."""
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

"""Commits without parents: what a ref was before is its history all the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from compose.errors import StorageError
from compose.ostree.prune import Retention
from compose.publish import publish as publishing
from tests.compat.ostree.test_commit import ostree
from tests.compat.publish.test_publish import run
from tests.support.commits import EPOCH
from tests.support.publication import HOUR, OTHER, REF, build, history, make, objects_of, refs_of, snapshot

pytestmark = pytest.mark.root


def commits_of(repo: Path) -> set[str]:
    return {each.replace("/", "").partition(".")[0] for each in objects_of(repo) if each.endswith(".commit")}


def fresh(path: Path, content: str, age: int, ref: str = REF) -> tuple[Path, str]:
    """A repository as CI makes one for each compose, with its only commit."""
    return make(path / content), build(path / content, content, ref, age=age)


def test_of_a_fresh_repository_each_time(target: Path, tmp_path: Path) -> None:
    published = []
    how = {"retention": Retention(commits=2), "deltas": 2}
    for number, content in enumerate(("one", "two", "three", "four")):
        source, commit = fresh(tmp_path, content, 9 - number)
        before = snapshot(target)
        would = run(source, target, dry_run=True, **how)
        assert snapshot(target) == before
        done = run(source, target, **how)
        assert done.pruned == would.pruned
        # the last two that were published are kept, and what had been published before led to this one
        assert [each.source for each in done.deltas] == [each.source for each in would.deltas] == published[-2:][::-1]
        published.append(commit)
        assert commits_of(target) == set(published[-2:])
    assert refs_of(target) == {REF: published[-1]}
    assert {path.name for path in (target / "extensions/compose/published").iterdir()} == set(published[-2:])
    ostree(target, "fsck")


def test_what_another_publication_published_meanwhile_is_history_too(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {content: fresh(tmp_path, content, age) for age, content in ((9, "one"), (8, "two"), (7, "three"))}
    run(sources["one"][0], target)
    copy = publishing.copy_missing

    def late(*how: Any) -> None:
        monkeypatch.setattr(publishing, "copy_missing", copy)
        run(sources["two"][0], target)
        copy(*how)

    monkeypatch.setattr(publishing, "copy_missing", late)
    run(sources["three"][0], target, retention=Retention(commits=2))
    assert commits_of(target) == {sources["two"][1], sources["three"][1]}


def test_by_age(target: Path, tmp_path: Path) -> None:
    published = []
    for number, content in enumerate(("one", "two", "three", "four")):
        source, commit = fresh(tmp_path, content, 9 - number)
        published.append(commit)
        run(source, target, retention=Retention(since=EPOCH - 7 * HOUR))
    assert commits_of(target) == set(published[2:])


def test_what_lies_between_is_gone_from_the_source(target: Path, tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    commits = history(source, *"abcdef")
    for number in (1, 3):
        run(source, target, f"{REF}={commits[number]}")
    alone = make(tmp_path / "alone")
    ostree(alone, "pull-local", str(source), commits[5])
    done = run(alone, target, f"{REF}={commits[5]}", retention=Retention(commits=2))
    assert done.pruned is not None
    assert done.pruned.commits == (commits[1],)


def test_of_a_ref_that_keeps_everything(target: Path, tmp_path: Path) -> None:
    kept = set()
    for number, content in enumerate(("one", "two", "three")):
        source, commit = fresh(tmp_path, content, 9 - number)
        kept.add(commit)
        run(source, target)
    source, other = fresh(tmp_path, "other", 1, OTHER)
    run(source, target, OTHER, retention=Retention(commits=1))
    assert commits_of(target) == {*kept, other}


def test_back_and_forth(target: Path, tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    one, two = history(source, "one", "two")
    for commit in (one, two, one, two):
        run(source, target, f"{REF}={commit}", allow_downgrade=True, retention=Retention(commits=2))
    assert commits_of(target) == {one, two}


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\n", b"nothing of the kind\n", b"abc os/x86_64/main\n", "fifo", "device", "directory"]
)
def test_a_damaged_record_ends_the_history(damage: bytes | str, target: Path, tmp_path: Path) -> None:
    commits = []
    for number, content in enumerate(("one", "two")):
        source, commit = fresh(tmp_path, content, 9 - number)
        commits.append(commit)
        run(source, target)
    record = target / "extensions/compose/published" / commits[1]
    record.unlink()
    match damage:
        case bytes():
            record.write_bytes(damage)
        case "fifo":
            os.mkfifo(record)
        case "device":
            record.symlink_to("/dev/zero")
        case _:
            record.mkdir()
    run(source, target, retention=Retention(commits=2))
    assert commits_of(target) == {commits[1]}


@pytest.mark.parametrize("what", ["file", "dangling", "record"])
def test_something_in_the_place_of_records(what: str, target: Path, tmp_path: Path) -> None:
    first, one = fresh(tmp_path, "one", 9)
    run(first, target)
    source, two = fresh(tmp_path, "two", 8)
    top = target / "extensions/compose/published"
    top.parent.mkdir(parents=True)
    match what:
        case "file":
            top.write_text("")
        case "dangling":
            top.symlink_to("nowhere")
        case _:
            (top / two).mkdir(parents=True)
            (top / ("0" * 64)).mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*published"):
        run(source, target)
    assert refs_of(target) == {REF: one}
    # neither is it in the way of pruning
    run(first, target, retention=Retention(commits=1))
    assert commits_of(target) == {one}


def test_a_rollback_does_not_cut_off_what_was_before(target: Path, tmp_path: Path) -> None:
    published = [fresh(tmp_path, content, 9 - number) for number, content in enumerate(("one", "two", "three", "four"))]
    commits = [commit for _, commit in published]
    for source, _ in (*published, published[2]):
        run(source, target, allow_downgrade=True)
    how: dict[str, Any] = {"retention": Retention(commits=3), "deltas": 3}
    would = run(published[2][0], target, dry_run=True, **how)
    done = run(published[2][0], target, **how)
    assert done.pruned == would.pruned
    assert commits_of(target) == set(commits[1:])
    # the latest first, whether they came before or after
    assert [each.source for each in done.deltas] == [commits[3], commits[1], commits[0]]


def test_the_latest_are_kept_whether_parents_or_not(target: Path, tmp_path: Path) -> None:
    one_source, one = fresh(tmp_path, "one", 9)
    two_source, two = fresh(tmp_path, "two", 8)
    three = build(one_source, "three", age=7, parent=one)
    run(one_source, target, f"{REF}={one}")
    run(two_source, target)
    would = run(one_source, target, dry_run=True, retention=Retention(commits=2))
    done = run(one_source, target, retention=Retention(commits=2))
    assert done.pruned == would.pruned
    # the parent was published before the one that this replaces
    assert commits_of(target) == {two, three}

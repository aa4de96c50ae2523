"""What a publication removes: that which the real `ostree prune` does, told the same, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from compose import fs, records
from compose.errors import RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree.delta.index import list_deltas
from compose.ostree.prune import Retention, find_doomed, remove
from compose.ostree.repo import Repo
from compose.records import Records
from tests.compat.ostree.test_commit import ostree
from tests.compat.publish.test_publish import run
from tests.support.commits import EPOCH
from tests.support.publication import HOUR, OTHER, REF, build, history, make, objects_of, refs_of, snapshot

pytestmark = pytest.mark.root


@pytest.fixture
def target(tmp_path: Path, source: Path) -> Path:
    """Four commits of one ref, three of another, one that was pulled from elsewhere, one without a ref."""
    target = make(tmp_path / "srv")
    history(source, "one", "two", "three", "four")
    history(source, "five", "six", "seven", ref=OTHER)
    run(source, target, REF, OTHER, depth=-1)
    pulled = build(source, "eight", "pulled")
    ostree(target, "pull-local", "--remote=far", str(source), pulled)
    (target / "refs/remotes/far").mkdir(exist_ok=True)
    (target / "refs/remotes/far/pulled").write_text(f"{pulled}\n")
    ostree(target, "pull-local", str(source), build(source, "ten", "lonely"))
    return target


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_as_the_real_tool(keep: int, source: Path, target: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(target, theirs, symlinks=True)
    ostree(theirs, "prune", "--refs-only", f"--only-branch={REF}", f"--depth={keep - 1}")
    before = objects_of(target)
    sizes = {path: path.stat().st_size for path in target.glob("objects/*/*")}
    done = run(source, target, retention=Retention(commits=keep))
    assert done.pruned is not None
    assert objects_of(target) == objects_of(theirs)
    assert done.pruned.size == sum(size for path, size in sizes.items() if not path.exists())
    assert list(done.pruned.commits) == sorted(done.pruned.commits)
    assert len(before - objects_of(target)) == len(done.pruned.commits) + len(done.pruned.objects)
    # three of the ref at most, and the one that no ref leads to
    assert len(done.pruned.commits) == max(0, 4 - keep) + 1
    ostree(target, "fsck")
    assert refs_of(target).keys() == {REF, OTHER}
    again = run(source, target, retention=Retention(commits=keep)).pruned
    assert again is not None
    assert not again.commits
    assert not again.objects


def test_each_object_is_read_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Repo._read_decoded

    def counted(repo: Repo, checksum: str, extension: str, decode: Any) -> Any:
        read.append(f"{checksum}.{extension}")
        return original(repo, checksum, extension, decode)

    monkeypatch.setattr(Repo, "_read_decoded", counted)
    with Repo.open(str(target)) as repo:
        find_doomed(repo, {REF: Retention(commits=2)})
    assert sum(name.endswith(".commit") for name in read) >= 7
    assert sorted(set(read)) == sorted(read)


def test_what_is_mirrored_stays(source: Path, target: Path) -> None:
    """`ostree prune` has it go when it is told of one ref, and stay when it is told of none."""
    mirrored = build(source, "nine", "mirrored")
    ostree(target, "pull-local", str(source), mirrored)
    (target / "refs/mirrors/org.example.Os").mkdir(parents=True)
    (target / "refs/mirrors/org.example.Os/mirrored").write_text(f"{mirrored}\n")
    run(source, target, retention=Retention(commits=9))
    ours = objects_of(target)
    assert f"{mirrored[:2]}/{mirrored[2:]}.commit" in ours
    ostree(target, "prune", "--refs-only")
    assert objects_of(target) == ours


def test_by_age_as_the_real_tool(source: Path, target: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(target, theirs, symlinks=True)
    since = EPOCH - 3 * HOUR
    day = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(since - 1))
    ostree(theirs, "prune", "--refs-only", f"--only-branch={REF}", f"--keep-younger-than={day}")
    run(source, target, retention=Retention(since=since))
    assert objects_of(target) == objects_of(theirs)
    # whichever keeps more
    done = run(source, target, retention=Retention(since=since + 2 * HOUR, commits=2))
    assert done.pruned is not None
    assert len(done.pruned.commits) == 1
    ostree(target, "fsck")


def test_without_being_asked_nothing_goes(source: Path, target: Path) -> None:
    before = objects_of(target)
    assert run(source, target).pruned is None
    assert objects_of(target) == before


def test_commits_that_were_not_published_are_no_end_of_history(source: Path, tmp_path: Path) -> None:
    """Composed every day, published every other one: the last two that were are kept, and not one."""
    target = make(tmp_path / "other")
    commits = history(source, *"abcdef")
    for number in (1, 3):
        run(source, target, f"{REF}={commits[number]}")
    how = {"retention": Retention(commits=2)}
    would = run(source, target, dry_run=True, **how).pruned
    done = run(source, target, **how).pruned
    assert would == done
    assert done is not None
    assert done.commits == (commits[1],)
    assert refs_of(target)[REF] == commits[5]
    ostree(target, "show", commits[3])
    ostree(target, "fsck")
    # of a ref that keeps all of it, too
    build(source, "other", OTHER)
    run(source, target, OTHER, **how)
    ostree(target, "show", commits[3])


def test_tombstones(source: Path, target: Path) -> None:
    with (target / "config").open("a") as config:
        config.write("tombstone-commits=true\n")
    done = run(source, target, retention=Retention(commits=2))
    assert done.pruned is not None
    for commit in done.pruned.commits:
        assert (target / f"objects/{commit[:2]}/{commit[2:]}.tombstone-commit").exists()
    ostree(target, "fsck", "--add-tombstones")
    # they go when the commits come again
    run(source, target, depth=-1)
    with Repo.open(str(target)) as opened:
        for number in range(4):
            commit = opened.resolve(f"{REF}{'^' * number}") or ""
            assert opened.has(commit, "commit")
            assert not opened.has(commit, "tombstone-commit")


def test_deltas_go_when_no_summary_has_them(source: Path, target: Path) -> None:
    with Repo.open(str(target)) as opened:
        tips = [opened.resolve(f"{REF}{'^' * number}") for number in range(4)]
    for new, old in ((0, 1), (0, 2), (2, 3)):
        ostree(target, "static-delta", "generate", f"--from={tips[old]}", f"--to={tips[new]}")
    ostree(target, "static-delta", "generate", "--empty", f"--to={tips[0]}")
    ostree(target, "summary", "-u")
    assert len(ostree(target, "static-delta", "list").split()) == 4
    done = run(source, target, retention=Retention(commits=2))
    assert done.pruned is not None
    assert done.pruned.deltas == (f"{tips[3]}-{tips[2]}",)
    # from a commit that is gone: clients that have it still update with the delta
    left = sorted((f"{tips[2]}-{tips[0]}", f"{tips[1]}-{tips[0]}", f"{tips[0]}"))
    assert sorted(ostree(target, "static-delta", "list").split()) == left
    shown = ostree(target, "summary", "-v")
    assert f"{tips[1]}-{tips[0]}" in shown
    assert f"{tips[3]}-" not in shown
    indexes = [path.read_bytes() for path in target.glob("delta-indexes/*/*.index")]
    assert len(indexes) == 1
    assert str(tips[3]).encode() not in indexes[0]
    assert str(tips[1]).encode() in indexes[0]


def test_half_a_delta_is_none(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commit may be published again before the next prune."""
    with Repo.open(str(target)) as opened:
        old, new = (opened.resolve(f"{REF}{'^' * number}") for number in (3, 2))
    ostree(target, "static-delta", "generate", f"--from={old}", f"--to={new}")

    def killed(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fs, "remove_tree", killed)
    with Repo.open(str(target)) as opened, pytest.raises(KeyboardInterrupt):
        remove(opened, find_doomed(opened, {REF: Retention(commits=1)}), Reporter())
    assert not list_deltas(str(target))


def test_records_of_what_is_gone_go_too(source: Path, target: Path) -> None:
    with Repo.open(str(target)) as opened:
        tips = [opened.resolve(f"{REF}{'^' * number}") or "" for number in range(4)]
        for each in tips:
            records.keep(opened, each, Records(writers={}, programs=()))
    run(source, target, retention=Retention(commits=1))
    assert [path.name for path in target.glob("extensions/compose/*.json.zst")] == [f"{tips[0]}.json.zst"]


def test_a_repository_that_is_not_whole_is_left_alone(source: Path, target: Path) -> None:
    """What a kept commit needs cannot be told when its directories are missing."""
    with Repo.open(str(target)) as opened:
        tree = opened.read_commit(refs_of(target)[OTHER]).root_tree.hex()
    (target / f"objects/{tree[:2]}/{tree[2:]}.dirtree").unlink()
    before = objects_of(target)
    with pytest.raises(RepositoryError, match=rf"all refs are published, but .*{tree}\.dirtree"):
        run(source, target, retention=Retention(commits=1))
    assert objects_of(target) == before
    # one that is known to be there in part is pruned around
    (target / f"state/{refs_of(target)[OTHER]}.commitpartial").touch()
    run(source, target, retention=Retention(commits=1))
    ostree(target, "show", OTHER)
    ostree(target, "ls", "-R", REF)


def test_a_prune_waits_for_who_writes(source: Path, target: Path) -> None:
    with (target / "config").open("a") as config:
        config.write("lock-timeout-secs=1\n")
    script = (
        "import sys, time; from compose.events import Reporter; from compose.ostree.repo import Repo\n"
        "from compose.ostree.transaction import Transaction\n"
        f"with Transaction(Repo.open({str(target)!r}), jobs=1, reporter=Reporter()): print('in', flush=True); sys.stdin.read()"
    )
    writer = subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "in\n"
    before = snapshot(target)
    with pytest.raises(RepositoryError, match=r"all refs are published, but .* is locked by"):
        run(source, target, retention=Retention(commits=1))
    assert {name for name in snapshot(target) if name.startswith("objects/")} == {
        name for name in before if name.startswith("objects/")
    }
    writer.communicate("")
    run(source, target, retention=Retention(commits=1))


def test_a_disk_that_is_too_full_for_more_is_pruned(source: Path, target: Path) -> None:
    """Its limit is for contents; `ostree prune` does not know it."""
    with (target / "config").open("a") as config:
        config.write("min-free-space-size=9999999TB\n")
    one = build(source, "new")
    with pytest.raises(StorageError, match="MB must remain free") as caught:
        run(source, target, retention=Retention(commits=1))
    assert "core.min-free-space-size" in (caught.value.hint or "")
    now = refs_of(target)[REF]
    assert now != one
    done = run(source, target, f"{REF}={now}", retention=Retention(commits=1))
    assert done.pruned is not None
    assert len(done.pruned.commits) == 4
    ostree(target, "fsck")


def test_refs_in_any_script(source: Path, target: Path) -> None:
    """libostree takes letters of all alphabets; which combining marks depends on the version of PCRE."""
    for name in ("gr\u00fcn/main", "\u0939\u093f\u0928\u094d\u0926\u0940"):
        commit = build(source, name[0])
        ostree(target, "pull-local", str(source), commit)
        (target / "refs/heads" / name).parent.mkdir(exist_ok=True)
        (target / "refs/heads" / name).write_text(f"{commit}\n")
    ostree(target, "rev-parse", "gr\u00fcn/main")
    run(source, target, retention=Retention(commits=1))
    assert len(refs_of(target)) == 4
    assert "gr\u00fcn/main" in ostree(target, "summary", "-v")
    ostree(target, "fsck")
    ostree(target, "ls", "gr\u00fcn/main")
    ostree(target, "ls", commit)
    # what other programs drop there
    for name in (".git/HEAD", ".rsync_info", "a+b"):
        (target / "refs/heads" / name).parent.mkdir(exist_ok=True)
        (target / "refs/heads" / name).write_text("no ref")
    assert len(refs_of(target)) == 4

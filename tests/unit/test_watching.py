"""Which files are watched, and what counts as a change."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from compose.errors import RefMovedError, TreefileError
from compose.events import Reporter
from compose.pipeline import watching
from compose.pipeline.options import ComposeOptions
from compose.pipeline.watched import Watched, changed, watched
from compose.treefile.load import named_files


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "finalize.d").mkdir(parents=True)
    (site / "top.yaml").write_text(
        "include: base.yaml\n"
        "packages: [a]\n"
        "rpm-files: [{path: local.rpm, sha256: " + "a" * 64 + "}]\n"
        "add-files: [[motd, /etc/motd]]\n"
        "check-passwd: {type: file, filename: passwd}\n"
        "id-lock: ids.yaml\n"
        "releasever: 7\n"
        "repos: [local, far]\n"
    )
    (site / "base.yaml").write_text("postprocess-script: script.sh\n")
    for name in ("script.sh", "motd", "passwd", "finalize.d/10-x"):
        (site / name).write_text("#!/bin/sh\n")
        (site / name).chmod(0o755)
    (site / "here.repo").write_text(
        "[local]\nbaseurl=packages/$releasever/${basearch}\ngpgkey=local.key file:///keys/%41.key\n"
        "[far]\nbaseurl=https://example.com/\n[off]\nenabled=0\nbaseurl=file:///off\n"
    )
    return site


def options(site: Path, **more: object) -> ComposeOptions:
    return ComposeOptions(
        treefile=str(site / "top.yaml"),
        cachedir=str(site / "cache"),
        basearch="x86_64",
        **more,  # type: ignore[arg-type]
    )


def test_what_is_watched(site: Path) -> None:
    found = watched(options(site, lockfiles=("lock.yaml",), metadata_files=("metadata.json",)))
    here = {
        *("top.yaml", "base.yaml", "script.sh", "motd", "passwd", "ids.yaml", "local.rpm", "local.key"),
        "packages/7/x86_64/repodata/repomd.xml",
    }
    assert found.files == {*(str(site / each) for each in here), "lock.yaml", "metadata.json", "/keys/A.key"}
    assert found.directories == {(str(site / "finalize.d"), ""), (str(site), ".repo")}
    assert {os.path.basename(each) for each in found.look()} >= {"here.repo", "10-x"}


def test_source_root(site: Path, tmp_path: Path) -> None:
    repos = tmp_path / "root/etc/yum.repos.d"
    repos.mkdir(parents=True)
    (site / "here.repo").rename(repos / "here.repo")
    found = watched(options(site, source_root=str(tmp_path / "root")))
    # where the compose looks for a key first
    assert {f"{tmp_path}/root/keys/A.key", "/keys/A.key"} <= found.files
    assert (f"{tmp_path}/root/etc/yum.repos.d", ".repo") in found.directories
    assert (f"{tmp_path}/root/etc/dnf/vars", "") in found.directories
    # of the file that says it, as in the compose
    overrides = tmp_path / "root/etc/dnf/repos.override.d"
    overrides.mkdir(parents=True)
    (overrides / "99.repo").write_text("[local]\nbaseurl=near\n")
    found = watched(options(site, source_root=str(tmp_path / "root")))
    assert f"{overrides}/near/repodata/repomd.xml" in found.files


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("include: gone.yaml\npackges: [x]\n", {"top.yaml", "gone.yaml"}),
        ("include: base.yaml\nadd-files: [[gone, /etc/x]]\n", {"top.yaml", "base.yaml", "script.sh", "gone"}),
        ("packages: [\n", {"top.yaml"}),
    ],
)
def test_of_a_treefile_with_faults(site: Path, text: str, names: set[str]) -> None:
    (site / "top.yaml").write_text(text)
    files, _ = named_files(str(site / "top.yaml"), basearch="x86_64")
    assert files == {str(site / each) for each in names}
    assert watched(options(site)).files == files


def test_there_need_be_no_treefile(tmp_path: Path) -> None:
    assert watched(options(tmp_path)).files == {f"{tmp_path}/top.yaml"}


def test_changes(site: Path) -> None:
    found = watched(options(site))
    before = found.look()
    (site / "script.sh").chmod(0o644)
    (site / "new").write_text("same")
    os.rename(site / "new", site / "motd")
    (site / "passwd").unlink()
    (site / "ids.yaml").write_text("")
    (site / "finalize.d/20-y").write_text("")
    (site / "more.repo").write_text("")
    (site / "notes.txt").write_text("")
    expected = {"script.sh", "motd", "passwd", "ids.yaml", "finalize.d/20-y", "more.repo"}
    assert changed(before, found.look()) == tuple(sorted(str(site / each) for each in expected))


def test_symlinks_that_lead_nowhere(site: Path) -> None:
    found = watched(options(site))
    before = found.look()
    # by which Emacs locks a file that is edited
    (site / ".#here.repo").symlink_to("me@host.1:2")
    (site / "finalize.d/.#10-x").symlink_to("me@host.1:2")
    assert found.look() == before
    assert watched(options(site)) == found
    (site / "gone.repo").symlink_to("nowhere")
    assert changed(before, found.look()) == (f"{site}/gone.repo",)


def steps(monkeypatch: pytest.MonkeyPatch, *each: Callable[[], object]) -> list[float]:
    """Let each sleep of the watcher take the next step instead; returns the seconds of these sleeps, in a list that grows."""
    left, slept = list(each), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        left.pop(0)()

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))
    return slept


def test_a_ref_that_moved_meanwhile_needs_no_change_of_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [RefMovedError("r: it moved"), RefMovedError("r: it moved"), TreefileError("x")]
    rounds, warnings = list[watching.Round](), list[str]()

    def compose(*_: object) -> None:
        raise ends.pop(0)

    def report(found: watching.Round) -> None:
        rounds.append(found)
        # as a signal handler does
        raise KeyboardInterrupt

    reporter = Reporter()
    monkeypatch.setattr(reporter, "warn", warnings.append)
    monkeypatch.setattr(watching, "compose_tree", compose)
    with pytest.raises(KeyboardInterrupt):
        watching.watch(options(tmp_path), reporter, report)
    assert isinstance(rounds[0].error, TreefileError)
    assert warnings == ["r: it moved. Composing again"] * 2


def nothing() -> None:
    pass


def test_it_waits_until_all_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in "abc"]
    files = Watched(files=frozenset(map(str, paths)), directories=frozenset())
    seen = files.look()
    slept = steps(monkeypatch, nothing, *(partial(path.write_text, "x") for path in paths), nothing)
    assert watching.wait(files, seen) == tuple(map(str, paths))
    assert slept == [watching.POLL] * 2 + [watching.SETTLE] * 3


def test_what_is_away_for_a_moment_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, aside, other = tmp_path / "a", tmp_path / "aside", tmp_path / "b"
    path.write_text("x")
    files = Watched(files=frozenset({str(path), str(other)}), directories=frozenset())
    seen = files.look()
    slept = steps(
        monkeypatch,
        *(partial(path.rename, aside), partial(aside.rename, path)),
        *(partial(other.write_text, "y"), nothing),
    )
    assert watching.wait(files, seen) == (str(other),)
    assert slept == [watching.POLL, watching.SETTLE] * 2

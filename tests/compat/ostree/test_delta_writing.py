"""Static deltas of repositories: bytes that do not depend on cores, memory, the summary, and damage."""

from __future__ import annotations

import os
import random
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from compose.errors import ComposeError, RepositoryError, UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta import bsdiff, patching
from compose.ostree.delta.difference import read_content
from compose.ostree.delta.index import list_deltas
from compose.ostree.delta.matching import common_segments
from compose.ostree.delta.threads import Cancellation, Cancelled
from compose.ostree.delta.write import DeltaOptions, write_delta
from compose.ostree.gvariant import Variant, encode
from compose.ostree.repo import Repo
from compose.ostree.summary import summary_signature_keys
from compose.pipeline.delta import make_delta
from tests.support.commits import Item, file, link, write_commit, write_nested
from tests.support.told import Told

RANDOM = random.Random(1).randbytes(200_000)
NIBBLES = bytes(each % 16 for each in RANDOM[100_000:125_000])
"""Half of it is left when compressed."""
OLD: dict[str, Item] = {"usr/a": file(RANDOM[:50_000]), "usr/b": file(b"b"), "usr/l": link("a")}
NEW: dict[str, Item] = {
    "usr/a": file(RANDOM[:30_000] + b"x" + RANDOM[30_001:50_000]),
    "usr/c": file(RANDOM[50_000:90_000]),
    "usr/d": file(RANDOM[90_000:95_000], 0o755),
    "usr/l": link("b"),
}
OPTIONS = DeltaOptions(max_chunk_size=20_000, use_bsdiff=False)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """With the refs "old" and "new"."""
    path = tmp_path / "repo"
    with Repo.create(str(path)) as opened:
        for name, items in (("old", OLD), ("new", NEW)):
            (path / "refs/heads" / name).write_text(write_commit(opened, items) + "\n")
    return path


def write(path: Path, options: DeltaOptions = OPTIONS) -> dict[str, bytes]:
    """Files of the delta from old to new."""
    with Repo.open(str(path)) as repo:
        refs = repo.refs()
        written = write_delta(repo, source=refs["old"], target=refs["new"], options=options, reporter=Reporter())
    assert written is not None
    return {each.name: each.read_bytes() for each in Path(written.path).iterdir()}


@pytest.mark.parametrize("inline", [False, True])
def test_the_same_bytes_on_any_number_of_cores(repo: Path, inline: bool) -> None:
    found = [write(repo, replace(OPTIONS, jobs=jobs, inline=inline)) for jobs in (1, 4, 3)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == (1 if inline else 4)


@pytest.mark.parametrize("use_bsdiff", [False, True])
def test_files_that_are_too_large_to_compare(repo: Path, use_bsdiff: bool) -> None:
    with Repo.open(str(repo)) as opened:
        refs = opened.refs()
        options = replace(OPTIONS, max_bsdiff_size=0, use_bsdiff=use_bsdiff)
        written = write_delta(opened, source=refs["old"], target=refs["new"], options=options, reporter=Reporter())
    assert written is not None
    assert written.copied + written.patched == 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of memory that each kind of work asked for, by its name."""
    found: dict[str, int] = {}

    def fitting(jobs: int, each: int, what: str, reporter: Reporter) -> int:
        del reporter
        found[what] = each
        return jobs

    monkeypatch.setattr("compose.memory.fitting", fitting)
    return found


def test_memory_is_counted_for_the_old_file_too(tmp_path: Path, asked: dict[str, int]) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        source = write_commit(repo, {"usr/a": file(RANDOM)})
        target = write_commit(repo, {"usr/a": file(RANDOM[:1000])})
        write_delta(repo, source=source, target=target, options=OPTIONS, reporter=Reporter())
    assert asked["Comparing files"] > len(RANDOM)


def test_memory_is_counted_for_the_file_that_a_part_is_copied_from(tmp_path: Path, asked: dict[str, int]) -> None:
    """Little of it goes into the part, and all of it is read."""
    with Repo.create(str(tmp_path / "repo")) as repo:
        source = write_commit(repo, {"usr/a": file(RANDOM)})
        target = write_commit(repo, {"usr/a": file(RANDOM + b"more")})
        write_delta(repo, source=source, target=target, options=OPTIONS, reporter=Reporter())
    assert asked["Packing"] > len(RANDOM)


def test_equal_contents_that_were_compressed_differently(tmp_path: Path) -> None:
    """By libostree and by us, say: pieces that are read end at other bytes."""
    content = b"0123456789abcdef" * 150_000
    with Repo.create(str(tmp_path / "repo")) as repo:
        source = write_commit(repo, {"usr/a": file(content, 0o644)})
        target = write_commit(repo, {"usr/a": file(content, 0o755)})
        [old] = [checksum for _, checksum, meta in repo.walk(source) if meta is None]
        path = tmp_path / f"repo/objects/{old.hex()[:2]}/{old.hex()[2:]}.filez"
        header = path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:4])]
        stored = zlib.compressobj(0, wbits=-15)
        path.write_bytes(header + stored.compress(content) + stored.flush())
        options = replace(OPTIONS, max_bsdiff_size=1000)
        written = write_delta(repo, source=source, target=target, options=options, reporter=Reporter())
    assert written is not None
    assert written.copied == 1


@pytest.mark.parametrize(
    "script",
    ["exit 1", "printf BSDF2 >$3", "", "kill -9 $$"],
    ids=["fails", "writes another format", "writes nothing", "is killed"],
)
def test_a_bsdiff_that_fails(script: str, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write(repo)
    program = repo.parent / "bin/bsdiff"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    reporter = Told()
    new = {**NEW, "usr/a": file(RANDOM[:25_000] + NIBBLES)}
    with Repo.open(str(repo)) as opened:
        target = write_commit(opened, new)
        written = write_delta(
            opened,
            source=opened.refs()["old"],
            target=target,
            options=replace(OPTIONS, use_bsdiff=True),
            reporter=reporter,
        )
    assert written is not None
    assert ["bsdiff failed for 1 of 1 files" in each for each in reporter.warnings] == [True]
    assert write(repo) == before


@pytest.mark.parametrize(("added", "runs"), [(RANDOM[100_000:125_000], False), (NIBBLES, True)])
def test_what_is_compressed_is_not_given_to_bsdiff(
    added: bytes, runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An initramfs, say: minutes for nothing."""
    given = []

    def patch(_program: bsdiff.Bsdiff, old: bytes, new: bytes) -> None:
        given.append((old, new))

    monkeypatch.setattr(bsdiff.Bsdiff, "patch", patch)
    monkeypatch.setattr(bsdiff, "is_installed", lambda: True)
    old, new = RANDOM[:50_000], RANDOM[:25_000] + added
    with Repo.create(str(tmp_path / "repo")) as repo:
        source, target = (write_commit(repo, {"usr/a": file(data)}) for data in (old, new))
        written = write_delta(repo, source=source, target=target, options=DeltaOptions(), reporter=Reporter())
    assert written is not None
    assert written.copied == 1
    assert given == [(old, new)] * runs


def test_a_delta_weighs_less_than_objects(repo: Path) -> None:
    written = make_delta(str(repo), "new", "old", OPTIONS, Reporter())
    assert written is not None
    assert written.copied == 1
    assert written.loose_bytes is not None
    assert written.fetched_bytes < written.loose_bytes - 49_000


@pytest.mark.parametrize(("mode", "made_of_it"), [(0o644, 1), (0o755, 1), (0o640, 0), (0o4711, 0)])
def test_a_client_reads_only_what_everybody_may(mode: int, made_of_it: int, tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        source = write_commit(repo, {"usr/a": file(RANDOM[:9000], mode)})
        target = write_commit(repo, {"usr/a": file(RANDOM[:9000] + b"more", 0o755)})
        written = write_delta(repo, source=source, target=target, options=OPTIONS, reporter=Reporter())
    assert written is not None
    assert written.copied + written.patched == made_of_it


def objects(repo: Path, extension: str) -> list[Path]:
    return sorted((repo / "objects").rglob(f"*.{extension}"))


@pytest.mark.parametrize("extension", ["filez", "dirtree", "dirmeta", "commit"])
def test_damaged_and_missing_objects(repo: Path, extension: str) -> None:
    """Of all objects one by one; those that no delta needs are the old commit's contents."""
    before = write(repo)
    errors = 0
    for path in objects(repo, extension):
        data = path.read_bytes()
        for damage in (data[:-1] + bytes([data[-1] ^ 1]), data[: len(data) // 2], None):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            try:
                write(repo)
            except RepositoryError as error:
                errors += 1
                assert path.stem in error.message
                assert error.hint
            path.write_bytes(data)
            assert not list((repo / "tmp").glob("staging*"))
    assert errors >= 2 * len(objects(repo, extension)) - 4
    assert write(repo) == before


def test_what_is_wrong_is_said(repo: Path) -> None:
    def said(target: str, source: str | None, kind: type[ComposeError]) -> str:
        with pytest.raises(kind) as raised:
            make_delta(str(repo), target, source, OPTIONS, Reporter())
        return f"{raised.value.message}: {raised.value.hint}"

    assert "has no parent" in said("new", None, UsageError)
    assert "--empty" in said("new", None, UsageError)
    assert "same commit" in said("new", "new", UsageError)
    assert "has no commit other" in said("other", "old", RepositoryError)
    assert "has no commit other" in said("new", "other", RepositoryError)
    commit = (repo / "refs/heads/old").read_text().strip()
    (repo / f"state/{commit}.commitpartial").touch()
    assert "in part only" in said("new", "old", RepositoryError)


def test_a_file_that_no_client_could_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.ostree.delta.write._MOST_IN_PART", 1000)
    for mode, size in ((Mode.ARCHIVE, 0), (Mode.BARE_USER, 500)):
        with Repo.create(str(tmp_path / mode), mode) as repo:
            target = write_commit(repo, {"usr/large": file(RANDOM[:2000])})
            options = replace(OPTIONS, min_fallback_size=size)
            with pytest.raises(RepositoryError, match="/usr/large has 2000 bytes"):
                write_delta(repo, source=None, target=target, options=options, reporter=Reporter())


def test_a_full_disk_leaves_the_earlier_delta(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write(repo)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("compose.fs.write_all", refuse)
        with pytest.raises(ComposeError, match="No space left"):
            write(repo)
    assert len(list_deltas(str(repo))) == 1
    assert not list((repo / "tmp").glob("staging*"))
    assert write(repo) == before


def test_a_repository_without_tmp(repo: Path) -> None:
    """As git and buckets keep it; ostree makes the directory again too."""
    shutil.rmtree(repo / "tmp")
    assert write(repo)


def test_what_is_no_delta_is_not_listed(repo: Path) -> None:
    write(repo)
    expected = list_deltas(str(repo))
    assert len(expected) == 1
    for each in ("lost+found", "aa", f"AA/{'A' * 41}", "zz/superblock"):
        (repo / "deltas" / each).mkdir(parents=True)
    (repo / "deltas/file").touch()
    assert list_deltas(str(repo)) == expected


def test_the_summary_follows(repo: Path) -> None:
    reporter = Told()
    make_delta(str(repo), "new", "old", OPTIONS, reporter)
    assert ["has no summary" in each for each in reporter.warnings] == [True]
    (repo / "summary").touch()
    make_delta(str(repo), "new", "old", OPTIONS, reporter)
    assert b"ostree.static-deltas" in (repo / "summary").read_bytes()
    before = (repo / "summary").read_bytes()
    (repo / "summary.sig").touch()
    make_delta(str(repo), "new", None, OPTIONS, reporter, empty=True)
    # clients that demand the signature would get nothing without it
    assert ((repo / "summary.sig").exists(), (repo / "summary").read_bytes()) == (True, before)
    assert ["stays as it is, without the new delta" in each for each in reporter.warnings] == [False, True]
    with open(repo / "config", "a") as config:
        config.write("auto-update-summary=true\n")
    make_delta(str(repo), "new", None, OPTIONS, reporter, empty=True)
    assert ((repo / "summary.sig").exists(), (repo / "summary").read_bytes() == before) == (False, False)


@pytest.mark.parametrize("if_not_exists", [False, True])
def test_a_summary_that_lists_the_delta_keeps_its_signature(repo: Path, if_not_exists: bool) -> None:
    (repo / "summary").touch()
    make_delta(str(repo), "new", "old", OPTIONS, Reporter())
    (repo / "summary.sig").touch()
    reporter = Told()
    make_delta(str(repo), "new", "old", replace(OPTIONS, if_not_exists=if_not_exists), reporter)
    assert (repo / "summary.sig").exists()
    assert not reporter.warnings


def test_a_summary_that_lists_no_deltas_keeps_its_signature(repo: Path) -> None:
    """Clients find them in the index (core.no-deltas-in-summary)."""
    with open(repo / "config", "a") as config:
        config.write("indexed-deltas=true\nno-deltas-in-summary=true\n")
    (repo / "summary").touch()
    make_delta(str(repo), "new", "old", OPTIONS, Reporter())
    (repo / "summary.sig").touch()
    make_delta(str(repo), "new", None, OPTIONS, Reporter(), empty=True)
    assert (repo / "summary.sig").exists()


def test_a_delta_that_nothing_lists_is_listed_though_it_exists(repo: Path) -> None:
    """Who made it was killed before it was in the index and the summary."""
    with open(repo / "config", "a") as config:
        config.write("indexed-deltas=true\n")
    (repo / "summary").touch()
    write(repo)
    shutil.rmtree(repo / "delta-indexes")
    assert make_delta(str(repo), "new", "old", replace(OPTIONS, if_not_exists=True), Reporter()) is None
    assert b"ostree.static-deltas" in (repo / "summary").read_bytes()
    assert list((repo / "delta-indexes").rglob("*.index"))


class Signs:
    metadata_key = "ostree.sign.ed25519"
    name = "a test"

    def sign(self, data: bytes) -> bytes:
        del data
        return bytes(64)


def test_the_summary_is_signed(repo: Path) -> None:
    reporter = Told()
    make_delta(str(repo), "new", "old", OPTIONS, reporter, signers=[Signs()])
    assert not reporter.warnings
    with Repo.open(str(repo)) as opened:
        assert summary_signature_keys(opened) == {"ostree.sign.ed25519"}


def test_a_signature_of_another_kind_is_not_lost(repo: Path) -> None:
    (repo / "summary").touch()
    (repo / "summary.sig").write_bytes(encode("a{sv}", [("ostree.gpgsigs", Variant("aay", [b"signature"]))]))
    with pytest.raises(UsageError, match=r"ostree\.gpgsigs"):
        make_delta(str(repo), "new", "old", OPTIONS, Reporter(), signers=[Signs()])
    assert not list_deltas(str(repo))


def test_long_work_can_be_cancelled(repo: Path) -> None:
    cancellation = Cancellation()
    new = RANDOM[100_000:] + RANDOM[:100_000]
    segments = common_segments(RANDOM, new, cancellation.check)
    assert patching.patch(RANDOM, new, segments, cancellation.check)
    with Repo.open(str(repo)) as opened:
        content = next(checksum for path, checksum, _ in opened.walk(opened.refs()["new"]) if path == "usr/c")
        assert read_content(opened, content, cancellation.check)
        cancellation.cancel()
        for work in (
            lambda: common_segments(RANDOM, new, cancellation.check),
            lambda: patching.patch(RANDOM, new, segments, cancellation.check),
            lambda: read_content(opened, content, cancellation.check),
        ):
            with pytest.raises(Cancelled):
                work()


def test_few_dirtrees_that_stand_for_very_many_paths(repo: Path) -> None:
    with Repo.open(str(repo)) as opened:
        commit = write_nested(opened, 64)
        written = write_delta(opened, source=None, target=commit, options=OPTIONS, reporter=Reporter())
    assert written is not None
    assert written.metadata == 66

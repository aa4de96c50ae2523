"""Static deltas: matching, patches, pairs, bytes that do not depend on cores, and input that is damaged."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import random
import shutil
import struct
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import ComposeError, RepositoryError, UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta import bsdiff, patching
from compose.ostree.delta.difference import read_content
from compose.ostree.delta.index import list_deltas
from compose.ostree.delta.layout import delta_path, ends_of, index_path, varint
from compose.ostree.delta.matching import common_segments
from compose.ostree.delta.pairs import OldFile, OldFiles
from compose.ostree.delta.threads import Cancellation, Cancelled, in_threads
from compose.ostree.delta.write import DeltaOptions, write_delta
from compose.ostree.gvariant import Variant, encode
from compose.ostree.objects import COMMIT_TYPE, encode_dirmeta, encode_dirtree
from compose.ostree.repo import Repo
from compose.ostree.summary import summary_signature_keys
from compose.pipeline.delta import make_delta
from tests.support.commits import Item, file, link, write_commit

RANDOM = random.Random(1).randbytes(200_000)
NIBBLES = bytes(each % 16 for each in RANDOM[100_000:125_000])
"""Half of it is left when compressed."""
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.builds(lambda begin, size: RANDOM[begin : begin + size], st.integers(0, 4000), st.integers(0, 3000)),
        st.builds(bytes, st.integers(0, 300)),
    ),
    max_size=6,
).map(b"".join)
FIRST, SECOND = bytes(range(32)).hex(), (b"\xff" * 32).hex()


@given(old=PIECES, new=PIECES)
def test_segments_are_the_same_bytes_and_in_order(old: bytes, new: bytes) -> None:
    place = 0
    for each in common_segments(old, new):
        assert each.begin >= place
        assert each.size > 0
        assert new[each.begin : each.end] == old[each.source : each.source + each.size]
        place = each.end
    assert place <= len(new)


@pytest.mark.parametrize(
    "new",
    [
        RANDOM,
        RANDOM[777:],
        RANDOM[:-777],
        b"before" + RANDOM,
        RANDOM[:70_001] + b"between" * 9 + RANDOM[70_001:],
        RANDOM[:70_001] + RANDOM[70_900:],
        RANDOM[100_000:] + RANDOM[:100_000],
    ],
    ids=["equal", "begin cut", "end cut", "put before", "put between", "cut between", "swapped"],
)
def test_what_moves_is_found(new: bytes) -> None:
    found = sum(each.size for each in common_segments(RANDOM, new))
    assert found > len(new) - 400


def test_files_with_nothing_in_common() -> None:
    assert common_segments(RANDOM[:9000], RANDOM[9000:20_000]) == ()
    assert common_segments(b"", RANDOM) == ()
    assert common_segments(RANDOM, b"") == ()


def applied(old: bytes, stream: bytes) -> bytes:
    """As libostree's bspatch does."""

    def number(place: int) -> int:
        value = int(struct.unpack_from("<Q", stream, place)[0])
        return -(value & (1 << 63) - 1) if value >> 63 else value

    out, place, at = bytearray(), 0, 0
    while place < len(stream):
        add, copy, move = (number(place + each) for each in (0, 8, 16))
        place += 24
        for index, byte in enumerate(stream[place : place + add]):
            source = old[at + index] if 0 <= at + index < len(old) else 0
            out.append((byte + source) & 0xFF)
        out += stream[place + add : place + add + copy]
        place, at = place + add + copy, at + add + move
    return bytes(out)


def patch_of(rows: bytes, added: bytes, extra: bytes, size: int) -> bytes:
    blocks = [bz2.compress(each) for each in (rows, added, extra)]
    return struct.pack("<8sQQQ", b"BSDIFF40", len(blocks[0]), len(blocks[1]), size) + b"".join(blocks)


def test_a_patch_becomes_what_clients_read() -> None:
    rows = struct.pack("<QQQ", 3, 2, 1 << 63 | 1) + struct.pack("<QQQ", 2, 0, 0)
    stream = bsdiff.stream_of(patch_of(rows, b"\0\1\0\0\0", b"xy", 7), 7)
    assert applied(b"abcdef", stream) == b"accxycd"


@pytest.mark.skipif(not bsdiff.is_installed(), reason="needs bsdiff")
def test_the_program_makes_such_patches() -> None:
    old = RANDOM[:20_000]
    new = old[:4000] + b"new" + bytes(each ^ (number % 50 == 0) for number, each in enumerate(old[4100:]))
    patch = bsdiff.Bsdiff().patch(old, new)
    assert patch is not None
    assert len(lzma.compress(patch)) < 1000
    assert applied(old, patch) == new


ROWS = struct.pack("<QQQ", 3, 0, 0)


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        b"BSDIFF40",
        patch_of(ROWS, b"abc", b"", 4),
        patch_of(ROWS, b"ab", b"", 3),
        patch_of(ROWS[:-1], b"abc", b"", 3),
        patch_of(ROWS, b"abc", b"", 3).replace(b"BSDIFF40", b"BSDIFF41"),
        patch_of(ROWS, b"abc", b"", 3)[:40] + bytes(99),
        struct.pack("<8sQQQ", b"BSDIFF40", 1 << 60, 1, 3) + bytes(99),
    ],
)
def test_damaged_patches(patch: bytes) -> None:
    with pytest.raises(ValueError, match="patch"):
        bsdiff.stream_of(patch, 3)


def test_a_stopped_program_starts_nothing() -> None:
    program = bsdiff.Bsdiff()
    program.stop()
    assert program.patch(b"old", b"new") is None
    assert program.failures == 0


def test_pairs() -> None:
    sizes = {b"lib": 1000, b"secret": None, b"readme": 100, b"module": 500, b"moved": 700, b"empty": 0}
    old = OldFiles(
        [
            ("usr/lib/libfoo.so.1.2.3", b"lib"),
            ("usr/bin/secret", b"secret"),
            ("usr/share/doc/one/README", b"readme"),
            ("usr/lib/modules/6.1.2/ext4.ko", b"module"),
            ("usr/sbin/tool", b"moved"),
            ("usr/empty", b"empty"),
        ],
        sizes.__getitem__,
    )
    assert old.similar("usr/lib/libfoo.so.1.2.3", 1) == OldFile(b"lib", 1000)
    assert old.similar("usr/lib/libfoo.so.1.2.4", 1) == OldFile(b"lib", 1000)
    assert old.similar("usr/lib/modules/6.1.3/ext4.ko", 9) == OldFile(b"module", 500)
    assert old.similar("usr/bin/tool", 690) == OldFile(b"moved", 700)
    assert old.similar("usr/bin/tool", 7000) is None
    assert old.similar("usr/share/doc/two/README", 120) == OldFile(b"readme", 100)
    assert old.similar("usr/bin/secret", 100) is None
    assert old.similar("usr/empty", 100) is None
    assert old.similar("usr/bin/other", 100) is None


def test_a_name_that_many_have_says_nothing() -> None:
    old = OldFiles([(f"{each}x/index.html", bytes([each % 256, each // 256])) for each in range(300)], lambda _: 10)
    assert old.similar("5x/index.html", 10) == OldFile(bytes([5, 0]), 10)
    assert old.similar("other/index.html", 10) is None


def test_names() -> None:
    assert delta_path(None, FIRST) == "deltas/AA/ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert delta_path(SECOND, FIRST).startswith("deltas/__/")
    assert index_path(SECOND) == f"delta-indexes/__/{'_' * 40}8.index"
    assert ends_of(delta_path(SECOND, FIRST)[7:].replace("/", "", 1)) == [SECOND, FIRST]
    assert ends_of(delta_path(None, FIRST)[7:].replace("/", "", 1)) == [FIRST]
    for other in ("", "lost+found", "a-b-c", "é" * 43, "A" * 42):
        assert ends_of(other) is None


@pytest.mark.parametrize(("number", "data"), [(0, "00"), (127, "7f"), (128, "8001"), (1 << 32, "8080808010")])
def test_varint(number: int, data: str) -> None:
    assert varint(number).hex() == data


OLD: dict[str, Item] = {"usr/a": file(RANDOM[:50_000]), "usr/b": file(b"b"), "usr/l": link("a")}
NEW: dict[str, Item] = {
    "usr/a": file(RANDOM[:30_000] + b"x" + RANDOM[30_001:50_000]),
    "usr/c": file(RANDOM[50_000:90_000]),
    "usr/d": file(RANDOM[90_000:95_000], 0o755),
    "usr/l": link("b"),
}
OPTIONS = DeltaOptions(max_chunk_size=20_000, use_bsdiff=False)


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


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
    reporter = Warnings()
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
    assert ["bsdiff failed for 1 of 1 files" in each for each in reporter.said] == [True]
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


def test_what_is_no_delta_is_not_listed(repo: Path) -> None:
    write(repo)
    expected = list_deltas(str(repo))
    assert len(expected) == 1
    for each in ("lost+found", "aa", f"AA/{'A' * 41}", "zz/superblock"):
        (repo / "deltas" / each).mkdir(parents=True)
    (repo / "deltas/file").touch()
    assert list_deltas(str(repo)) == expected


def test_the_summary_follows(repo: Path) -> None:
    reporter = Warnings()
    make_delta(str(repo), "new", "old", OPTIONS, reporter)
    assert ["has no summary" in each for each in reporter.said] == [True]
    (repo / "summary").touch()
    make_delta(str(repo), "new", "old", OPTIONS, reporter)
    assert b"ostree.static-deltas" in (repo / "summary").read_bytes()
    (repo / "summary.sig").touch()
    make_delta(str(repo), "new", None, OPTIONS, reporter, empty=True)
    assert ["sign it again" in each for each in reporter.said] == [False, True]


@pytest.mark.parametrize("if_not_exists", [False, True])
def test_a_summary_that_lists_the_delta_keeps_its_signature(repo: Path, if_not_exists: bool) -> None:
    (repo / "summary").touch()
    make_delta(str(repo), "new", "old", OPTIONS, Reporter())
    (repo / "summary.sig").touch()
    reporter = Warnings()
    make_delta(str(repo), "new", "old", replace(OPTIONS, if_not_exists=if_not_exists), reporter)
    assert (repo / "summary.sig").exists()
    assert not reporter.said


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
    reporter = Warnings()
    make_delta(str(repo), "new", "old", OPTIONS, reporter, signers=[Signs()])
    assert not reporter.said
    with Repo.open(str(repo)) as opened:
        assert summary_signature_keys(opened) == {"ostree.sign.ed25519"}


def test_a_signature_of_another_kind_is_not_lost(repo: Path) -> None:
    (repo / "summary").touch()
    (repo / "summary.sig").write_bytes(encode("a{sv}", [("ostree.gpgsigs", Variant("aay", [b"signature"]))]))
    with pytest.raises(UsageError, match=r"ostree\.gpgsigs"):
        make_delta(str(repo), "new", "old", OPTIONS, Reporter(), signers=[Signs()])
    assert not list_deltas(str(repo))


@given(old=PIECES, new=PIECES)
def test_our_own_patches(old: bytes, new: bytes) -> None:
    assert applied(old, patching.patch(old, new, common_segments(old, new))) == new


@given(new=st.binary(max_size=200), seed=st.integers(0, 9))
def test_differences_of_bytes(new: bytes, seed: int) -> None:
    old = random.Random(seed).randbytes(300)
    expected = bytes((each - old[7 + place]) & 0xFF for place, each in enumerate(new))
    assert patching.difference(new, old, 7) == expected


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


@pytest.mark.parametrize("first", [True, False])
def test_an_error_ends_what_is_under_way(first: bool) -> None:
    """first: does the first one fail?"""
    cancellation, begun = Cancellation(), threading.Event()

    def work(fails: bool) -> None:
        if fails:
            begun.wait()
            raise ValueError("damaged")
        begun.set()
        while True:
            cancellation.check()
            time.sleep(0.001)

    with pytest.raises(ValueError, match="damaged"):
        in_threads(work, [first, not first], 2, cancellation.cancel)


def test_a_program_that_was_built_again() -> None:
    """All addresses in it have moved by three."""
    new = (
        RANDOM[:50_000]
        + b"new"
        + bytes((each + 3) & 0xFF if number % 100 == 0 else each for number, each in enumerate(RANDOM[50_000:]))
    )
    stream = patching.patch(RANDOM, new, common_segments(RANDOM, new))
    assert applied(RANDOM, stream) == new
    assert len(lzma.compress(stream)) < 1000


def test_few_dirtrees_that_stand_for_very_many_paths(repo: Path) -> None:
    def put(data: bytes, extension: str) -> bytes:
        digest = hashlib.sha256(data)
        path = repo / "objects" / digest.hexdigest()[:2] / f"{digest.hexdigest()[2:]}.{extension}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return digest.digest()

    meta, tree = put(encode_dirmeta(0, 0, 0o40755, b""), "dirmeta"), put(encode_dirtree([], []), "dirtree")
    for _ in range(64):
        tree = put(encode_dirtree([], [(b"a", tree, meta), (b"b", tree, meta)]), "dirtree")
    commit = put(encode(COMMIT_TYPE, ([], b"", [], "", "", 0, tree, meta)), "commit").hex()
    with Repo.open(str(repo)) as opened:
        written = write_delta(opened, source=None, target=commit, options=OPTIONS, reporter=Reporter())
    assert written is not None
    assert written.metadata == 66

"""Static deltas as the real client takes them: shown, pulled over HTTP by clients of each mode, applied from a file."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import random
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta import bsdiff
from compose.ostree.delta.write import DeltaOptions, WrittenDelta, write_delta
from compose.ostree.gvariant import Variant, decode
from compose.ostree.repo import Repo
from compose.pipeline.delta import make_delta
from tests.compat.ostree.test_commit import MODES, ostree
from tests.support.commits import Item, file, link, write_commit
from tests.support.filesystem import mounted

pytestmark = pytest.mark.root
CLIENTS = ["bare-user", "bare", "bare-user-only"]
OPTIONS = DeltaOptions(jobs=2, min_fallback_size=1_000_000)
PROGRAM = random.Random(1).randbytes(300_000)


def changed(data: bytes, step: int = 997) -> bytes:
    """What a compiler makes of a program whose addresses have moved."""
    out = bytearray(data)
    for place in range(0, len(out), step):
        out[place] ^= 3
    return bytes(out)


OLD: dict[str, Item] = {
    "usr/bin/program": file(PROGRAM, 0o755),
    "usr/bin/secret": file(PROGRAM[:5000], 0o600),
    "usr/bin/setuid": file(PROGRAM[:6000], 0o4755),
    "usr/lib/libfoo.so.1.2": file(PROGRAM[:90_000]),
    "usr/lib/gone": file(b"gone"),
    "usr/lib/text": file(b"".join(b"line %d\n" % number for number in range(20_000))),
    "usr/lib/mode": file(PROGRAM[1000:], 0o644),
    "usr/lib/same": file(b"same"),
    "usr/lib/labelled": file(b"label" * 100, xattrs=((b"user.label", b"one"),)),
    "usr/lib/becomes-empty": file(b"not empty"),
    "usr/lib/becomes-link": file(b"no link"),
    "usr/lib/link": link("a"),
}
NEW: dict[str, Item] = {
    "usr/bin/program": file(changed(PROGRAM[:100_000]) + b"new" * 99 + PROGRAM[100_000:], 0o755),
    "usr/bin/secret": file(PROGRAM[:5000] + b"more", 0o600),
    "usr/bin/setuid": file(PROGRAM[:6000] + b"more", 0o4755),
    "usr/lib/libfoo.so.1.3": file(PROGRAM[10:90_000]),
    "usr/lib/text": file(b"".join(b"line %d\n" % number for number in range(20_000) if number % 5000)),
    "usr/lib/mode": file(PROGRAM[1000:], 0o755),
    "usr/lib/same": file(b"same"),
    "usr/lib/labelled": file(b"label" * 100, xattrs=((b"user.label", b"other"), (b"user.more", b"\0\1"))),
    "usr/lib/becomes-empty": file(b""),
    "usr/lib/becomes-link": link("same"),
    "usr/lib/link": link("b" * 300),
    "usr/lib/new": Item(mode=0o700),
    "usr/lib/new/large": file(random.Random(2).randbytes(900_000)),
    "usr/lib/new/huge": file(random.Random(3).randbytes(1_100_000)),
    "naïve-ß-日本": file("ünïcode".encode()),
}


def unprivileged(tree: Mapping[str, Item]) -> dict[str, Item]:
    """What a bare-user-only client can hold."""
    return {path: item for path, item in tree.items() if not item.xattrs and item.mode in (0o755, 0o644)}


class Server:
    """A repository over HTTP, and what was asked for."""

    def __init__(self, url: str, asked: list[str]) -> None:
        self.url = url
        self.asked = asked

    def fetched(self, extension: str) -> list[str]:
        return [path for path in self.asked if path.endswith(extension)]


@contextlib.contextmanager
def logged(directory: Path) -> Iterator[Server]:
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{server.server_address[1]}", asked)
        finally:
            server.shutdown()
            thread.join()


def make(
    repo: Path,
    old: Mapping[str, Item] | None,
    new: Mapping[str, Item],
    options: DeltaOptions = OPTIONS,
    *,
    mode: Mode = Mode.ARCHIVE,
    detached: tuple[tuple[str, Variant], ...] = (),
) -> WrittenDelta:
    """Commits as refs "old" and "new", the delta between them, and a summary where an archive has it."""
    with Repo.create(str(repo), mode) as opened:
        source = write_commit(opened, {"": Item(), **old}, subject="old") if old is not None else None
        target = write_commit(opened, {"": Item(), **new}, subject="new", detached=detached, timestamp=1_700_000_001)
        written = write_delta(opened, source=source, target=target, options=options, reporter=Reporter())
    assert written is not None
    for name, commit in (("old", source), ("new", target)):
        if commit is not None:
            (repo / "refs/heads" / name).write_text(commit + "\n")
    return written


def pull(client: Path, server: Server, written: WrittenDelta, mode: str) -> None:
    """From the old commit, which is pulled without deltas, to the new one, with nothing but the delta."""
    ostree(client, "init", f"--mode={mode}")
    ostree(client, "remote", "add", "--no-gpg-verify", "o", server.url)
    if written.source is not None:
        ostree(client, "pull", "--disable-static-deltas", "o", f"main@{written.source}")
    server.asked.clear()
    ostree(client, "pull", "--require-static-deltas", "o", f"main@{written.target}")
    assert ostree(client, "rev-parse", "o:main") == written.target
    ostree(client, "fsck")


@pytest.mark.parametrize("mode", ["bare-user", "bare"])
@pytest.mark.parametrize("program", [True, False], ids=["bsdiff", "without"])
def test_clients_pull_it(mode: str, program: bool, tmp_path: Path) -> None:
    if program and not bsdiff.is_installed():
        pytest.skip("needs bsdiff")
    written = make(tmp_path / "repo", OLD, NEW, replace(OPTIONS, use_bsdiff=program))
    ostree(tmp_path / "repo", "refs", "--create=main", "new")
    ostree(tmp_path / "repo", "summary", "-u")
    with logged(tmp_path / "repo") as server:
        pull(tmp_path / "client", server, written, mode)
    assert written.fallbacks == 1
    assert len(server.fetched(".filez")) == 1
    assert not server.fetched(".dirtree") + server.fetched(".dirmeta") + server.fetched(".commit")
    assert written.patched > 0
    assert written.copied >= 3
    # the file that is new has 900 kB, the one that is fetched as it is 1.1 MB
    assert written.fetched_bytes < 2_050_000 < 2_500_000 < (written.loose_bytes or 0)


def test_a_bare_user_only_client_pulls_it(tmp_path: Path) -> None:
    written = make(tmp_path / "repo", unprivileged(OLD), unprivileged(NEW))
    ostree(tmp_path / "repo", "refs", "--create=main", "new")
    ostree(tmp_path / "repo", "summary", "-u")
    with logged(tmp_path / "repo") as server:
        pull(tmp_path / "client", server, written, "bare-user-only")
    assert written.patched > 0
    assert written.copied > 0


def test_one_file_holds_all_of_it(tmp_path: Path) -> None:
    written = make(tmp_path / "repo", OLD, NEW, replace(OPTIONS, inline=True, min_fallback_size=0))
    assert os.listdir(written.path) == ["superblock"]
    client = tmp_path / "client"
    ostree(client, "init", "--mode=bare-user")
    ostree(client, "pull-local", str(tmp_path / "repo"), "old")
    ostree(client, "static-delta", "apply-offline", f"{written.path}/superblock")
    ostree(client, "refs", "--create=main", written.target)
    ostree(client, "fsck")


# libostree aborts when an archive's old files are read for a delta
@pytest.mark.parametrize(
    ("mode", "old"), [*((mode, True) for mode in CLIENTS), ("bare-user", False), ("archive", False)]
)
def test_a_file_outside_the_repository(mode: str, old: bool, tmp_path: Path) -> None:
    site, where, client = tmp_path / "repo", tmp_path / "elsewhere", tmp_path / "client"
    trees = [unprivileged(each) if mode == "bare-user-only" else each for each in (OLD, NEW)]
    # an old delta of the two with parts and fallbacks, which stays
    make(site, *trees)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    where.mkdir()
    (where / "update.delta").write_text("an older one")
    written = make_delta(
        str(site),
        "new",
        "old" if old else None,
        OPTIONS,
        Reporter(),
        empty=not old,
        filename=str(where / "update.delta"),
    )
    assert written is not None
    assert written.fallbacks == 0
    assert written.fetched_bytes == (where / "update.delta").stat().st_size
    assert os.listdir(where) == ["update.delta"]
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    ostree(client, "init", f"--mode={mode}")
    if old:
        ostree(client, "pull-local", str(site), "old")
    shutil.move(site, tmp_path / "away")
    ostree(client, "static-delta", "apply-offline", str(where / "update.delta"))
    ostree(client, "refs", "--create=main", written.target)
    ostree(client, "fsck")


def test_a_file_of_a_read_only_repository(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path / "disk") as disk:
        make(disk / "repo", OLD, NEW)
        (disk / "repo/.lock").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        file = str(tmp_path / "update.delta")
        written = make_delta(str(disk / "repo"), "new", "old", OPTIONS, Reporter(), filename=file)
    assert written is not None
    assert written.fetched_bytes == os.path.getsize(file)


@pytest.mark.parametrize("mode", [*CLIENTS, "archive"])
def test_clients_that_have_nothing(mode: str, tmp_path: Path) -> None:
    tree = unprivileged(NEW) if mode == "bare-user-only" else NEW
    written = make(tmp_path / "repo", None, tree, replace(OPTIONS, max_chunk_size=500_000, min_fallback_size=0))
    # each of the two largest files has one of its own, the rest is in others
    assert len(written.parts) >= 3
    assert written.fallbacks == 0
    client = tmp_path / "client"
    ostree(client, "init", f"--mode={mode}")
    ostree(client, "static-delta", "apply-offline", written.path)
    ostree(client, "refs", "--create=main", written.target)
    ostree(client, "fsck")


@pytest.mark.parametrize("mode", MODES)
def test_repositories_of_each_mode(mode: Mode, tmp_path: Path) -> None:
    written = make(tmp_path / "repo", OLD, NEW, mode=mode)
    name = f"{written.source}-{written.target}"
    assert ostree(tmp_path / "repo", "static-delta", "list") == name
    shown = ostree(tmp_path / "repo", "static-delta", "show", name)
    assert f"Number of parts: {len(written.parts)}" in shown
    assert f"Number of fallback entries: {written.fallbacks}" in shown
    assert (written.fallbacks == 1) is (mode is Mode.ARCHIVE)
    assert (written.loose_bytes is not None) is (mode is Mode.ARCHIVE)
    if mode is not Mode.ARCHIVE:
        client = tmp_path / "client"
        ostree(client, "init", f"--mode={mode}")
        ostree(client, "pull-local", str(tmp_path / "repo"), "old")
        ostree(client, "static-delta", "apply-offline", written.path)
        ostree(client, "refs", "--create=main", written.target)
        ostree(client, "fsck")


def test_signatures_come_with_it(tmp_path: Path) -> None:
    detached = (("note", Variant("s", "beside")), ("ostree.sign.ed25519", Variant("aay", [bytes(64)])))
    written = make(tmp_path / "repo", OLD, NEW, detached=detached)
    ostree(tmp_path / "repo", "refs", "--create=main", "new")
    ostree(tmp_path / "repo", "summary", "-u")
    with logged(tmp_path / "repo") as server:
        pull(tmp_path / "client", server, written, "bare-user")
    with Repo.open(str(tmp_path / "client")) as client:
        assert client.read_detached(written.target) == detached


def test_commits_that_differ_in_their_metadata(tmp_path: Path) -> None:
    written = make(tmp_path / "repo", OLD, OLD)
    assert written.parts == ()
    ostree(tmp_path / "repo", "refs", "--create=main", "new")
    ostree(tmp_path / "repo", "summary", "-u")
    with logged(tmp_path / "repo") as server:
        pull(tmp_path / "client", server, written, "bare-user")


def test_the_index_is_that_of_the_real_tool(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    with Repo.create(str(repo)) as opened:
        first, second, third = (write_commit(opened, {f"{each}": file(b"x")}) for each in range(3))
    with open(repo / "config", "a") as config:
        config.write("indexed-deltas=true\n")
    with Repo.open(str(repo)) as opened:
        for source in (first, None, second):
            write_delta(opened, source=source, target=third, options=OPTIONS, reporter=Reporter())
        write_delta(opened, source=None, target=first, options=OPTIONS, reporter=Reporter())

    def indexes() -> dict[str, tuple[str, list[object]]]:
        found = {}
        for path in (repo / "delta-indexes").rglob("*.index"):
            [(key, deltas)] = decode("a{sv}", path.read_bytes())
            found[str(path)] = key, sorted(deltas.value)
        return found

    ours = indexes()
    assert sorted(len(rows) for _, rows in ours.values()) == [1, 3]
    shutil.rmtree(repo / "delta-indexes")
    ostree(repo, "static-delta", "reindex")
    assert indexes() == ours


def test_an_indexed_delta_is_found(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    make(repo, OLD, NEW)
    # sets core.indexed-deltas
    ostree(repo, "summary", "-u")
    with Repo.open(str(repo)) as opened:
        source, target = opened.refs()["old"], opened.refs()["new"]
        written = write_delta(opened, source=source, target=target, options=OPTIONS, reporter=Reporter())
    assert written is not None
    (repo / "refs/heads/main").write_text(target + "\n")
    with logged(repo) as server:
        pull(tmp_path / "client", server, written, "bare-user")
    assert server.fetched(".index")


def test_a_delta_that_is_replaced_leaves_no_part_behind(tmp_path: Path) -> None:
    make(tmp_path / "repo", OLD, NEW, replace(OPTIONS, max_chunk_size=100_000))
    with Repo.open(str(tmp_path / "repo")) as opened:
        source, target = opened.refs()["old"], opened.refs()["new"]
        written = write_delta(opened, source=source, target=target, options=OPTIONS, reporter=Reporter())
        assert written is not None
        assert sorted(os.listdir(written.path)) == ["0", "superblock"]
        again = replace(OPTIONS, if_not_exists=True)
        assert write_delta(opened, source=source, target=target, options=again, reporter=Reporter()) is None
    assert not list((tmp_path / "repo/tmp").glob("staging*"))
    assert stat.S_IMODE(os.stat(f"{written.path}/0").st_mode) == 0o644


BYTES = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda begin, size: PROGRAM[begin : begin + size], st.integers(0, 500), st.integers(0, 9000)),
    st.builds(lambda begin, step: changed(PROGRAM[begin:6000], step), st.integers(0, 99), st.integers(50, 900)),
)
NAMES = st.sampled_from(["a", "b", "usr/a", "usr/b", "usr/lib/b", "usr/lib/c1.2", "usr/lib/c1.3"])
ITEMS = st.one_of(
    st.builds(file, BYTES, st.sampled_from([0o644, 0o755, 0o600]), xattrs=st.sampled_from([(), ((b"user.x", b"y"),)])),
    st.builds(link, st.text("ab/.", min_size=1, max_size=9)),
)
TREES = st.dictionaries(NAMES, ITEMS, max_size=6)


@given(old=st.none() | TREES, new=TREES, chunk=st.sampled_from([1, 5000, 1_000_000]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_trees(old: Mapping[str, Item] | None, new: Mapping[str, Item], chunk: int, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    written = make(tmp_path / "repo", old, new, replace(OPTIONS, max_chunk_size=chunk))
    client = tmp_path / "client"
    ostree(client, "init", "--mode=bare-user")
    if old is not None:
        ostree(client, "pull-local", str(tmp_path / "repo"), "old")
    ostree(client, "static-delta", "apply-offline", written.path)
    ostree(client, "refs", "--create=main", written.target)
    ostree(client, "fsck")


def test_it_is_no_larger_than_that_of_the_real_tool(tmp_path: Path) -> None:
    """Two programs, as a distribution's compiler made them; the second one with what a rebuild changes."""
    if not bsdiff.is_installed():
        pytest.skip("needs bsdiff")
    program = Path(shutil.which("ostree") or "").read_bytes()
    old = {**OLD, "usr/bin/ostree": file(program, 0o755)}
    new = {**NEW, "usr/bin/ostree": file(changed(program, 300)[:200_000] + PROGRAM[:50] + program[200_000:], 0o755)}
    ours = make(tmp_path / "repo", old, new)
    subprocess.run(
        [
            "ostree",
            f"--repo={tmp_path}/repo",
            "static-delta",
            "generate",
            "--min-fallback-size=1",
            f"--from={ours.source}",
            ours.target,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert ours.fallbacks == 1
    theirs = sum(path.stat().st_size for path in Path(ours.path).iterdir())
    print(f"ours {ours.superblock + sum(ours.parts)}, theirs {theirs}")
    assert ours.superblock + sum(ours.parts) < 1.02 * theirs

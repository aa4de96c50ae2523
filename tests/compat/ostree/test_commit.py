"""The real `ostree` as judge: same checksums, fsck, pull, checkout, locks."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import resource
import shutil
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.cli.ending import limited
from compose.commit import CommitOptions, Committed, commit_tree, write_tree
from compose.errors import RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead
from compose.ostree.config import Mode
from compose.ostree.deflate import WHOLE_MAX
from compose.ostree.gvariant import Variant
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from compose.tree import Tree
from tests.support.disk import scan_disk
from tests.support.told import Told

pytestmark = pytest.mark.root
REF = "os/x86_64/main"
MODES = [Mode.ARCHIVE, Mode.BARE_USER, Mode.BARE]


def ostree(repo: Path | str, *words: str) -> str:
    done = subprocess.run(
        ["ostree", f"--repo={repo}", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def make_nasty(top: Path) -> None:
    """What operating systems hold: odd modes and owners, capabilities, labels, odd names, sizes on framing limits."""
    (top / "usr/bin").mkdir(parents=True)
    (top / "empty-directory").mkdir()
    for mode in (0o4755, 0o2755, 0o1644, 0o600, 0o000, 0o777, 0o6711):
        path = top / f"usr/bin/mode-{mode:o}"
        path.write_bytes(b"program")
        os.chown(path, 3, 4)
        path.chmod(mode)
    ping = top / "usr/bin/ping"
    ping.write_bytes(b"ping")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(ping, "security.capability", capability)
    labelled = top / "usr/labelled"
    labelled.write_text("x")
    os.setxattr(labelled, "security.selinux", b"system_u:object_r:bin_t:s0\0")
    os.setxattr(labelled, "user.b", b"b")
    os.setxattr(labelled, "user.a", b"\0\1\2")
    os.setxattr(labelled, "user.empty", b"")
    os.symlink("usr/bin", top / "bin")
    os.symlink("x" * 400, top / "long-target")
    os.setxattr(top / "bin", "security.selinux", b"system_u:object_r:usr_t:s0\0", follow_symlinks=False)
    os.setxattr(top / "usr", "security.selinux", b"system_u:object_r:usr_t:s0\0")
    (top / "empty").touch()
    (top / "naïve-ß-日本").write_text("ünïcode")
    (top / ("n" * 250)).write_text("long name")
    os.link(ping, top / "usr/bin/ping-link")
    many = top / "many"
    many.mkdir(mode=0o1777)
    for number in range(3000):
        (many / f"{number}").write_text(str(number))
    (many / "some").mkdir()
    for size in (1, 255, 256, 65535, 65536, 3 << 20):
        (top / f"size-{size}").write_bytes(os.urandom(size // 2) + bytes(size - size // 2))
    with open(top / "streamed", "wb") as file:
        file.write(os.urandom(1 << 20))
        file.truncate(40 << 20)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("nasty") / "root"
    top.mkdir()
    make_nasty(top)
    return top


def commit(
    tree: Tree,
    blobs: BlobStore,
    repo: Path,
    *,
    jobs: int = 2,
    ref: str = REF,
    memo: str | None = None,
    ahead: DeflateAhead | None = None,
) -> Committed:
    """Commit as `ostree commit --timestamp=@1700000000` does."""
    options = CommitOptions(
        metadata=(("version", Variant("s", "1")), ("ostree.ref-binding", Variant("as", [ref]))),
        parent=None,
        timestamp=1700000000,
        ref=ref,
        jobs=jobs,
        memo=memo,
    )
    with Repo.open(str(repo)) as opened:
        return commit_tree(tree, blobs, opened, options, Reporter(), ahead)


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("mode", MODES)
def test_same_checksum_as_the_real_tool(mode: Mode, nasty: Path, tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    ostree(tmp_path / "theirs", "init", f"--mode={mode.removesuffix('-z2')}")
    expected = ostree(
        tmp_path / "theirs",
        *("commit", f"--branch={REF}", f"--tree=dir={nasty}", "--timestamp=@1700000000"),
        "--add-metadata-string=version=1",
    )
    Repo.create(str(tmp_path / "ours"), mode)
    committed = commit(tree, blobs, tmp_path / "ours")
    assert committed.checksum == expected
    assert committed.content_checksum in ostree(tmp_path / "ours", "show", REF)
    ostree(tmp_path / "ours", "fsck")
    assert ostree(tmp_path / "ours", "refs") == REF

    def listing(repo: Path) -> list[tuple[object, ...]]:
        return sorted((str(path.relative_to(repo)), *inode(path)) for path in (repo / "objects").rglob("*.*"))

    def inode(path: Path) -> tuple[object, ...]:
        status = path.lstat()
        names = sorted(os.listxattr(path, follow_symlinks=False))
        xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
        if path.is_symlink():
            return status.st_mode, status.st_uid, status.st_gid, xattrs, os.readlink(path)
        # deflated by another library, and dated by the clock
        known = b"" if path.suffix == ".filez" else path.read_bytes()
        dated = status.st_mtime_ns if path.suffix == ".file" else 0
        return status.st_mode, status.st_uid, status.st_gid, xattrs, known, dated

    assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")
    assert not list((tmp_path / "ours/tmp").glob("staging*"))


@pytest.mark.parametrize("mode", MODES[:2])
def test_a_file_that_is_too_large_to_hold(mode: Mode, tmp_path: Path) -> None:
    size = 3 * WHOLE_MAX + 1
    top = tmp_path / "root"
    top.mkdir()
    with open(top / "image", "wb") as file:
        for place in (0, size // 2, size - (4 << 20)):
            file.seek(place)
            file.write(os.urandom(4 << 20))
    assert (top / "image").stat().st_size == size
    ostree(tmp_path / "theirs", "init", f"--mode={mode.removesuffix('-z2')}")
    expected = ostree(
        tmp_path / "theirs",
        *("commit", f"--branch={REF}", f"--tree=dir={top}", "--timestamp=@1700000000"),
        "--add-metadata-string=version=1",
    )
    Repo.create(str(tmp_path / "ours"), mode)
    blobs = BlobStore(str(tmp_path / "blobs"))
    assert commit(scan_disk(top, blobs), blobs, tmp_path / "ours").checksum == expected
    ostree(tmp_path / "ours", "fsck")
    # pytest keeps the directories of several runs
    for name in ("root", "theirs", "ours", "blobs"):
        shutil.rmtree(tmp_path / name)


def test_one_job_and_many_give_the_same(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "one"))
    Repo.create(str(tmp_path / "many"))
    assert (
        commit(tree, blobs, tmp_path / "one", jobs=1).checksum
        == commit(tree, blobs, tmp_path / "many", jobs=5).checksum
    )


def test_what_is_deflated_ahead_is_used(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    refs = {entry.blob for entry in tree.entries.values() if entry.blob is not None and entry.blob.size}
    files = [(blobs.path(ref), ref.size, ref.digest) for ref in refs]
    ostree(tmp_path / "plain", "init", "--mode=archive")
    ostree(tmp_path / "ahead", "init", "--mode=archive")
    expected = commit(tree, blobs, tmp_path / "plain")
    # at another level, so that one can tell whose streams these are
    with DeflateAhead(str(tmp_path), level=1, processes=2, reporter=Reporter()) as background:
        background.add(files)
        while len(background.streams) < len({ref.digest for ref in refs}):
            time.sleep(0.01)
        found = commit(tree, blobs, tmp_path / "ahead", ahead=background)
    assert found.checksum == expected.checksum
    assert found.stats.content.bytes_written > expected.stats.content.bytes_written
    ostree(tmp_path / "ahead", "fsck")


def test_the_second_commit_writes_nothing(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"))
    first = commit(tree, blobs, tmp_path / "repo")
    again = commit(tree, blobs, tmp_path / "repo")
    assert first.checksum == again.checksum
    assert first.stats.content.written > 3000
    assert again.stats.content.written == again.stats.metadata_written == 0


def test_pull_over_http_and_checkout(nasty: Path, tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"))
    commit(tree, blobs, tmp_path / "repo")
    ostree(tmp_path / "repo", "summary", "-u")
    client = tmp_path / "client"
    ostree(client, "init", "--mode=bare")
    with served(tmp_path / "repo") as url:
        ostree(client, "remote", "add", "--no-gpg-verify", "o", url)
        ostree(client, "pull", "o", REF)
    ostree(client, "fsck")
    ostree(client, "checkout", f"o:{REF}", str(tmp_path / "checkout"))
    out = scan_disk(tmp_path / "checkout", blobs)
    assert out.entries == tree.entries


def test_summary_is_refreshed_in_the_same_transaction(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    Repo.create(str(repo))
    commit(tree, blobs, repo)
    assert not (repo / "summary").exists()
    ostree(repo, "config", "set", "core.auto-update-summary", "true")
    (repo / "summary.sig").write_bytes(b"of another summary")
    second = commit(tree, blobs, repo, ref="other/ref")
    ours = (repo / "summary").read_bytes()
    assert second.checksum in ostree(repo, "summary", "-v")
    assert not (repo / "summary.sig").exists()
    ostree(repo, "config", "unset", "core.auto-update-summary")
    ostree(repo, "summary", "-u")
    theirs = (repo / "summary").read_bytes()
    # the time of its making, and the flag that `summary -u` itself turns on in the config, are all that may differ
    assert len(ours) == len(theirs)
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 9


def test_a_signed_summary_is_left_to_who_signs(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    """Clients that demand its signature would get nothing until it is signed again; by libostree they see the old commit."""
    repo = tmp_path / "repo"
    Repo.create(str(repo))
    commit(tree, blobs, repo)
    ostree(repo, "summary", "-u")
    (repo / "summary.sig").write_bytes(b"a signature")
    before = (repo / "summary").read_bytes()
    commit(tree, blobs, repo, ref="other/ref")
    assert (repo / "summary").read_bytes() == before
    assert (repo / "summary.sig").read_bytes() == b"a signature"
    (repo / "summary.sig").unlink()
    third = commit(tree, blobs, repo, ref="third/ref")
    assert third.checksum in ostree(repo, "summary", "-v")


def test_lock_excludes_the_real_prune(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    with Repo.create(str(repo)) as opened:
        commit(tree, blobs, repo)
        ostree(repo, "config", "set", "core.lock-timeout-secs", "1")
        with Transaction(opened, jobs=1, reporter=Reporter()):
            done = subprocess.run(
                ["ostree", f"--repo={repo}", "prune"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
            )
            assert done.returncode != 0
            assert b"lock" in done.stdout.lower()
        ostree(repo, "prune")


def test_an_exception_leaves_nothing(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        before = sorted(str(path) for path in (tmp_path / "repo").rglob("*"))
        with pytest.raises(ZeroDivisionError), Transaction(repo, jobs=2, reporter=Reporter()) as transaction:
            transaction.write_dirmeta(0, 0, 0o40755, ())
            raise ZeroDivisionError
        after = sorted(str(path) for path in (tmp_path / "repo").rglob("*") if path.name != ".lock")
        assert before == after


def as_nobody(body: Callable[[], None]) -> int:
    """Status of a process of an ordinary user, of root's group, that calls this. What is above a repository is root's alone:
    it is to be opened by a descriptor."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setuid(65534)
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_another_user_of_the_group_is_writing_is_left_alone(tmp_path: Path) -> None:
    """Nor is it in the way, nor what was killed: locks are for their user alone, as those of ostree are."""
    before = os.umask(0o002)
    try:
        with Repo.create(str(tmp_path / "repo")) as repo, Transaction(repo, jobs=1, reporter=Reporter()):
            killed = tmp_path / "repo/tmp/compose-staging-killed"
            killed.mkdir()
            killed.with_name("compose-staging-killed-lock").touch(0o600)
            there = {path.name for path in (tmp_path / "repo/tmp").iterdir()}

            def body() -> None:
                with (
                    Repo.open(f"/proc/self/fd/{repo.fd}") as same,
                    Transaction(same, jobs=1, reporter=Reporter()) as transaction,
                ):
                    transaction.write_dirmeta(0, 0, 0o40755, ())

            assert as_nobody(body) == 0
            assert {path.name for path in (tmp_path / "repo/tmp").iterdir()} == there
            assert [*(tmp_path / "repo/objects").rglob("*.dirmeta")]
        with Repo.open(str(tmp_path / "repo")) as repo, Transaction(repo, jobs=1, reporter=Reporter()):
            assert not killed.exists()
    finally:
        os.umask(before)


def test_reading_back(nasty: Path, tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    for mode in MODES:
        with Repo.create(str(tmp_path / mode), mode) as repo:
            checksum = commit(tree, blobs, tmp_path / mode).checksum
            assert repo.resolve(REF) == checksum
            assert repo.read_commit(checksum).get("version") == "1"
            assert repo.read_file(checksum, "usr/bin/ping") == b"ping"
            assert repo.read_file(checksum, "bin") is None
            assert repo.read_file(checksum, "no/such") is None


@pytest.mark.parametrize("mode", ["bare-user-only", "bare-split-xattrs"])
def test_other_kinds_are_refused_with_the_way_out(tmp_path: Path, mode: str) -> None:
    Repo.create(str(tmp_path / "repo"), Mode(mode))
    with Repo.open(str(tmp_path / "repo")) as repo:
        for refused in (repo.check_writable, functools.partial(repo.open_content, bytes(32))):
            with pytest.raises(RepositoryError, match=f"{mode} repository") as caught:
                refused()
            assert "archive, bare-user or bare repository" in (caught.value.hint or "")


@pytest.mark.parametrize("who", ["user", "root of a user namespace"])
def test_bare_is_for_root_alone(tmp_path: Path, who: str) -> None:
    """Ids and capabilities would be written translated."""
    repo = tmp_path / "repo"
    Repo.create(str(repo), Mode.BARE)
    os.chmod(tmp_path, 0o755)
    program = (
        "import os, sys; from compose.ostree.repo import Repo\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)\n"
        "if sys.argv[2] == 'user': os.setuid(65534)\n"
        "from compose.ostree.config import Config, Mode\n"
        "Repo(sys.argv[1], fd, Config(mode=Mode.BARE)).check_writable()"
    )
    enter = ["unshare", "--user", "--map-root-user"] if who != "user" else []
    done = subprocess.run([*enter, "python3", "-c", program, repo, who], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"RepositoryError: {repo} is a bare repository" in done.stderr


def test_a_damaged_bare_object_is_named(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo"), Mode.BARE) as repo:
        checksum = commit(tree, blobs, tmp_path / "repo").checksum
        contents = {path: content for path, content, meta in repo.walk(checksum) if meta is None}
        for path, fault in (("usr/bin/ping", "is damaged"), ("usr/labelled", "is damaged"), ("bin", "cannot read")):
            found = tmp_path / "repo/objects" / contents[path].hex()[:2] / f"{contents[path].hex()[2:]}.file"
            if path == "usr/bin/ping":
                os.removexattr(found, "security.capability")
            elif path == "bin":
                found.unlink()
            else:
                os.chown(found, 5, 5)
            with pytest.raises(RepositoryError, match=fault) as caught, repo.open_content(contents[path]) as content:
                list(content.pieces)
            assert contents[path].hex() in caught.value.message


@pytest.mark.parametrize("mode", MODES)
def test_what_is_remembered_is_not_read_again(mode: Mode, nasty: Path, tmp_path: Path) -> None:
    # a cache of its own: its blobs are removed on the way
    blobs = BlobStore(str(tmp_path / "blobs"))
    tree = scan_disk(nasty, blobs)
    memo = str(tmp_path / "memo")
    for name in ("repo", "other"):
        Repo.create(str(tmp_path / name), mode)
    first = commit(tree, blobs, tmp_path / "repo", memo=memo)
    assert first.stats.content.known == 0
    editor = tree.edit()
    editor.add_file("usr/new", blobs.add_bytes(b"new"), writer="test")
    editor.replace("usr/labelled", xattrs=((b"security.selinux", b"other\0"),))
    changed = editor.build()
    expected = commit(changed, blobs, tmp_path / "other").checksum

    # in another repository everything is written, whatever is remembered
    Repo.create(str(tmp_path / "empty"), mode)
    assert commit(tree, blobs, tmp_path / "empty", memo=memo).checksum == first.checksum
    ostree(tmp_path / "empty", "fsck")
    # an object that somebody removed is written again
    victim = next((tmp_path / "empty/objects").glob("*/*.file*"))
    victim.unlink()
    assert commit(tree, blobs, tmp_path / "empty", memo=memo).stats.content.written == 1
    ostree(tmp_path / "empty", "fsck")

    # nothing but the two changed files can be read
    needed = {blobs.path(changed[path].blob) for path in ("usr/new", "usr/labelled")}  # type: ignore[arg-type]
    for path in Path(blobs.root).glob("??/*"):
        if str(path) not in needed:
            path.unlink()
    again = commit(changed, blobs, tmp_path / "repo", memo=memo)
    assert again.checksum == expected
    assert again.stats.content.written == 2
    assert again.stats.content.known == again.stats.content.objects - 2
    ostree(tmp_path / "repo", "fsck")


def test_a_damaged_blob_is_neither_committed_nor_remembered(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    editor = Tree.empty().edit()
    sizes = (5, 70 << 20)
    for size in sizes:
        editor.add_file(f"file-{size}", blobs.add_bytes(bytes(size)), writer="test")
    tree = editor.build()
    # what it has made itself is not hashed again
    blobs = BlobStore(blobs.root)
    repo, memo = tmp_path / "repo", str(tmp_path / "memo")
    Repo.create(str(repo))
    for size in sizes:
        blob = tree[f"file-{size}"].blob
        assert blob is not None
        path = Path(blobs.path(blob))
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"x")
        with pytest.raises(StorageError, match=str(path)):
            commit(tree, blobs, repo, memo=memo)
        assert not list((repo / "objects").glob("*/*"))
        path.write_bytes(good)
    assert commit(tree, blobs, repo, memo=memo).stats.content.known == 0
    ostree(repo, "fsck")


def test_little_memory_means_fewer_processes(
    tree: Tree, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()

    monkeypatch.setattr("compose.memory.available", lambda: 200 << 20)
    options = CommitOptions(metadata=(), parent=None, timestamp=0, ref=None, jobs=5)
    with Repo.create(str(tmp_path / "repo")) as repo:
        commit_tree(tree, blobs, repo, options, told)
    # the largest file has 40 MiB: twice that and 20 for each
    assert [each for each in told.infos if "2 of 5 processes" in each]


@pytest.mark.parametrize("refusing", ["objects/6e", "refs/heads/os"])
def test_what_refuses_at_the_end_is_named(refusing: str, tmp_path: Path) -> None:
    """A directory that root made once in another user's repository."""
    with Repo.create(str(tmp_path / "repo")) as repo:
        for path in ("", "objects", "tmp", "refs/heads"):
            os.chown(tmp_path / "repo" / path, 65534, 65534)
        place = tmp_path / "repo" / refusing
        place.mkdir(mode=0o755)

        def body() -> None:
            with (
                pytest.raises(StorageError, match=f"cannot write {place}(/|:)"),
                Repo.open(f"/proc/self/fd/{repo.fd}") as same,
                Transaction(same, jobs=1, reporter=Reporter()) as transaction,
            ):
                assert transaction.write_dirtree((), ()).hex().startswith("6e")
                transaction.set_ref(REF, 64 * "0")

        assert as_nobody(body) == 0
        assert repo.refs() == {}


@pytest.mark.parametrize("left", [2, 6])
def test_a_limit_of_descriptors_is_told_of(left: int, tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    """left: the number of those that may still be opened, when the first process is to be started or the second."""
    with Repo.create(str(tmp_path / "repo")) as repo, Transaction(repo, jobs=2, reporter=Reporter()) as transaction:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(repo.fd)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files") as raised:
                write_tree(tree, blobs, transaction, lambda _objects, _size: None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        # what a command tells then
        assert limited(raised.value) is not None
        again = os.dup(repo.fd)
        os.close(again)
        assert again == free


@pytest.mark.parametrize("umask", [0o077, 0o002])
@pytest.mark.parametrize("mode", MODES[:2])
def test_objects_are_for_all_to_read_whatever_the_umask(
    mode: Mode, umask: int, tree: Tree, blobs: BlobStore, tmp_path: Path
) -> None:
    Repo.create(str(tmp_path / "repo"), mode)
    before = os.umask(umask)
    try:
        commit(tree, blobs, tmp_path / "repo")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "repo/objects").rglob("*") if path.is_file()]
    # in a bare-user repository a file has its own mode
    asked = [path for path in files if mode is Mode.ARCHIVE or path.suffix != ".file"]
    assert {path.stat().st_mode & 0o777 for path in asked} == {0o644}
    ostree(tmp_path / "repo", "fsck")


def test_what_was_pulled_is_found_as_ostree_finds_it(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    source, repo = tmp_path / "source", tmp_path / "repo"
    Repo.create(str(source))
    checksum = commit(tree, blobs, source).checksum
    Repo.create(str(repo))
    ostree(repo, "remote", "add", "--no-gpg-verify", "origin", source.as_uri())
    with Repo.open(str(repo)) as opened:
        assert opened.resolve(REF) is None
        ostree(repo, "pull", "origin", REF)
        assert opened.resolve(REF) == checksum == ostree(repo, "rev-parse", REF)
        assert opened.resolve("os/x86_64/other") is None


def test_a_repository_with_a_parent_is_refused(tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"))
    Repo.create(str(tmp_path / "parent"))
    ostree(tmp_path / "repo", "config", "set", "core.parent", str(tmp_path / "parent"))
    with Repo.open(str(tmp_path / "repo")) as repo, pytest.raises(RepositoryError, match=r"core\.parent"):
        repo.check_writable()


def test_a_summary_nobody_asked_for_stops_nothing(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    Repo.create(str(repo))
    commit(tree, blobs, repo)
    ostree(repo, "summary", "-u")
    ostree(repo, "config", "unset", "core.auto-update-summary")
    (repo / "refs/heads/gone").write_text("a" * 64)
    checksum = commit(tree, blobs, repo, ref="other/ref").checksum
    assert ostree(repo, "rev-parse", "other/ref") == checksum
    ostree(repo, "config", "set", "core.auto-update-summary", "true")
    with pytest.raises(RepositoryError, match="does not list it"):
        commit(tree, blobs, repo, ref="another/ref")

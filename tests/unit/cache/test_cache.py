"""Stock, removal and verification of a real cachedir."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.cache.collect import Limits, collect
from compose.cache.inventory import Kind, past_composes, take_stock, trim_history
from compose.cache.verify import verify
from compose.cachedir import HISTORY, PREVIEW, CacheDir
from compose.cli.app import main
from compose.errors import StorageError
from compose.events import Reporter
from compose.importer.cache import IMPORTER_VERSION, ImportCache
from compose.ostree.repo import Repo
from compose.rpm.manifest import FileFlag, ManifestFile, PackageManifest
from compose.rpm.nevra import Nevra
from compose.tree import Entry
from compose.workroot.layer import Change
from compose.workroot.memory import ProgramMemory, Remembered
from compose.workroot.sight import Sight

QUIET = Reporter()


@pytest.fixture
def cache(tmp_path):
    return CacheDir(str(tmp_path / "cache"))


def add_package(cache: CacheDir, name: str, *contents: bytes) -> str:
    """A package whose files have these contents; the path of its manifest."""
    store = BlobStore(cache.join("blobs"))
    files = tuple(
        ManifestFile(path=f"f{number}", mode=0o100644, user="root", group="root", mtime=5, flags=FileFlag(0), blob=blob)
        for number, blob in enumerate(store.add_bytes(content, 0o644, 5) for content in contents)
    )
    manifest = PackageManifest(
        nevra=Nevra(name=name, epoch=0, version="1", release="1", arch="noarch"),
        sha256=name.encode().hex().ljust(64, "0"),
        source_rpm="",
        build_time=1,
        size=1,
        header=b"header",
        files=files,
    )
    manifests = ImportCache(cache.join("manifests"), store)
    manifests.store(manifest)
    (path,) = [path for path in manifests.paths() if manifest.sha256 in path]
    return path


def blobs_left(cache: CacheDir) -> set[bytes]:
    return {Path(path).read_bytes() for path in BlobStore(cache.join("blobs")).paths()}


def test_stock(cache):
    add_package(cache, "one", b"a" * 9000, b"shared")
    add_package(cache, "two", b"shared")
    with cache.shared(QUIET), cache.scratch() as work:
        blob = next(BlobStore(cache.join("blobs")).paths())
        os.link(blob, f"{work}/lower")
        items = take_stock(cache)
    counts = [item.kind for item in items]
    assert (counts.count(Kind.BLOBS), counts.count(Kind.MANIFESTS), counts.count(Kind.SCRATCH)) == (2, 2, 1)
    on_disk = {item.path: item.size for item in items}
    assert on_disk[blob] == os.stat(blob).st_blocks * 512
    # the directory's own; what it links to is counted already
    assert on_disk[work] <= 4096


def test_use_counts(cache):
    """A manifest that was loaded is younger than one that was not."""
    paths = [add_package(cache, name, name.encode()) for name in ("used", "unused")]
    for path in paths:
        os.utime(path, (1000, 1000))
    manifests = ImportCache(cache.join("manifests"), BlobStore(cache.join("blobs")))
    assert manifests.load(b"used".hex().ljust(64, "0")) is not None
    gone, _ = collect(cache, Limits(unused_since=2000), QUIET, timeout=0, dry_run=False)
    assert {item.path for item in gone} & set(paths) == {paths[1]}
    assert blobs_left(cache) == {b"used"}


def test_dry_run_says_the_same_and_removes_nothing(cache):
    add_package(cache, "one", b"a")
    BlobStore(cache.join("blobs")).add_bytes(b"nobody's")
    said = collect(cache, Limits(max_size=0), QUIET, timeout=0, dry_run=True)
    assert blobs_left(cache) == {b"a", b"nobody's"}
    assert collect(cache, Limits(max_size=0), QUIET, timeout=0, dry_run=False) == said
    assert blobs_left(cache) == set()
    assert said[1] == 0


def test_what_remains_is_counted_without_the_preview(cache):
    add_package(cache, "one", b"a")
    before = sum(item.size for item in take_stock(cache))
    with Repo.create(cache.join(PREVIEW)):
        pass
    assert Kind.PREVIEW in {item.kind for item in take_stock(cache)}
    assert collect(cache, Limits(), QUIET, timeout=0, dry_run=False) == ((), before)


def test_what_went_is_counted(cache, capsys):
    add_package(cache, "one", b"a")
    BlobStore(cache.join("blobs")).add_bytes(b"nobody's")
    os.makedirs(cache.join("work/left"))
    assert main(["cache", "gc", f"--cachedir={cache.path}", "--max-size=0", "--progress=none"]) == 0
    out = capsys.readouterr().out
    assert "removed: 1 manifest of an RPM, " in out
    assert "removed: 1 scratch directory, " in out
    assert "removed: 2 file contents, " in out


def test_what_a_running_compose_uses_stays(cache):
    add_package(cache, "one", b"a")
    with cache.shared(QUIET), pytest.raises(StorageError, match="in use by other composes"):
        collect(cache, Limits(max_size=0), QUIET, timeout=0.2, dry_run=False)
    assert blobs_left(cache) == {b"a"}


def test_composes_share_and_wait_for_who_removes(cache):
    order = []

    def composing():
        with cache.shared(QUIET):
            order.append("compose")

    with cache.shared(QUIET), CacheDir(cache.path).shared(QUIET):
        pass
    with cache.exclusive(QUIET, timeout=0):
        thread = threading.Thread(target=composing)
        thread.start()
        time.sleep(0.2)
        order.append("gc")
    thread.join()
    assert order == ["gc", "compose"]


def test_manifests_that_nobody_can_read_go_with_their_blobs(cache):
    path = add_package(cache, "one", b"a")
    os.rename(path, path + "9")
    Path(path + "9").write_bytes(
        Path(path + "9").read_bytes().replace(b"manifest %d" % IMPORTER_VERSION, b"manifest 9")
    )
    collect(cache, Limits(), QUIET, timeout=0, dry_run=False)
    assert os.listdir(cache.join("manifests")) == []
    assert blobs_left(cache) == set()


def test_history(cache):
    for number in range(3):
        with cache.shared(QUIET):
            cache.count("rpms", asked=10, found=number)
    with open(cache.join(HISTORY), "a") as file:
        file.write('{"time": 3, "rp')
    with pytest.raises(ZeroDivisionError), cache.shared(QUIET):
        cache.count("rpms", asked=10, found=9)
        raise ZeroDivisionError
    assert [compose.counts["rpms"] for compose in past_composes(cache)] == [(10, 0), (10, 1), (10, 2)]


def test_history_is_kept_short(cache):
    line = '{"time": 5, "rpms": [1, 1]}\n'
    Path(cache.join(HISTORY)).write_text('{"time": 4}\n' * 7 + line * 1000)
    trim_history(cache)
    assert Path(cache.join(HISTORY)).read_text() == line * 1000


def test_verify_passes_over_what_is_gone_meanwhile(cache, monkeypatch):
    """A compose, or another verification, has found the damage first."""
    add_package(cache, "a", b"a")
    real = BlobStore.is_sound

    def gone(store, path):
        os.unlink(path)
        return real(store, path)

    monkeypatch.setattr(BlobStore, "is_sound", gone)
    assert verify(cache, 1, QUIET) == (2, ())


def test_a_lower_layer_is_as_old_as_its_last_use(cache):
    """However new the files in it claim to be."""
    memory = ProgramMemory(cache.join("programs"))
    with memory.lower() as lower:
        file = Path(lower.directory, "file")
    file.touch()
    os.utime(file, (1 << 32, 1 << 32))
    (path,) = memory.lowers()
    os.utime(path, (1000, 1000))
    (item,) = (item for item in take_stock(cache) if item.kind is Kind.LOWERS)
    assert item.used == 1000


def test_verify_waits_for_a_download(cache):
    """Of a compose that runs meanwhile, and writes the file in its place."""
    place = Path(cache.join("rpms"), f"sha256-{hashlib.sha256(b'whole').hexdigest()}")
    place.mkdir(parents=True)
    (place / "a.rpm").write_bytes(b"wh")

    class Waiting(Reporter):
        def info(self, message):
            (place / "a.rpm").write_bytes(b"whole")
            os.close(lock)

    lock = os.open(cache.join("rpms/lock"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert verify(cache, 1, Waiting()) == (1, ())
    assert (place / "a.rpm").read_bytes() == b"whole"


def test_verify_finds_what_no_inode_tells(cache):
    paths = [add_package(cache, name, name.encode() * 5000) for name in ("one", "two", "three")]
    count, damaged = verify(cache, 2, QUIET)
    assert (count, damaged) == (6, ())
    blob = next(BlobStore(cache.join("blobs")).paths())
    status = os.stat(blob)
    with open(blob, "r+b") as file:
        file.seek(3000)
        file.write(b"!")
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    Path(paths[0]).write_bytes(Path(paths[0]).read_bytes()[:-1])
    rpm = Path(cache.join("rpms"), "sha256-" + "0" * 64)
    rpm.mkdir(parents=True)
    (rpm / "x.rpm").write_bytes(b"another")
    count, damaged = verify(cache, 2, QUIET)
    assert count == 7
    assert set(damaged) == {blob, paths[0], str(rpm)}
    assert not any(os.path.lexists(path) for path in damaged)
    assert verify(cache, 2, QUIET)[1] == ()


def test_what_programs_did(cache):
    """A remembered result keeps its blobs; a damaged one is removed, together with the blobs only it referred to."""
    store = BlobStore(cache.join("blobs"))
    memory = ProgramMemory(cache.join("programs"))
    for key, text in (("aa1", b"kept"), ("bb2", b"damaged")):
        entry = Entry(mode=0o100644, blob=store.add_bytes(text))
        run = Remembered(
            sight=Sight(found={"": "d"}, listed={}), output="", changed=("f",), changes=(Change(path="f", entry=entry),)
        )
        memory.keep(key, run)
    (_, damaged) = memory.paths()
    Path(damaged).write_bytes(Path(damaged).read_bytes()[:-1])
    assert verify(cache, 1, QUIET)[1] == (damaged,)
    memory.keep("bb2", run)
    Path(damaged).write_bytes(b"something else")
    collect(cache, Limits(), QUIET, timeout=0, dry_run=False)
    # a file that a compose is writing, or was when it was killed
    unfinished = Path(cache.join("programs"), "bb", "2.0123456789ab.tmp")
    unfinished.write_bytes(b"")
    assert verify(cache, 1, QUIET)[1] == ()
    assert unfinished.exists()
    collect(cache, Limits(), QUIET, timeout=0, dry_run=False)
    assert not unfinished.exists()
    (kept,) = memory.paths()
    assert "/aa/1." in kept
    assert blobs_left(cache) == {b"kept"}
    # this version would never replay it
    os.rename(kept, f"{kept}1")
    assert verify(cache, 1, QUIET)[1] == ()
    collect(cache, Limits(), QUIET, timeout=0, dry_run=False)
    assert memory.paths() == []
    assert blobs_left(cache) == set()

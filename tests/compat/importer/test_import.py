from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import PackageError, StorageError
from compose.events import Reporter, Task
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import IMPORTER_VERSION, ImportCache
from compose.importer.pool import ImportPool
from compose.importer.stage import import_packages
from compose.importer.unpack import unpack_rpm
from compose.rpm.manifest import FileFlag, TriggerKind
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Reason, ResolvedPackage
from tests.support.rpmmaker import INT32, STRING, STRINGS, Member, RpmMaker, directory, symlink


@pytest.fixture
def cache(tmp_path):
    return ImportCache(str(tmp_path / "manifests"), BlobStore(str(tmp_path / "blobs")))


@pytest.fixture
def rpm_file(tmp_path):
    """Write a package; the RpmFile that the fetch stage would give for it."""

    def write(maker, **changes):
        path = tmp_path / f"{maker.name}.rpm"
        path.write_bytes(maker.build())
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        package = ResolvedPackage(
            nevra=Nevra(name=maker.name, epoch=0, version=maker.version, release=maker.release, arch=maker.arch),
            repo="r",
            location=path.name,
            checksum=("sha256", sha256),
            download_size=path.stat().st_size,
            install_size=sum(len(member.content) for member in maker.members),
            source_rpm="",
            reason=Reason.REQUESTED,
        )
        return RpmFile(package=dataclasses.replace(package, **changes), path=str(path), sha256=sha256, key="")

    return write


def package(name="nasty"):
    """One of everything that a manifest can hold."""
    return RpmMaker(
        [
            directory("/usr"),
            Member("/usr/a", b"content of " + name.encode(), caps="cap_net_raw=ep", flags=1 | 16 | 1 << 20, lang="de"),
            Member("/usr/b", b"content of " + name.encode(), inode=2, color=2, user="u", group="g"),
            symlink("/usr/ünï", "a"),
            Member("/usr/ghost", flags=64, in_archive=False),
        ],
        name=name,
        tags={
            1023: (STRING, "echo \udcff"),
            1085: (STRINGS, ["/bin/sh", "-x"]),
            5066: (STRINGS, ["cat"]),
            5067: (STRINGS, ["<lua>"]),
            5069: (STRINGS, ["/usr/lib"]),
            5070: (INT32, [0]),
            5071: (STRINGS, [""]),
            5072: (INT32, [1 << 16]),
            5084: (INT32, [100]),
        },
    )


def manifest_path(cache, file):
    return f"{cache.manifests}/{file.sha256}.{IMPORTER_VERSION}"


def test_the_store_knows_what_the_import_made(cache, rpm_file):
    there = cache.blobs.add_bytes(b"there before", 0o644, 1700000000)
    store = BlobStore(cache.blobs.root)
    file = rpm_file(RpmMaker([Member("/new", b"new"), Member("/same", b"new"), Member("/old", b"there before")]))
    (manifest,) = import_packages((file,), ImportCache(cache.manifests, store), 1, Reporter())
    contents = {each.path: each.blob for each in manifest.files}
    assert contents["old"] == there
    assert {path for path, blob in contents.items() if store.has_made(blob)} == {"new", "same"}
    # one that nothing was imported for has made nothing
    again = BlobStore(cache.blobs.root)
    import_packages((file,), ImportCache(cache.manifests, again), 1, Reporter())
    assert not any(again.has_made(blob) for blob in contents.values())


def test_what_is_stored_is_loaded(cache, rpm_file):
    file = rpm_file(package())
    manifest = unpack_rpm(file.path, file.sha256, cache.blobs)
    cache.store(manifest)
    assert cache.load(file.sha256) == manifest
    assert manifest.scriptlets[0].script.body == "echo \udcff"
    assert manifest.triggers[0].kind is TriggerKind.FILE_IN
    assert manifest.files[1].flags == FileFlag.CONFIG | FileFlag.NOREPLACE | FileFlag(1 << 20)
    assert os.listdir(cache.manifests) == [f"{file.sha256}.{IMPORTER_VERSION}"]


def test_an_unknown_rpm_is_not_in_the_cache(cache):
    assert cache.load("0" * 64) is None


DAMAGE = {
    "emptied": lambda data: b"",
    "cut early": lambda data: data[:10],
    "cut late": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "a bit in the facts": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "a bit in the digest": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "no manifest": lambda data: b"x" + data[1:],
    "of another version": lambda data: signed(data[:-32].replace(b"manifest %d" % IMPORTER_VERSION, b"manifest 0")),
}


def signed(data):
    return data + hashlib.sha256(data).digest()


def test_a_damaged_manifest_is_imported_again(cache, rpm_file):
    file = rpm_file(package())
    (whole,) = import_packages((file,), cache, 1, Reporter())
    with open(manifest_path(cache, file), "rb") as stored:
        data = stored.read()
    for name, damage in DAMAGE.items():
        with open(manifest_path(cache, file), "wb") as stored:
            stored.write(damage(data))
        assert cache.load(file.sha256) is None, name
    assert import_packages((file,), cache, 1, Reporter()) == (whole,)
    assert cache.load(file.sha256) == whole


@pytest.mark.parametrize("what", ["symlink", "directory", "another owner"])
def test_what_stands_in_the_place_of_a_manifest_is_replaced(cache, rpm_file, tmp_path, what):
    file = rpm_file(package())
    (whole,) = import_packages((file,), cache, 1, Reporter())
    path = manifest_path(cache, file)
    if what == "another owner":
        os.chown(path, 1234, -1)
    else:
        os.rename(path, tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", path) if what == "symlink" else os.makedirs(path + "/x")
    assert cache.load(file.sha256) is None
    assert import_packages((file,), cache, 1, Reporter()) == (whole,)
    assert cache.load(file.sha256) == whole


def test_the_manifest_of_another_rpm_is_not_taken(cache, rpm_file):
    one, two = rpm_file(package("one")), rpm_file(package("two"))
    import_packages((one,), cache, 1, Reporter())
    os.rename(manifest_path(cache, one), manifest_path(cache, two))
    assert cache.load(two.sha256) is None


def write_to(path):
    with open(path, "r+b") as file:
        file.write(b"C")


@pytest.mark.parametrize(
    "lose", [os.unlink, lambda path: os.truncate(path, 1), write_to], ids=["missing", "cut short", "written to"]
)
def test_lost_blobs_are_imported_again(cache, rpm_file, lose):
    file = rpm_file(package())
    (manifest,) = import_packages((file,), cache, 1, Reporter())
    blob = manifest.files[1].blob
    lose(cache.blobs.path(blob))
    assert cache.load(file.sha256) is None
    assert import_packages((file,), cache, 1, Reporter()) == (manifest,)
    assert cache.blobs.has(blob)


def test_leftovers_of_killed_processes_are_removed(cache):
    for name, age in ((".new-old", 7200), (".new-fresh", 0)):
        path = f"{cache.manifests}/{name}"
        with open(path, "wb"):
            os.utime(path, (time.time() - age,) * 2)
    ImportCache(cache.manifests, cache.blobs)
    assert os.listdir(cache.manifests) == [".new-fresh"]


class Recorder(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.total = None
        self.details = []
        self.said = []

    def info(self, message):
        self.said.append(message)

    def task(self, name, *, total=None, unit=""):
        self.total = total
        recorder = self

        class Recording(Task):
            def advance(self, amount=1, *, detail=""):
                recorder.details.append(detail)

        return Recording()


def test_packages_come_sorted_from_import_and_cache(cache, rpm_file):
    names = [f"p{number}" for number in (7, 3, 9, 1, 5)]
    rpms = tuple(rpm_file(package(name)) for name in names)
    first = import_packages(rpms[:2], cache, 2, Reporter())
    reporter = Recorder()
    everything = import_packages(rpms, cache, 3, reporter)
    assert [manifest.nevra.name for manifest in everything] == sorted(names)
    assert set(first) <= set(everything)
    assert reporter.total == 5
    assert sorted(reporter.details) == [f"{name}-1.0-1.noarch" for name in sorted(names)]
    assert import_packages(rpms, cache, 1, Reporter()) == everything


def test_no_process_is_started_for_what_is_cached(cache, rpm_file, monkeypatch):
    file = rpm_file(package())
    import_packages((file,), cache, 1, Reporter())
    monkeypatch.setattr("compose.importer.pool.subprocess.Popen", None)
    import_packages((file,), cache, 1, Reporter())


class Pools:
    """Notes how many processes a pool was made for."""

    def __init__(self):
        self.counts = []

    def __call__(self, count, cache):
        self.counts.append(count)
        return ImportPool(count, cache)


@pytest.mark.parametrize(
    ("free", "count", "said"),
    [(1 << 40, 3, False), (None, 3, False), (330 << 20, 2, True), (10 << 20, 1, True)],
)
def test_no_more_processes_than_there_is_memory_for(cache, rpm_file, monkeypatch, free, count, said):
    rpms = tuple(rpm_file(package(f"p{number}")) for number in range(3))
    pools, recorder = Pools(), Recorder()
    monkeypatch.setattr("compose.importer.stage.ImportPool", pools)
    monkeypatch.setattr("compose.memory.available", lambda: free)
    assert len(import_packages(rpms, cache, 8, recorder)) == 3
    assert pools.counts == [count]
    assert [f"with {count} of 3 processes" in line for line in recorder.said] == [True] * said


def test_nothing_to_import(cache):
    assert import_packages((), cache, 4, Reporter()) == ()


def test_a_hostile_package_fails_the_import_and_leaves_no_process(cache, rpm_file):
    rpms = [rpm_file(package(f"good{number}")) for number in range(4)]
    rpms.append(rpm_file(RpmMaker([Member("/usr/a", b"abc", archive_content=b"xyz")], name="evil")))
    with pytest.raises(PackageError, match=r"evil-1\.0-1\.noarch: '/usr/a'"):
        import_packages(tuple(rpms), cache, 2, Reporter())
    assert cache.load(rpms[-1].sha256) is None
    assert children() == []


def test_what_librpm_says_of_a_damaged_header_is_shown(cache, rpm_file):
    file = rpm_file(RpmMaker([Member("/a"), Member("/b")], tags={1039: (INT32, [0, 0])}))
    with pytest.raises(PackageError) as caught:
        import_packages((file,), cache, 1, Reporter())
    assert any("tag 1039" in line for line in caught.value.details)


def test_a_package_that_is_not_what_its_repository_says_is_refused(cache, rpm_file):
    named = Nevra(name="other", epoch=0, version="1.0", release="1", arch="noarch")
    file = rpm_file(package(), nevra=named)
    for _ in range(2):
        with pytest.raises(PackageError, match=r"is nasty-1\.0-1\.noarch, but its repository calls it other-1\.0-1"):
            import_packages((file,), cache, 1, Reporter())


def test_storage_errors_cross_the_processes(cache, rpm_file):
    file = rpm_file(package())
    os.unlink(file.path)
    with pytest.raises(StorageError, match=r"nasty\.rpm cannot be read: No such file"):
        import_packages((file,), cache, 1, Reporter())


def test_a_worker_that_cannot_use_the_cache_blames_no_package(cache, rpm_file):
    file = rpm_file(package())
    os.chmod(cache.blobs.root, 0o777)
    with pytest.raises(StorageError, match="its content cannot be trusted"):
        import_packages((file,), cache, 1, Reporter())


@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [
        (signal.SIGSEGV, "SIGSEGV", False),
        (signal.SIGRTMIN + 6, "signal 40", False),
        (signal.SIGKILL, "SIGKILL", True),
    ],
)
def test_a_worker_that_dies_is_named(cache, rpm_file, tmp_path, number, name, hint):
    file = rpm_file(package())
    fifo = tmp_path / "slow.rpm"
    os.mkfifo(fifo)
    with ImportPool(1, cache) as pool:
        pool.import_rpm(file.path, file.sha256)
        killer = threading.Timer(0.1, lambda: os.kill(children()[0], number))
        killer.start()
        with pytest.raises(PackageError, match=rf"slow\.rpm: the process importing it was killed by {name}") as caught:
            pool.import_rpm(str(fifo), "0" * 64)
        assert ("--jobs" in (caught.value.hint or "")) is hint
        killer.join()
        # other packages are not blamed for it
        pool.import_rpm(file.path, file.sha256)
    assert children() == []


def test_an_interrupt_ends_the_workers_at_once(cache, rpm_file, tmp_path):
    fifo = tmp_path / "slow.rpm"
    os.mkfifo(fifo)
    slow = dataclasses.replace(rpm_file(package()), path=str(fifo))
    begun = time.monotonic()
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        import_packages((slow,), cache, 2, Reporter())
    timer.join()
    assert time.monotonic() - begun < 5
    assert children() == []


def children():
    """Processes started by any thread of this one and still running; what an earlier test left unreaped is none."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if is_running(pid)]


def is_running(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False

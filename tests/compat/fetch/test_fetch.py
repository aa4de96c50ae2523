from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from compose import fs
from compose.cachedir import CacheDir
from compose.errors import FetchError, PackageError, StorageError, TrustError
from compose.events import Reporter, Task
from compose.fetch import local
from compose.fetch.fetcher import downloads_locked, fetch
from compose.fetch.keys import download_keys, load_keys
from compose.rpm.repos import RepoAccess, RepoNetwork, key_paths
from compose.rpm.specs import PackageSpec
from compose.solve.request import SolveRequest
from compose.solve.solver import solve
from tests.support.rpmrepo import Keys, Package, Server, build, index, run

PACKAGES = [Package("small"), Package("large", size=3_000_000), Package("unsigned"), Package("foreign")]


@pytest.fixture(scope="session")
def keys():
    keys = Keys()
    keys.make("ours")
    keys.make("other", algorithm="rsa2048")
    yield keys
    keys.close()


@pytest.fixture(scope="session")
def repository(tmp_path_factory, keys):
    """small and large signed by ours, foreign by other; do not change it."""
    directory = tmp_path_factory.mktemp("fetch") / "repo"
    rpms = build(PACKAGES, directory)
    keys.sign(rpms["small"], "ours")
    keys.sign(rpms["large"], "ours", "--rpmv4")
    keys.sign(rpms["foreign"], "other")
    index(directory)
    return directory


@pytest.fixture
def server(repository):
    server = Server(repository.parent)
    yield server
    server.close()


class Log(Reporter):
    def __init__(self):
        self.lines = []
        self.bytes = {}

    def info(self, message):
        self.lines.append(message)

    warn = info

    def task(self, name, *, total=None, unit=""):
        log = self

        class Counting(Task):
            def advance(self, amount=1, *, detail=""):
                log.bytes[name] = log.bytes.get(name, 0) + amount

        return Counting()


class Place:
    def __init__(self, path, keys, url):
        self.path = path
        self.tree = path / "tree"
        self.tree.mkdir()
        self.cache = path / "cache"
        self.log = Log()
        (self.tree / "ours.asc").write_bytes(keys.export("ours"))
        self.repo(url)

    def repo(self, url, options="gpgkey=ours.asc"):
        (self.tree / "a.repo").write_text(f"[test]\nbaseurl={url}\n{options}\n")

    def access(self, **access):
        return RepoAccess(repo_dirs=(str(self.tree),), basearch="x86_64", **access)

    def network(self, **network):
        return RepoNetwork(cachedir=str(self.cache), pause=0.01, **network)

    def solve(self, *specs):
        packages = tuple(PackageSpec(text=spec, place="t.yaml:2:5") for spec in specs)
        return solve(SolveRequest(packages=packages, access=self.access()), self.network(), self.log)

    def fetch(self, *specs, access=None, **network):
        resolution = self.solve(*specs)
        return fetch(resolution, access or self.access(), self.network(**network), self.log, jobs=2)

    def fails(self, error, *specs, **arguments):
        with pytest.raises(error) as caught:
            self.fetch(*specs, **arguments)
        return caught.value

    def cached(self):
        return sorted(path.name for path in self.cache.glob("rpms/*/*.rpm"))


@pytest.fixture
def place(tmp_path, keys, repository):
    return Place(tmp_path, keys, repository)


def test_files_of_a_local_repository(place, repository, keys):
    large, small = place.fetch("small", "large")
    original = repository / "small-1.0.noarch.rpm"
    assert Path(small.path).read_bytes() == original.read_bytes()
    assert small.sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    assert small.key == large.key == keys.fingerprint("ours")[-16:]
    assert (small.package.nevra.name, large.package.nevra.name) == ("small", "large")
    assert os.path.commonpath([small.path, str(place.cache)]) == str(place.cache)
    # a copy: whoever changes the repository afterwards does not change what was verified
    assert not os.path.samefile(small.path, original)
    total = sum(path.stat().st_size for path in repository.glob("[sl]*.rpm"))
    assert place.log.bytes["Copying packages"] == place.log.bytes["Verifying packages"] == total
    assert "Downloading packages" not in place.log.bytes


def test_a_package_that_a_local_repository_lacks_is_named(place, repository, tmp_path):
    shutil.copytree(repository, tmp_path / "less")
    (tmp_path / "less/large-1.0.noarch.rpm").unlink()
    place.repo("../less")
    error = place.fails(FetchError, "small", "large")
    assert "large-1.0-1.noarch of repository 'test'" in error.message
    assert "small-1.0.noarch.rpm" in place.cached()


def test_who_reads_a_package_is_not_disturbed_by_who_brings_it_again(place, repository):
    (small,) = place.fetch("small")
    with open(small.path, "rb") as reader:
        fs.copy_file(str(repository / "small-1.0.noarch.rpm"), small.path)
        assert reader.read() == (repository / "small-1.0.noarch.rpm").read_bytes()
        assert os.fstat(reader.fileno()).st_nlink == 0
    assert place.cached() == ["small-1.0.noarch.rpm"]


def test_what_is_cached_is_not_downloaded_again(place, server):
    place.repo(f"{server.url}/repo")
    first = place.fetch("small", "large")
    assert place.fetch("small", "large") == first
    assert place.fetch("small", cache_only=True) == first[1:]
    assert server.asked_for("small-1.0.noarch.rpm") == [""]


@pytest.mark.parametrize("damage", ["flipped", "longer", "empty", "link"])
def test_a_damaged_cache_heals(place, damage):
    (small,) = place.fetch("small")
    path = Path(small.path)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "longer":
        path.write_bytes(data + b"more")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.rename(place.path / "elsewhere")
        path.symlink_to(place.path / "elsewhere")
    (again,) = place.fetch("small")
    assert again == small
    assert hashlib.sha256(path.read_bytes()).hexdigest() == small.sha256


def test_cache_only_lists_what_is_missing(place):
    place.fetch("small")
    error = place.fails(FetchError, "small", "large", cache_only=True)
    assert "1 of 2 packages" in error.message
    assert error.details == ("large-1.0-1.noarch",)


def test_a_partial_file_of_wrong_bytes_does_not_stop_a_download(place, server):
    place.repo(f"{server.url}/repo")
    package = place.solve("large").packages[0]
    partial = place.cache / "rpms" / f"sha256-{package.checksum[1]}" / "large-1.0.noarch.rpm"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * 2_000_000)
    place.fetch("large")


@pytest.mark.parametrize("faults", [[503] * 5, ["cut"] * 5, ["garbage"], [500, "cut", "garbage", 503]])
def test_a_server_with_trouble(place, server, faults):
    place.repo(f"{server.url}/repo")
    server.faults = {"large-1.0.noarch.rpm": faults}
    (large,) = place.fetch("large")
    assert os.path.getsize(large.path) == large.package.download_size


def test_a_package_that_does_not_come_is_named_with_its_url(place, server):
    place.repo(f"{server.url}/repo")
    server.faults = {"large-1.0.noarch.rpm": [404] * 50}
    error = place.fails(FetchError, "small", "large")
    assert "large-1.0-1.noarch of repository 'test'" in error.message
    assert f"{server.url}/repo/large-1.0.noarch.rpm" in error.message
    assert "404" in error.message
    # the other one is kept, and the failing one was not asked for again and again
    assert place.cached() == ["small-1.0.noarch.rpm"]
    assert not place.log.lines
    server.faults = {}
    place.fetch("small", "large")


@pytest.mark.parametrize("locked", [False, True])
def test_a_server_that_does_not_stop(place, server, locked):
    place.repo(f"{server.url}/repo")
    resolution = dataclasses.replace(place.solve("large", "small"), locked=locked)
    server.faults = {"large-1.0.noarch.rpm": ["endless"] * 50}
    with pytest.raises(FetchError, match=r"large-1\.0-1\.noarch of repository 'test': it is larger than the allowed"):
        fetch(resolution, place.access(), place.network(), place.log)
    assert server.sent < len(server.asked_for("large-1.0.noarch.rpm")) * 32 << 20
    assert place.cached() in ([], ["small-1.0.noarch.rpm"])
    server.faults = {}
    assert len(fetch(resolution, place.access(), place.network(), place.log)) == 2


def test_a_url_of_rpm_files_that_does_not_stop(place, server, monkeypatch):
    """Its size is not known, and its digest only at the end."""
    monkeypatch.setattr(local, "_MAX_SIZE", 4 << 20)
    server.faults = {"x.rpm": ["endless"] * 50}
    source = local.Source(sha256="00" * 32, place="t.yaml:2:5", url=f"{server.url}/x.rpm")
    with pytest.raises(
        FetchError, match=rf"{server.url}/x\.rpm: it is larger than the allowed 4194304 bytes"
    ) as caught:
        local.bring((source,), place.access(), place.network(), place.log)
    assert "path" in caught.value.hint
    assert server.sent < 32 << 20
    assert place.cached() == []


@contextlib.contextmanager
def waiting(place, work):
    """Another compose that holds the lock of downloads; `work` in a thread, which waits for it before the block runs."""
    results = []

    def run_it():
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    with downloads_locked(str(place.cache / "rpms"), Reporter()):
        thread = threading.Thread(target=run_it)
        thread.start()
        deadline = time.monotonic() + 10
        while not any(line.startswith("Waiting for another compose") for line in place.log.lines):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield results
    thread.join()


@pytest.mark.parametrize("locked", [False, True])
def test_what_another_compose_downloads_meanwhile(place, server, repository, locked):
    place.repo(f"{server.url}/repo")
    resolution = dataclasses.replace(place.solve("small"), locked=locked)
    name = "small-1.0.noarch.rpm"
    with waiting(place, lambda: fetch(resolution, place.access(), place.network(), place.log)) as results:
        (package,) = resolution.packages
        directory = place.cache / "rpms" / "-".join(package.checksum)
        directory.mkdir(mode=0o700)
        shutil.copy(repository / name, directory)
    ((file,),) = results
    assert file.path == str(directory / name)
    assert not server.asked_for(name)


def rpm_file(repository, name, **where):
    sha256 = hashlib.sha256((repository / name).read_bytes()).hexdigest()
    return local.Source(sha256=sha256, place="t.yaml:2:5", **where)


def test_a_url_of_rpm_files_that_another_compose_downloads_meanwhile(place, server, repository):
    name = "small-1.0.noarch.rpm"
    source = rpm_file(repository, name, url=f"{server.url}/repo/{name}")
    bring = lambda: local.bring((source, source), place.access(), place.network(), place.log)  # noqa: E731
    path = place.cache / f"rpms/sha256-{source.sha256}" / name
    with waiting(place, bring) as results:
        path.parent.mkdir(mode=0o700)
        shutil.copy(repository / name, path)
    assert results == [(str(path), str(path))]
    assert not server.asked_for(name)


def test_an_rpm_file_that_is_listed_twice(place, server, repository):
    name = "small-1.0.noarch.rpm"
    source = rpm_file(repository, name, url=f"{server.url}/repo/{name}")
    local.bring((source, source), place.access(), place.network(), place.log)
    assert len(server.asked_for(name)) == 1


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "no directory"])
def test_something_else_in_place_of_an_rpm_file(place, repository, kind):
    name = "small-1.0.noarch.rpm"
    source = rpm_file(repository, name, path=str(repository / name))
    path = place.cache / f"rpms/sha256-{source.sha256}" / name
    path.parent.parent.mkdir(parents=True)
    if kind == "no directory":
        path.parent.touch()
    else:
        path.parent.mkdir()
        {"directory": path.mkdir, "fifo": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("/dev/zero")}[kind]()
    local.bring((source,), place.access(), place.network(), place.log)
    assert path.read_bytes() == (repository / name).read_bytes()


def test_a_directory_in_place_of_the_lock(place):
    (place.cache / "rpms/lock").mkdir(parents=True)
    error = place.fails(StorageError, "small")
    assert error.message == f"cannot write {place.cache}/rpms/lock: Is a directory"
    assert "remove it" in error.hint


def test_a_limit_on_open_files_is_not_taken_for_an_unwritable_lock(place, monkeypatch):
    def too_many(*_words, **_more):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("compose.fetch.fetcher.os.open", too_many)
    with pytest.raises(OSError, match="Too many open files"), downloads_locked(str(place.cache / "rpms"), place.log):
        pass


def test_a_baseurl_without_a_value(place, server, repository, tmp_path):
    """Counts as absent, as for libdnf5."""
    (tmp_path / "tree/mirrors").write_text(f"{server.url}/repo\n")
    (place.tree / "a.repo").write_text("[test]\nbaseurl=\nmirrorlist=mirrors\ngpgkey=ours.asc\n")
    resolution = place.solve("small")
    (file,) = fetch(dataclasses.replace(resolution, locked=True), place.access(), place.network(), place.log)
    assert Path(file.path).read_bytes() == (repository / "small-1.0.noarch.rpm").read_bytes()


def test_a_repo_file_does_not_say_where_to_write(place, repository, tmp_path):
    place.repo(repository, f"gpgkey=ours.asc\nbasecachedir={tmp_path}/elsewhere")
    place.fetch("small")
    assert not (tmp_path / "elsewhere").exists()


def test_a_mirror_with_other_bytes(place, server):
    place.repo(f"{server.url}/repo")
    resolution = dataclasses.replace(place.solve("small"), locked=True)
    (place.tree / "mirrors").write_text(f"{server.url}/repo\n{server.url}/repo\n")
    (place.tree / "a.repo").write_text("[test]\nmirrorlist=mirrors\ngpgkey=ours.asc\n")
    server.faults = {"small-1.0.noarch.rpm": ["garbage"] * 7}
    with pytest.raises(FetchError, match=r"small.*: its checksum doesn't match"):
        fetch(resolution, place.access(), place.network(), place.log)
    assert len(server.asked_for("small-1.0.noarch.rpm")) == 6
    fetch(resolution, place.access(), place.network(), place.log)
    assert len(server.asked_for("small-1.0.noarch.rpm")) == 8


def test_a_list_of_mirrors_that_does_not_stop(place, server):
    place.repo(f"{server.url}/repo")
    resolution = dataclasses.replace(place.solve("small"), locked=True)
    (place.tree / "a.repo").write_text(f"[test]\nmirrorlist={server.url}/repo/mirrors\ngpgkey=ours.asc\n")
    server.faults = {"mirrors": ["endless"] * 50}
    with pytest.raises(FetchError, match="mirrorlist of repository 'test': it is larger than the allowed") as caught:
        fetch(resolution, place.access(), place.network(), place.log)
    assert caught.value.hint == f"check the network, and mirrorlist= at {place.tree}/a.repo:2"
    assert server.sent < 32 << 20


def test_a_list_of_mirrors_that_a_killed_run_was_downloading(place, server):
    """The next run removes it."""
    place.repo(f"{server.url}/repo")
    resolution = dataclasses.replace(place.solve("small"), locked=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mirrors"
        (place.tree / "a.repo").write_text(f"[test]\nmirrorlist={url}\ngpgkey=ours.asc\n")
        program = (
            "import pickle, sys; from compose.events import Reporter; from compose.fetch.fetcher import fetch; "
            "fetch(*pickle.load(sys.stdin.buffer), Reporter())"
        )
        killed = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        killed.stdin.write(pickle.dumps((resolution, place.access(), place.network())))
        killed.stdin.close()
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            assert list(place.cache.rglob("mirrors*"))
            killed.kill()
            killed.wait()
    with CacheDir(str(place.cache)).scratch():
        assert not list(place.cache.rglob("mirrors*"))


def test_a_copy_that_a_killed_run_was_making(place, repository):
    """Whoever makes it again removes it."""
    (file,) = place.fetch("small")
    directory = Path(file.path).parent
    unfinished = directory / f"{Path(file.path).name}.0123456789ab.tmp"
    os.rename(file.path, unfinished)
    (file,) = place.fetch("small")
    assert os.listdir(directory) == ["small-1.0.noarch.rpm"]


def test_a_corrupted_package_is_named_and_leaves_the_cache(place, repository, tmp_path):
    shutil.copytree(repository, tmp_path / "bad")
    victim = tmp_path / "bad/large-1.0.noarch.rpm"
    data = bytearray(victim.read_bytes())
    data[-1000] ^= 1
    victim.write_bytes(data)
    place.repo("../bad")
    error = place.fails(FetchError, "large")
    assert "large-1.0-1.noarch" in error.message
    assert place.cached() == []
    shutil.copy(repository / victim.name, victim)
    place.fetch("large")


def test_a_truncated_package(place, repository, tmp_path):
    shutil.copytree(repository, tmp_path / "bad")
    os.truncate(tmp_path / "bad/large-1.0.noarch.rpm", 1000)
    place.repo("../bad")
    assert "large-1.0-1.noarch" in place.fails(FetchError, "large").message


@pytest.mark.parametrize(
    ("original", "forged", "error", "fault"),
    [
        # the payload is not compressed: 3 MB of x
        (b"xxxx" * 256, b"xxxz" * 256, PackageError, "payload"),
        (b"/usr/share/\0", b"/usr/SHARE/\0", TrustError, "header is damaged"),
    ],
    ids=["payload", "header"],
)
def test_repodata_made_from_a_forged_package_does_not_help(place, repository, tmp_path, original, forged, error, fault):
    """Whoever can write to the repository can make its repodata fit; the signature cannot be made to."""
    shutil.copytree(repository, tmp_path / "bad")
    victim = tmp_path / "bad/large-1.0.noarch.rpm"
    data = victim.read_bytes()
    assert original in data
    victim.write_bytes(data.replace(original, forged, 1))
    index(tmp_path / "bad")
    place.repo("../bad")
    message = place.fails(error, "large").message
    assert "large-1.0-1.noarch" in message
    assert fault in message


def test_one_package_under_the_name_of_another(place, repository, tmp_path):
    shutil.copytree(repository, tmp_path / "bad")
    primary = next((tmp_path / "bad/repodata").glob("*primary.xml.zst"))
    text = run("zstd", "-dc", str(primary)).replace("<name>small</name>", "<name>sudo</name>")
    primary.unlink()
    (tmp_path / "primary.xml").write_text(text)
    run("modifyrepo_c", "--remove", "primary", str(tmp_path / "bad/repodata"))
    run("modifyrepo_c", "--mdtype", "primary", str(tmp_path / "primary.xml"), str(tmp_path / "bad/repodata"))
    place.repo("../bad")
    error = place.fails(TrustError, "sudo")
    assert "sudo-1.0-1.noarch" in error.message
    assert "small-1.0-1.noarch" in error.message


def test_an_unsigned_package(place):
    error = place.fails(TrustError, "small", "unsigned")
    assert "unsigned-1.0-1.noarch of repository 'test' is not signed" in error.message
    assert "gpgcheck=0" in error.hint


def test_gpgcheck_0_takes_anything_and_says_so_by_an_empty_key(place, repository):
    place.repo(repository, "gpgcheck=0")
    assert [file.key for file in place.fetch("unsigned", "foreign", "small")] == ["", "", ""]


def test_a_key_of_somebody_else(place, keys):
    error = place.fails(TrustError, "foreign")
    assert keys.fingerprint("other")[-16:] in error.message
    assert keys.fingerprint("ours")[-16:] in error.message
    assert "ours@example.com" in error.message
    assert keys.fingerprint("other")[-16:] in error.hint


def test_several_untrusted_packages_are_told_at_once(place):
    error = place.fails(TrustError, "foreign", "unsigned", "small")
    assert len(error.details) == 2
    assert "2 packages" in error.message


def test_several_keys_in_several_files_and_one(place, keys, repository):
    (place.tree / "other.gpg").write_bytes(keys.export("other", armor=False))
    (place.tree / "both.asc").write_bytes(keys.export("other", "ours"))
    for option in ("gpgkey=ours.asc, other.gpg", "gpgkey=ours.asc\n  other.gpg", "gpgkey=both.asc"):
        place.repo(repository, option)
        found = [file.key for file in place.fetch("foreign", "small")]
        assert found == [keys.fingerprint("other")[-16:], keys.fingerprint("ours")[-16:]]


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("", "no gpgkey="),
        ("gpgkey=absent.asc", "absent.asc does not exist"),
        ("gpgkey=a.repo", "is not a key file"),
        ("gpgkey=ldap://keys.example.com/x", "neither a file nor"),
        ("gpgkey=file://[bad/x", "neither a file nor"),
    ],
)
def test_a_key_that_cannot_be_had_stops_before_the_download(place, repository, option, fault):
    place.repo(repository, option)
    assert fault in place.fails(TrustError, "small").message
    assert place.cached() == []


def test_a_key_beneath_the_source_root_comes_first(place, keys, repository):
    path = "/etc/pki/rpm-gpg/RPM-GPG-KEY-of-this-test"
    (place.path / "root/etc/pki/rpm-gpg").mkdir(parents=True)
    (place.path / ("root" + path)).write_bytes(keys.export("ours"))
    place.repo(repository, f"gpgkey=file://{path}")
    assert place.fails(TrustError, "small").details[0] == f"looked for {path}"
    place.fetch("small", access=place.access(root=str(place.path / "root")))


def test_keys_that_a_repo_file_may_mean(place, repository):
    """One written for a host whose keys are used without being named, as rpm-ostree does."""
    place.repo(repository, "")
    root = place.path / "root"
    for path in (
        "etc/pki/rpm-gpg/KEY-43-x86_64",
        "etc/pki/rpm-gpg/KEY-44-x86_64",
        "usr/share/pki/rpm-gpg/KEY-44-primary",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    error = place.fails(TrustError, "small", access=place.access(root=str(root), releasever="44"))
    assert error.details == (
        "there is file:///etc/pki/rpm-gpg/KEY-44-x86_64",
        "there is file:///usr/share/pki/rpm-gpg/KEY-44-primary",
    )
    error = place.fails(TrustError, "small", access=place.access(root=str(root), releasever="4"))
    assert len(error.details) >= 3


@pytest.mark.parametrize("new", [False, True])
def test_a_key_whose_directory_moved(place, keys, repository, new):
    """As in Fedora 45: .repo files that name one of the two directories are used with roots that have the other."""
    there, named = ("usr/share/pki/rpm-gpg", "etc/pki/rpm-gpg")[:: 1 if new else -1]
    (place.path / "root" / there).mkdir(parents=True)
    (place.path / "root" / there / "KEY-of-this-test").write_bytes(keys.export("ours"))
    place.repo(repository, f"gpgkey=file:///{named}/KEY-of-this-test")
    error = place.fails(TrustError, "small")
    assert error.details == (f"looked for /{named}/KEY-of-this-test", f"looked for /{there}/KEY-of-this-test")
    root = str(place.path / "root")
    place.fetch("small", access=place.access(root=root))
    # what is named comes first, and the root before this machine
    assert key_paths(f"/{named}/KEY", place.access(root=root)) == (
        f"{root}/{named}/KEY", f"{root}/{there}/KEY", f"/{named}/KEY", f"/{there}/KEY",
    )  # fmt: skip
    (place.path / "root" / named).mkdir(parents=True)
    (place.path / "root" / named / "KEY-of-this-test").write_bytes(keys.export("other"))
    place.fails(TrustError, "small", access=place.access(root=root))
    # no other place is looked at
    assert key_paths("/etc/pki/rpm-gpg-other/KEY", place.access()) == ("/etc/pki/rpm-gpg-other/KEY",)


def test_a_key_from_the_web(place, keys, repository, server):
    (repository.parent / "web.asc").write_bytes(keys.export("ours"))
    place.repo(repository, f"gpgkey={server.url}/web.asc")
    server.faults = {"web.asc": [503]}
    place.fetch("small")
    assert len(server.asked_for("web.asc")) == 2
    place.fetch("small", cache_only=True)
    assert len(server.asked_for("web.asc")) == 2
    place.repo(repository, f"gpgkey={server.url}/absent.asc")
    place.log.lines.clear()
    error = place.fails(FetchError, "small")
    assert f"{server.url}/absent.asc" in error.message
    assert "beside the .repo file" in error.hint
    # what is not there will not be there in a moment
    assert place.log.lines == []


def test_a_key_comes_with_the_settings_of_its_own_repository(place, keys, repository, server):
    (repository.parent / "web.asc").write_bytes(keys.export("ours"))
    server.login = "me:secret"
    login = "username=me\npassword=secret"
    place.repo(f"{server.url}/repo", f"gpgkey={server.url}/web.asc\n{login}")
    place.fetch("small")
    # the user is of the repository's hosts, and the key may be anybody's
    other = server.url.replace("127.0.0.1", "localhost")
    place.repo(f"{server.url}/repo", f"gpgkey={other}/web.asc\n{login}")
    error = place.fails(FetchError, "small")
    assert f"gpgkey {other}/web.asc" in error.message
    assert "401" in error.message
    place.repo(repository, f"gpgkey={server.url.replace('//', '//me:secret@')}/web.asc")
    place.fetch("small")
    server.login = ""
    place.repo(repository, f"gpgkey=http://keys.invalid/web.asc\nproxy={server.url}")
    place.fetch("small")
    assert server.asked_for("http://keys.invalid/web.asc") == [""]


def test_a_key_of_two_repositories_comes_with_the_settings_of_each(place, keys, repository, server):
    (repository.parent / "web.asc").write_bytes(keys.export("ours"))
    server.login = "me:secret"
    login = "username=me\npassword=secret"

    def repos(first, second):
        key = f"gpgkey={server.url}/web.asc"
        place.repo(
            f"{server.url}/repo",
            f"{key}\nincludepkgs=small\n{first}\n[other]\nbaseurl={server.url}/repo\n{key}\nincludepkgs=large\n{second}",
        )

    # metadata is there, so that it is the key that each must log in for
    repos(login, login)
    resolution = place.solve("small", "large")
    download_keys(resolution.repos, place.access(), place.network(), place.log)
    assert {
        load_keys(each, place.access(), place.network(), place.log)[0].fingerprint for each in resolution.repos
    } == {keys.fingerprint("ours")}
    for first, second, named in ((login, "", "other"), ("", login, "test")):
        repos(first, second)
        with pytest.raises(FetchError, match=f"gpgkey {server.url}/web.asc of repository '{named}'.*401"):
            download_keys(resolution.repos, place.access(), place.network(), place.log)


def test_keys_come_all_at_once(place, keys, repository, server):
    for name in ("web.asc", "more.asc"):
        (repository.parent / name).write_bytes(keys.export("ours"))
    place.repo(repository, f"gpgkey={server.url}/web.asc {server.url}/more.asc {server.url}/web.asc")
    place.fetch("small")
    assert (len(server.asked_for("web.asc")), len(server.asked_for("more.asc"))) == (1, 1)
    (repository.parent / "more.asc").unlink()
    error = place.fails(FetchError, "small")
    assert f"{server.url}/more.asc" in error.message
    assert f"{server.url}/web.asc" not in error.message


@pytest.mark.parametrize("path", ["absent.asc", "repo/small-1.0.noarch.rpm", "503.asc", "huge.asc"])
def test_the_password_in_a_keys_url_is_not_told(place, repository, server, path):
    with open(repository.parent / "huge.asc", "wb") as file:
        file.truncate(9 << 20)
    server.faults = {"503.asc": [503] * 100}
    place.repo(repository, f"gpgkey={server.url.replace('//', '//me:secret@')}/{path}")
    error = place.fails((FetchError, TrustError), "small")
    told = "\n".join((error.message, error.hint or "", *error.details, *place.log.lines))
    assert f"{server.url}/{path}" in told
    assert "secret" not in told
    assert len(server.asked_for("huge.asc")) <= 1
    assert len(os.listdir(place.cache / "repomd/keys")) == (1 if path.endswith(".rpm") else 0)


def test_the_password_in_a_repositorys_url_is_not_told(place, server):
    url = server.url.replace("//", "//me:secret@")
    place.repo(f"{url}/absent")
    with pytest.raises(FetchError) as caught:
        place.solve("small")
    assert f"{server.url}/absent" in caught.value.message
    assert "secret" not in "\n".join((caught.value.message, *caught.value.details, *place.log.lines))
    place.repo(f"{url}/repo")
    server.faults = {"small-1.0.noarch.rpm": [404] * 20}
    error = place.fails(FetchError, "small")
    assert f"{server.url}/repo/small" in error.message
    assert "secret" not in error.message


def test_a_revoked_key_and_a_subkey(place, keys, tmp_path):
    keys.make("revoked")
    keys.make("primary", usage="cert")
    keys.gpg("--quick-add-key", keys.fingerprint("primary"), "ed25519", "sign", "never")
    rpms = build([Package("byrevoked"), Package("bysubkey")], tmp_path / "odd")
    keys.sign(rpms["byrevoked"], "revoked")
    keys.sign(rpms["bysubkey"], "primary")
    index(tmp_path / "odd")
    keys.revoke("revoked")
    (place.tree / "odd.asc").write_bytes(keys.export("revoked", "primary"))
    place.repo("../odd", "gpgkey=odd.asc")
    (file,) = place.fetch("bysubkey")
    assert file.key not in ("", keys.fingerprint("primary")[-16:])
    error = place.fails(TrustError, "byrevoked")
    assert "revoked" in error.message
    assert keys.fingerprint("revoked")[-16:] in error.message


def test_a_second_signature_by_an_unknown_key_is_refused_as_rpm_does(place, keys, tmp_path):
    rpms = build([Package("twice")], tmp_path / "odd")
    keys.sign(rpms["twice"], "ours")
    keys.sign(rpms["twice"], "other", "--rpmv6")
    index(tmp_path / "odd")
    place.repo("../odd")
    assert keys.fingerprint("other")[-16:] in place.fails(TrustError, "twice").hint


def test_a_full_disk(place, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounts a small filesystem")
    resolution = place.solve("large")
    rpms = place.cache / "rpms"
    rpms.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(rpms))
    try:
        with pytest.raises(StorageError) as caught:
            fetch(resolution, place.access(), place.network(), place.log)
        assert str(rpms) in caught.value.message
    finally:
        run("umount", str(rpms))
    fetch(resolution, place.access(), place.network(), place.log)


def test_downloads_larger_than_the_disk(place, server, repository):
    """It is not filled first."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small filesystem")
    place.repo(f"{server.url}/repo")
    resolution = place.solve("large")
    sha256 = hashlib.sha256((repository / "large-1.0.noarch.rpm").read_bytes()).hexdigest()
    url = f"{server.url}/repo/large-1.0.noarch.rpm"
    source = local.Source(sha256=sha256, place="t.yaml:2:5", url=url)
    server.faults = {"large-1.0.noarch.rpm": ["stall"]}
    rpms = place.cache / "rpms"
    rpms.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(rpms))
    try:
        with pytest.raises(StorageError, match=r"3\.0 MB are needed, 2\.1 MB are free") as caught:
            fetch(resolution, place.access(), place.network(), place.log)
        assert caught.value.hint == fs.FREE_SPACE
        assert not server.asked_for("large-1.0.noarch.rpm")
        # of which only the server knows the size
        with pytest.raises(StorageError, match=rf"no space for {url}: [1-3]\.. MB are left to download, ") as caught:
            local.bring((source,), place.access(), place.network(), place.log)
        assert caught.value.hint == fs.FREE_SPACE
        assert len(server.asked_for("large-1.0.noarch.rpm")) == 1
    finally:
        server.release.set()
        run("umount", str(rpms))
    fetch(resolution, place.access(), place.network(), place.log)
    local.bring((source,), place.access(), place.network(), place.log)


def test_an_interrupt_ends_a_download_at_once_and_the_next_run_continues_it(place, server):
    place.repo(f"{server.url}/repo")
    server.faults = {"large-1.0.noarch.rpm": ["stall"]}
    script = "import pickle, sys; from compose.fetch.fetcher import fetch; fetch(*pickle.load(sys.stdin.buffer))"
    request = pickle.dumps((place.solve("large"), place.access(), place.network(), Reporter()))
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process.stdin as stdin:
        stdin.write(request)
    deadline = time.monotonic() + 10
    while not any(path.stat().st_size > 1_000_000 for path in place.cache.glob("rpms/*/*.rpm")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (downloader,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - begun < 3
    assert process.returncode != 0
    assert not os.path.exists(f"/proc/{downloader}")
    server.release.set()
    place.fetch("large")
    first, second = server.asked_for("large-1.0.noarch.rpm")
    assert first == ""
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 1_000_000


def verified(place, *specs, **arguments):
    """Bytes that were read to verify them."""
    place.log.bytes.clear()
    place.fetch(*specs, **arguments)
    return place.log.bytes.get("Verifying packages", 0)


def test_what_was_verified_and_is_untouched_is_not_read_again(place, repository):
    size = {name: (repository / f"{name}-1.0.noarch.rpm").stat().st_size for name in ("small", "large")}
    assert verified(place, "small") == size["small"]
    assert verified(place, "small") == 0
    assert verified(place, "small", "large") == size["large"]
    (small,) = place.fetch("small")
    os.utime(small.path)
    assert verified(place, "small", "large") == size["small"]


@pytest.mark.parametrize("change", ["gpgkey=ours.asc\ngpgcheck=0", "gpgkey=ours.asc other.asc"])
def test_other_keys_are_asked_again(change, place, repository, keys):
    place.fetch("small")
    (place.tree / "other.asc").write_bytes(keys.export("other"))
    place.repo(repository.as_uri(), change)
    assert verified(place, "small") > 0


def test_what_was_wrong_is_looked_at_again(place):
    first = place.fails(TrustError, "unsigned")
    assert place.fails(TrustError, "unsigned").message == first.message


def test_a_damaged_memory_of_what_was_verified(place):
    first = place.fetch("small")
    path = place.cache / "verified"
    path.write_bytes(path.read_bytes().replace(b'"', b"'", 1))
    assert verified(place, "small") > 0
    assert place.fetch("small") == first


@pytest.mark.parametrize(
    "answer", [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc"]
)
def test_a_key_from_what_is_no_web_server(place, repository, answer):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    with peer:
                        peer.recv(4096)
                        peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        place.repo(repository, f"gpgkey=http://127.0.0.1:{listening.getsockname()[1]}/key.asc")
        assert "key.asc of repository 'test': " in place.fails(FetchError, "small").message
        listening.shutdown(socket.SHUT_RDWR)

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from compose import metadata
from compose.cli.flags import proxy_or_environment
from compose.errors import FetchError, SolveError, StorageError, TreefileError
from compose.events import Reporter
from compose.ostree.gvariant import Variant
from compose.rpm import child
from compose.rpm.repofile import read_repo_files
from compose.rpm.repos import RepoAccess, RepoNetwork, override_dirs_of, repo_dirs_of, variables
from compose.rpm.specs import PackageSpec, RepoPackages
from compose.solve.locked import LockedBuild, LockRequest
from compose.solve.request import SolveRequest
from compose.solve.resolution import Reason
from compose.solve.solver import solve
from tests.support.rpmrepo import Package, Server, build, index, run


class Log(Reporter):
    def __init__(self):
        self.lines = []

    def info(self, message):
        self.lines.append(message)

    warn = info


class Place:
    """A treefile's directory with a .repo file, and a cachedir."""

    def __init__(self, path):
        self.path = path
        self.tree = path / "tree"
        self.tree.mkdir()
        self.log = Log()

    def repo(self, text, name="test"):
        (self.tree / f"{name}.repo").write_text(text)

    def question(self, *specs, network=None, access=None, **request):
        access = {"basearch": "x86_64"} | (access or {})
        return (
            SolveRequest(
                packages=tuple(PackageSpec(text=spec, place=f"t.yaml:{line}:5") for line, spec in enumerate(specs, 2)),
                access=RepoAccess(repo_dirs=(str(self.tree),), **access),
                **request,
            ),
            RepoNetwork(cachedir=str(self.path / "cache"), pause=0.01, **(network or {})),
        )

    def solve(self, *specs, **arguments):
        return solve(*self.question(*specs, **arguments), self.log)

    def names(self, *specs, **arguments):
        return [package.nevra.name for package in self.solve(*specs, **arguments).packages]

    def fails(self, error, *specs, **arguments):
        with pytest.raises(error) as caught:
            self.solve(*specs, **arguments)
        return caught.value


@pytest.fixture
def place(tmp_path, repository):
    place = Place(tmp_path)
    place.repo(f"[test]\nbaseurl={repository}\ngpgkey=key.asc\n")
    return place


@pytest.fixture
def server(repository):
    server = Server(repository.parent)
    yield server
    server.close()


FILES = (("/usr/share/app",), ("/nowhere", "*/base"), ("/usr/share/enemy",), ("*/lib/modules/*/vmlinuz", "/boot/*"))


def test_files_that_no_package_has(place):
    for again in (False, True):
        # the second time from memory
        assert place.solve("app", files=FILES).lacking == FILES[2:], again
    assert place.solve("app").lacking == ()


def test_files_that_only_complete_lists_have(place, repository, tmp_path):
    """Without filelists nothing is known of most files."""
    (tmp_path / "bare").mkdir()
    for path in repository.glob("*.rpm"):
        shutil.copy(path, tmp_path / "bare")
    run("createrepo_c", "--quiet", "--no-database", str(tmp_path / "bare"))
    run("modifyrepo_c", "--remove", "filelists", str(tmp_path / "bare/repodata"))
    place.repo(f"[test]\nbaseurl={tmp_path}/bare\n")
    assert place.solve("app", files=FILES).lacking == ()


def test_the_release_of_a_source_root(place, tmp_path):
    """What its packages say comes before os-release, which has a minor version on RHEL and its rebuilds."""
    packages = [
        Package("other-release", "Provides: system-release = 9.4"),
        Package(
            "redhat-release", "Provides: system-release = 9.4\nProvides: system-release(releasever) = 9", version="9.4"
        ),
    ]
    rpms = build(packages, tmp_path / "rpms")
    root = tmp_path / "root"
    directory = root / "usr/lib/sysimage/rpm"
    directory.mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('VERSION_ID="9.4"\n')
    run("rpm", f"--root={root}", "--dbpath=/usr/lib/sysimage/rpm", "--define", "_db_backend sqlite", "--justdb", "--nodeps",
        "-i", *(str(path) for path in rpms.values()))  # fmt: skip
    before = sorted(os.listdir(directory))
    access = place.question(access={"root": str(root)})[0].access
    assert variables(access)["releasever"] == "9"
    assert sorted(os.listdir(directory)) == before
    place.repo(f"[test]\nbaseurl={tmp_path}/repos/$releasever\ngpgcheck=0\n")
    (tmp_path / "repos").mkdir()
    (tmp_path / "rpms").rename(tmp_path / "repos/9")
    index(tmp_path / "repos/9")
    assert place.names("redhat-release", access={"root": str(root)}) == ["redhat-release"]


_DNF5 = """
import json, sys, libdnf5
base = libdnf5.base.Base()
config = base.get_config()
config.get_config_file_path_option().set("/dev/null")
config.get_plugins_option().set(False)
config.get_use_host_config_option().set(False)
config.get_installroot_option().set(sys.argv[1])
config.get_reposdir_option().set([sys.argv[1] + "/etc/yum.repos.d"])
base.get_vars().set("releasever", "0")
base.setup()
base.get_repo_sack().create_repos_from_system_configuration()
found = {}
for repo in libdnf5.repo.RepoQuery(base):
    options = repo.get_config()
    found[repo.get_id()] = [
        repo.is_enabled(), options.get_cost_option().get_value(), list(options.get_baseurl_option().get_value())
    ]
print(json.dumps(found))
"""


def test_dnf5_sees_the_same_overrides(tmp_path):
    for name, text in (
        ("etc/yum.repos.d/x", "[a]\nbaseurl=http://a/\n[ab]\nbaseurl=http://ab/\nenabled=0\n[c]\nbaseurl=http://c/\n"),
        ("etc/dnf/repos.override.d/99-config_manager", "[a*]\nenabled=1\n[c]\nenabled=0\nbaseurl=http://d/\n"),
        ("usr/share/dnf5/repos.override.d/99-config_manager", "[*]\ncost=3\nenabled=0\n"),
        ("usr/share/dnf5/repos.override.d/50-vendor", "[?]\ncost=7\nenabled=0\n"),
        ("etc/dnf/repos.override.d/60-mine", "[c]\ncost=8\n"),
    ):
        path = tmp_path / f"{name}.repo"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    theirs = json.loads(run(sys.executable, "-c", _DNF5, str(tmp_path)))
    sections = read_repo_files(repo_dirs_of(str(tmp_path)), override_dirs_of(str(tmp_path)))
    ours = {
        section.id: [
            section.enabled,
            int(option.value) if (option := section.option("cost")) else 1000,
            [section.option("baseurl").value],
        ]
        for section in sections
    }
    assert ours == theirs
    assert theirs == {"a": [True, 7, ["http://a/"]], "ab": [True, 1000, ["http://ab/"]], "c": [False, 8, ["http://d/"]]}


def excludes(*names):
    return tuple(PackageSpec(text=name, place=f"t.yaml:{line}:3") for line, name in enumerate(names, 50))


def test_a_resolution(place, repository):
    resolution = place.solve("app", "/usr/share/base")
    packages = {package.nevra.name: package for package in resolution.packages}
    assert list(packages) == ["app", "base", "lib", "nice"]
    assert {name: (package.reason, package.specs) for name, package in packages.items()} == {
        "app": (Reason.REQUESTED, ("app",)),
        "base": (Reason.REQUESTED, ("/usr/share/base",)),
        "lib": (Reason.DEPENDENCY, ()),
        "nice": (Reason.WEAK, ()),
    }
    app = packages["app"]
    assert str(app.nevra) == "app-1.0-1.noarch"
    assert app.location == "app-1.0.noarch.rpm"
    assert app.download_size == (repository / app.location).stat().st_size
    assert (app.checksum[0], len(app.checksum[1])) == ("sha256", 64)
    assert (app.install_size, app.source_rpm, app.repo) == (100, "app-1.0-1.src.rpm", "test")
    (repo,) = resolution.repos
    assert (repo.id, repo.gpgcheck, repo.gpgkeys) == ("test", True, (f"file://{place.tree}/key.asc",))
    stamp = (repository / "repodata/repomd.xml").read_text().split("<timestamp>")[1].split("<")[0]
    assert abs(repo.timestamp - int(stamp)) <= 2


def test_a_time_that_the_library_cannot_hold_is_unknown(place, repository, tmp_path):
    repomd = shutil.copytree(repository, tmp_path / "late") / "repodata/repomd.xml"
    # as of a repository that counts in milliseconds
    repomd.write_text(re.sub("<timestamp>.*<", "<timestamp>1791001000000<", repomd.read_text()))
    place.repo(f"[test]\nbaseurl={tmp_path}/late\n")
    (repo,) = place.solve("app").repos
    assert repo.timestamp == 0
    assert metadata.repositories([repo]).value[0][1] == ("timestamp", Variant("t", 0))


def test_the_order_of_lines_does_not_matter(place):
    assert place.solve("picky", "rich", "app").packages == place.solve("app", "rich", "picky").packages


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("base", "base"),
        ("base-1.0", "base"),
        ("base-1.0-1.noarch", "base"),
        ("base.noarch", "base"),
        ("base = 1.0", "base"),
        ("virtual >= 2", "lib"),
        ("virtual", "lib"),
        ("/usr/share/lib", "lib"),
        ("ni*", "nice"),
    ],
)
def test_forms_of_a_spec(place, spec, expected):
    packages = {package.nevra.name: package for package in place.solve(spec).packages}
    assert packages[expected].specs == (spec,)


def test_weak_dependencies_can_be_left_out(place):
    assert place.names("app", recommends=False) == ["app", "base", "lib"]


def test_excluded_weak_dependency_and_excluded_name_that_does_not_exist(place):
    assert place.names("app", exclude_packages=excludes("nice", "nosuch")) == ["app", "base", "lib"]


def test_rich_dependencies(place):
    assert "lib" not in place.names("rich")
    assert "lib" in place.names("rich", "app")


def test_all_missing_packages_are_told_with_places_and_neighbours(place):
    error = place.fails(SolveError, "ap", "base", "nosuch", "lib >= 7")
    assert error.message == "3 of the requested packages cannot be found"
    assert sorted(error.details) == [
        "t.yaml:2:5: there is no package 'ap' in any enabled repository; did you mean app?",
        "t.yaml:4:5: there is no package 'nosuch' in any enabled repository",
        "t.yaml:5:5: there is no package 'lib >= 7' in any enabled repository, only lib-1.0-1.noarch",
    ]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("base-2", ", only base-1.0-1.noarch"),
        ("base-0:1.0-7.noarch", ", only base-1.0-1.noarch"),
        ("base.x86_64", ", only base-1.0-1.noarch"),
        ("either-a = 3", ", only either-a-1.0-1.noarch"),
        ("base-devel", ""),
    ],
)
def test_another_build_than_there_is(place, spec, told):
    assert place.fails(SolveError, spec).message == (
        f"t.yaml:2:5: there is no package {spec!r} in any enabled repository{told}"
    )


def test_many_missing_packages_are_not_misspelt(place):
    error = place.fails(SolveError, *(f"ap{number}" for number in range(11)))
    assert error.message == "11 of the requested packages cannot be found"
    assert not any("did you mean" in line for line in error.details)


def test_a_broken_dependency_is_told_from_the_line_to_the_fault(place):
    error = place.fails(SolveError, "needsbroken")
    assert "(t.yaml:2:5: needsbroken)" in error.message
    assert error.details == (
        "t.yaml:2:5: needsbroken",
        "  needsbroken-1.0-1.noarch (test) requires broken",
        "    broken-1.0-1.noarch (test) requires nonexist >= 4, which no enabled repository provides",
    )


def test_a_conflict_names_both_lines(place):
    details = place.fails(SolveError, "enemy", "app").details
    assert "t.yaml:2:5: enemy" in details
    assert "t.yaml:3:5: app" in details
    assert "  enemy-1.0-1.noarch (test) conflicts with lib provided by lib-1.0-1.noarch (test)" in details


def test_an_excluded_dependency_names_the_line_that_excludes(place):
    details = place.fails(SolveError, "app", exclude_packages=excludes("base")).details
    assert details[-1] == "      base-1.0-1.noarch (test) is filtered out by exclude-packages (t.yaml:50:3)"


@pytest.mark.parametrize(
    ("strict", "more", "repos", "hint"),
    [
        (True, [], [], "leave out --lockfile-strict"),
        (False, [LockedBuild(name="lib", evr="0.1-1")], [], "another build of lib is locked"),
        (True, [LockedBuild(name="lib", evr="0.1-1")], [], "another build of lib is locked"),
        (False, [], ["test"], "lock lib too"),
    ],
)
def test_a_dependency_that_a_lockfile_locks_out(place, strict, more, repos, hint):
    lock = LockRequest(
        builds=(LockedBuild(name="app", evr="1.0-1"), *more), strict=strict, repos=frozenset(repos), place="the.lock"
    )
    error = place.fails(SolveError, "app", lock=lock)
    assert error.details == (
        "t.yaml:2:5: app",
        "  app-1.0-1.noarch (test) requires lib >= 1",
        "    lib-1.0-1.noarch (test) is not locked in the.lock",
    )
    assert hint in error.hint
    error = place.fails(SolveError, "app", "lib", lock=lock)
    assert error.message == "t.yaml:3:5: lib-1.0-1.noarch is not locked in the.lock"
    assert hint in error.hint
    # what the treefile leaves out is its own affair
    error = place.fails(SolveError, "app", lock=lock, exclude_packages=excludes("lib"))
    assert error.details[-1] == "    lib-1.0-1.noarch (test) is filtered out by exclude-packages (t.yaml:50:3)"
    assert hint not in error.hint


def test_a_directory_in_place_of_the_lock(place):
    (place.path / "cache/repomd/lock").mkdir(parents=True)
    error = place.fails(StorageError, "base")
    assert error.message == f"cannot write {place.path}/cache/repomd: Is a directory"
    assert error.hint == f"something else is at {place.path}/cache/repomd/lock or above it: remove it"


def test_a_locked_build_that_is_missing_and_not_needed(place):
    lock = LockRequest(
        builds=(LockedBuild(name="base", evr="1.0-1"), LockedBuild(name="gone", evr="1-1")),
        strict=True,
        place="the.lock",
    )
    assert place.names("base", lock=lock) == ["base"]
    assert "the.lock: gone-1-1 is in no enabled repository" in place.log.lines


def test_an_excluded_request(place, repository):
    error = place.fails(SolveError, "base", exclude_packages=excludes("base"))
    assert error.message == "t.yaml:2:5: base-1.0-1.noarch is filtered out by exclude-packages (t.yaml:50:3)"
    place.repo(f"[test]\nbaseurl={repository}\nexcludepkgs=base\n")
    assert "excludepkgs=" in place.fails(SolveError, "base").message


def test_repo_packages_come_from_that_repository_only(place, tmp_path):
    build([Package("nice", version="0.9")], tmp_path / "old")
    index(tmp_path / "old")
    place.repo("[old]\nbaseurl=../old\n", name="old")

    def entry(name, repo="old"):
        spec = PackageSpec(text=name, place="t.yaml:9:7")
        return {"repo_packages": (RepoPackages(repo=repo, packages=(spec,), place="t.yaml:8:3"),)}

    newest = {package.nevra.name: package for package in place.solve("nice").packages}
    assert newest["nice"].repo == "test"
    chosen = {package.nevra.name: package for package in place.solve("app", **entry("nice")).packages}
    assert (chosen["nice"].repo, chosen["nice"].nevra.version) == ("old", "0.9")
    error = place.fails(SolveError, **entry("base"))
    missing = "t.yaml:9:7: there is no package 'base' in repository 'old'"
    assert error.message == f"{missing}; another repository has base-1.0-1.noarch"
    error = place.fails(SolveError, **entry("base", "nosuch"))
    assert "t.yaml:8:3" in error.message
    assert "'nosuch'" in error.message


def test_repositories_named_by_the_treefile(place):
    place.repo("[off]\nbaseurl=/nonexistent\nenabled=0\n", name="off")
    assert [repo.id for repo in place.solve("base", access={"repos": ("test",)}).repos] == ["test"]
    assert "'off'" in place.fails(FetchError, "base", access={"repos": ("test", "off")}).message
    error = place.fails(TreefileError, "base", access={"repos": ("tset",)})
    assert [detail.split()[0] for detail in error.details] == ["off", "test"]


def test_variables_and_relative_urls(place, repository):
    os.symlink(repository, place.path / "x86_64-42-stable")
    place.repo("[test]\nbaseurl=../$basearch-$releasever-${stream}\n")
    access = {"releasever": "42", "repovars": (("stream", "stable"),)}
    assert place.names("base", access=access) == ["base"]
    message = place.fails(FetchError, "base", access={"repovars": (("stream", "stable"),)}).message
    assert "x86_64-rpmostree-unset-releasever-stable" in message


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/nowhere/$releasever/$basearch", "its URL has $releasever: set releasever in the treefile"),
        (
            "file:///nowhere/${stream}/$infra",
            "nothing sets $stream, $infra of its URL: set them under repovars in the treefile",
        ),
        ("/nowhere/$basearch", "check the URL and the network"),
    ],
)
def test_variables_that_nothing_sets(place, url, hint):
    place.repo(f"[test]\nbaseurl={url}\n")
    assert place.fails(FetchError, "base").hint.startswith(f"{hint};")


def test_other_architectures_than_this_machines(place, tmp_path):
    build([Package("native", arch=arch) for arch in ("aarch64", "s390x")], tmp_path / "arches")
    index(tmp_path / "arches")
    place.repo("[test]\nbaseurl=../arches\n")
    for arch in ("aarch64", "s390x"):
        (package,) = place.solve("native", access={"basearch": arch}).packages
        assert package.nevra.arch == arch
    place.fails(SolveError, "native", access={"basearch": "ppc64le"})


def test_an_older_build_is_taken_when_the_newest_cannot_be_installed(place, tmp_path):
    build([Package("pkg"), Package("pkg", "Requires: nonexist", version="2.0")], tmp_path / "builds")
    index(tmp_path / "builds")
    place.repo("[test]\nbaseurl=../builds\n")
    (package,) = place.solve("pkg").packages
    assert package.nevra.version == "1.0"
    assert "pkg-2.0" in "".join(place.log.lines)


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("[test]\nbaseurl=../repo\npriority=abc\n", 3, "priority=abc"),
        ("[test]\nbaseurl=../repo\nsslverify=perhaps\n", 3, "sslverify=perhaps"),
        ("[test]\nnonsense\n", 2, "nonsense"),
    ],
)
def test_faults_of_a_repo_file_have_a_line(place, text, line, fault):
    place.repo(text)
    message = place.fails(TreefileError, "base").message
    assert f"test.repo:{line}: " in message
    assert fault in message


def test_an_unknown_option_is_warned_of(place, repository):
    place.repo(f"[test]\nbaseurl={repository}\nfailovermethod=priority\nprioritty=5\n")
    place.solve("base")
    (line,) = place.log.lines
    assert "test.repo:4" in line
    assert "prioritty" in line


def test_every_enabled_repository_must_load(place):
    place.repo("[gone]\nbaseurl=file:///nonexistent/repo\nskip_if_unavailable=1\n", name="gone")
    error = place.fails(FetchError, "base")
    assert "'gone'" in error.message
    assert "file:///nonexistent/repo" in error.message
    assert "gone.repo:1" in error.message
    assert error.hint


def test_a_repository_that_nobody_serves(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place.repo(f"[down]\nbaseurl=http://127.0.0.1:{taken.getsockname()[1]}/repo\n")
        error = place.fails(FetchError, "base", network={"attempts": 2})
    assert "'down'" in error.message
    assert "Could not connect" in error.message
    assert len(place.log.lines) == 1


@pytest.mark.parametrize("file", ["repomd.xml", "primary"])
def test_corrupted_metadata_is_named(place, repository, tmp_path, file):
    shutil.copytree(repository, tmp_path / "bad")
    (victim,) = (path for path in (tmp_path / "bad/repodata").iterdir() if file in path.name)
    victim.write_bytes(b"garbage")
    place.repo("[bad]\nbaseurl=../bad\n")
    message = place.fails(FetchError, "base").message
    assert "repository 'bad'" in message
    assert "corrupted" in message


@pytest.mark.parametrize("file", ["repomd.xml", "primary.xml.zst", "filelists.xml.zst"])
def test_metadata_that_does_not_stop(place, server, file):
    place.repo(f"[test]\nbaseurl={server.url}/repo\n")
    server.faults = {file: ["vast"] * 99}
    error = place.fails(FetchError, "base")
    assert "repository 'test'" in error.message
    assert "larger than" in error.message
    assert server.sent < 100 << 20
    # it would not be smaller in a moment
    assert place.log.lines == []
    server.faults = {}
    assert place.names("base") == ["base"]


def test_a_server_that_recovers(place, server):
    place.repo(f"[test]\nbaseurl={server.url}/repo\n")
    # librepo tries four times by itself, at once; the next attempt is ours
    server.faults = {"repomd.xml": [503] * 5, "primary.xml.zst": ["cut"]}
    assert place.names("base") == ["base"]
    assert len(place.log.lines) == 1
    assert "503" in place.log.lines[0] or "trying again" in place.log.lines[0]


def test_a_missing_repository_is_not_asked_for_again(place, server):
    place.repo(f"[test]\nbaseurl={server.url}/absent\n")
    assert "404" in place.fails(FetchError, "base").message
    assert not place.log.lines


def test_metadata_is_taken_afresh_each_time_unless_told_otherwise(place, tmp_path):
    directory = tmp_path / "repo"
    build([Package("one")], directory)
    index(directory)
    place.repo("[test]\nbaseurl=../repo\n")
    assert place.names("one") == ["one"]
    build([Package("two", "Requires: one")], directory)
    index(directory)
    assert place.names("two") == ["one", "two"]
    shutil.rmtree(directory)
    assert place.names("two", network={"cache_only": True}) == ["one", "two"]
    place.fails(FetchError, "two")


def test_what_a_killed_compose_was_downloading_is_removed(place, server):
    place.repo(f"[test]\nbaseurl={server.url}/repo\n")
    server.faults = {"filelists.xml.zst": ["stall"]}
    script = "import pickle, sys; from compose.solve.solver import solve; solve(*pickle.load(sys.stdin.buffer))"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True)
    try:
        with process.stdin as stdin:
            stdin.write(pickle.dumps((*place.question("base"), Reporter())))
        deadline = time.monotonic() + 10
        while not (partial := list(place.path.glob("cache/repomd/test-*/tmpdir.*/repodata"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    server.release.set()
    assert partial[0].exists()
    # by whoever loads metadata next, whichever repositories that uses
    place.repo(f"[other]\nbaseurl={server.url}/repo\n")
    assert place.names("base") == ["base"]
    assert not list(place.path.glob("cache/repomd/*/tmpdir.*"))


def test_what_a_killed_compose_was_writing_is_removed(place):
    place.names("base")
    (solv,) = place.path.glob("cache/repomd/test-*/solv")
    old, new = solv / "test.solv.qz2oyl", solv / "test-filelists.solvx.KlIcW9"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(solv / "test.solv", (0, 0))
    place.names("app")
    assert (old.exists(), new.exists(), (solv / "test.solv").exists()) == (False, True, True)


@pytest.mark.parametrize("name", ["test.solv", "test-filelists.solvx"])
def test_parsed_metadata_whose_end_was_not_written(place, name):
    """As on a full disk: libdnf5 does not look whether the last write succeeds."""
    packages = place.solve("app").packages
    (cached,) = place.path.glob(f"cache/repomd/test-*/solv/{name}")
    whole = cached.stat().st_size
    os.truncate(cached, whole - 10)
    assert place.solve("app", "/usr/share/base").packages[0].checksum == packages[0].checksum
    assert "The cache of parsed metadata is not complete; parsing it again" in place.log.lines
    assert cached.stat().st_size == whole


def test_a_disk_that_never_has_room_for_the_end_of_the_metadata(place):
    place.names("base")
    (cached,) = place.path.glob("cache/repomd/test-*/solv")
    limit = (cached / "test.solv").stat().st_size - 10
    shutil.rmtree(cached)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        error = place.fails(StorageError, "app")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.message == f"cannot store all of the metadata in {place.path}/cache/repomd"
    assert "app" in place.names("app")


def test_nothing_is_cached_yet(place):
    error = place.fails(FetchError, "base", network={"cache_only": True})
    assert "'test'" in error.message


def test_a_mirrorlist(place, repository, server):
    (repository.parent / "mirrors").write_text(f"{server.url}/absent/\n{server.url}/repo/\n")
    place.repo(f"[test]\nmirrorlist={server.url}/mirrors\n")
    assert place.names("base") == ["base"]


def test_the_environment_of_the_caller_takes_no_part(place, monkeypatch):
    monkeypatch.setenv("DNF_VAR_releasever", "99")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    place.repo("[test]\nbaseurl=/nonexistent/$releasever\n")
    assert "/nonexistent/rpmostree-unset-releasever" in place.fails(FetchError, "base").message


PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy")


@pytest.mark.parametrize(
    ("names", "plain", "secure"),
    [
        (["http_proxy"], "http_proxy", "http_proxy"),
        (["http_proxy", "https_proxy"], "http_proxy", "https_proxy"),
        (["http_proxy", "HTTPS_PROXY"], "http_proxy", "HTTPS_PROXY"),
        (["https_proxy"], None, "https_proxy"),
        (["http_proxy", "all_proxy"], "http_proxy", "all_proxy"),
        (["http_proxy", "no_proxy"], None, None),
    ],
)
def test_proxies_of_the_environment(place, monkeypatch, names, plain, secure):
    """As curl has it; and as in rpm-ostree, http_proxy is for https too where the environment has nothing for that."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(contextlib.closing(Server(place.path))) for name in names}
        for name, server in servers.items():
            monkeypatch.setenv(name, ".invalid" if name == "no_proxy" else server.url)
        for url, expected in (("http://a.invalid/", plain), ("https://b.invalid/", secure)):
            place.repo(f"[test]\nbaseurl={url}\n")
            place.fails(FetchError, "base", network={"proxy": proxy_or_environment(None), "attempts": 1})
            asked = {name for name, server in servers.items() if server.requests}
            assert asked == ({expected} if expected else set()), url
            for server in servers.values():
                server.requests.clear()


@pytest.fixture
def secured(tmp_path, repository):
    """(URL, certificate) of a server of the repository, whose certificate no authority of this machine signed."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{tmp_path}/key.pem", "-subj", "/CN=test",
        "-out", f"{tmp_path}/ca.pem", "-addext", "subjectAltName=DNS:localhost")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def handle(self):
            # who does not trust the certificate hangs up
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Handler, directory=str(repository)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://localhost:{server.server_port}", str(tmp_path / "ca.pem")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_authorities_of_the_environment(place, secured, monkeypatch, variable):
    """As of a company whose proxy signs what passes through it."""
    url, certificate = secured
    for name in (*PROXIES, "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    place.repo(f"[test]\nbaseurl={url}\n")
    error = place.fails(FetchError, "base", network={"attempts": 1})
    assert "SSL_CERT_FILE" in error.hint
    monkeypatch.setenv(variable, certificate)
    assert place.names("base") == ["base"]
    # what the .repo file says comes first
    (place.tree / "other.pem").write_text("")
    place.repo(f"[test]\nbaseurl={url}\nsslcacert=other.pem\n")
    place.fails(FetchError, "base", network={"attempts": 1})


@pytest.fixture
def short_path():
    """A directory whose path leaves room for the socket of gpg-agent, which cannot start otherwise."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as directory:
        yield Path(directory)


def test_signed_metadata(short_path, tmp_path, keys):
    def agents():
        """Command lines of the agents whose home lies below the cachedir: other tests have agents too."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found.append(Path("/proc", pid, "cmdline").read_bytes())
        return [line for line in found if b"gpg-agent" in line and bytes(place.path) in line]

    place = Place(short_path)
    build([Package("one")], tmp_path / "signed")
    index(tmp_path / "signed")
    repomd = tmp_path / "signed/repodata/repomd.xml"
    keys.gpg("--armor", "--local-user", "solver@example.com", "--detach-sign", str(repomd))
    (place.tree / "ours.asc").write_bytes(keys.export("solver"))
    (place.tree / "other.asc").write_bytes(keys.export("stranger"))
    place.repo(f"[test]\nbaseurl={tmp_path}/signed\nrepo_gpgcheck=1\ngpgkey=ours.asc\n")
    assert place.names("one") == ["one"]
    assert not agents()
    # a key that is no longer named is no longer trusted
    place.repo(f"[test]\nbaseurl={tmp_path}/signed\nrepo_gpgcheck=1\ngpgkey=other.asc\n")
    assert "signature of the metadata" in place.fails(FetchError, "one").message
    place.repo(f"[test]\nbaseurl={tmp_path}/signed\nrepo_gpgcheck=1\ngpgkey=ours.asc\n")
    # a key file is found where those of packages are
    (place.path / "root/usr/share/pki/rpm-gpg").mkdir(parents=True)
    (place.path / "root/usr/share/pki/rpm-gpg/KEY-of-this-test").write_bytes(keys.export("solver"))
    place.repo(f"[test]\nbaseurl={tmp_path}/signed\nrepo_gpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/KEY-of-this-test\n")
    assert "KEY-of-this-test" in place.fails(FetchError, "one").message
    assert place.names("one", access={"root": str(place.path / "root")}) == ["one"]
    place.repo(f"[test]\nbaseurl={tmp_path}/signed\nrepo_gpgcheck=1\ngpgkey=ours.asc\n")
    repomd.write_text(repomd.read_text() + "<!-- tampered -->")
    assert "signature of the metadata" in place.fails(FetchError, "one").message


def test_a_full_disk(place):
    if os.geteuid() != 0:
        pytest.skip("mounts a small filesystem")
    (place.path / "cache/repomd").mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(place.path / "cache/repomd"))
    try:
        error = place.fails(StorageError, "base")
        assert error.hint
    finally:
        run("umount", str(place.path / "cache/repomd"))
    assert place.names("base") == ["base"]


@pytest.fixture
def asked(monkeypatch):
    """One entry per call of libdnf5: "solved", or "known" if the remembered answer holds."""
    answers = []
    call = child.call

    def heard(*arguments, **more):
        answer = call(*arguments, **more)
        answers.append("known" if answer is None else "solved")
        return answer

    monkeypatch.setattr(child, "call", heard)
    return answers


def test_the_same_question_is_answered_once(place, repository, asked):
    place.repo(f"[test]\nbaseurl={repository}\nodd=1\n")
    first = place.solve("app")
    assert asked == ["solved"]
    assert place.solve("app") == first
    assert place.solve("app", network={"cache_only": True}) == first
    assert asked == ["solved"]
    # what was told with it is told again
    assert len(place.log.lines) == 3 == sum("unknown option 'odd'" in line for line in place.log.lines)
    assert place.solve("app", recommends=False) != first
    assert asked == ["solved"] * 2


def test_a_repository_that_changed_is_asked_anew(place, tmp_path, asked):
    directory = tmp_path / "repository"
    build([Package("one")], directory)
    index(directory)
    place.repo(f"[test]\nbaseurl={directory.as_uri()}\n")
    assert place.names("one") == ["one"]
    build([Package("one", version="2.0")], directory)
    index(directory)
    assert [each.nevra.version for each in place.solve("one").packages] == ["2.0"]
    assert [each.nevra.version for each in place.solve("one").packages] == ["2.0"]
    assert asked == ["solved"] * 2
    shutil.rmtree(directory / "repodata")
    assert "cannot load metadata" in place.fails(FetchError, "one").message


def test_what_comes_over_the_network_is_brought_up_to_date(place, server, asked):
    place.repo(f"[test]\nbaseurl={server.url}/repo\nodd=1\n")
    first = place.solve("app")
    assert place.solve("app") == first
    assert asked == ["solved", "known"]
    assert place.solve("app", network={"cache_only": True}) == first
    assert asked == ["solved", "known"]
    assert len(place.log.lines) == 3 == sum("unknown option 'odd'" in line for line in place.log.lines)

"""The cachedir: damage is healed, composes share it, and it lies on any filesystem."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compose.importer.cache import IMPORTER_VERSION
from tests.e2e.tiny import EPOCH, Site
from tests.support.filesystem import mounted

pytestmark = pytest.mark.root
FIXED = {"SOURCE_DATE_EPOCH": str(EPOCH + 1)}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, packages: Path, shared_cachedir: Path) -> dict[str, Path]:
    return {}


@pytest.fixture
def fresh(site: Site, filled: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str]:
    """A site with a cachedir that one compose has filled, and the commit that an empty cachedir gave."""
    if "cache" not in filled:
        filled["cache"] = tmp_path_factory.mktemp("filled") / "cache"
        each = replace(site, cachedir=filled["cache"])
        each.compose("--write-commitid-to=" + str(filled["cache"].parent / "id"), **FIXED)
        shutil.rmtree(site.repo)
        site.init()
    cachedir = site.path / "cache"
    subprocess.run(["cp", "-a", filled["cache"], cachedir], check=True)
    return replace(site, cachedir=cachedir), (filled["cache"].parent / "id").read_text()


def largest(top: Path) -> Path:
    return max((path for path in top.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path, *, tell: bool) -> None:
    """Change some bytes in the middle. tell: the mtime says so, as after any write."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        old = file.read(40)
        file.seek(before.st_size // 2)
        file.write(bytes(byte ^ 0x55 for byte in old))
    if not tell:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def files(top: Path) -> list[Path]:
    return [path for path in sorted(top.rglob("*")) if path.is_file() and path.name != "lock"]


def flip_all_blobs(cache: Path) -> None:
    for path in files(cache / "blobs"):
        if path.stat().st_size:
            flip(path, tell=True)


def flip_blobs_untold(cache: Path) -> None:
    """What a failing disk does. Two, for the whole cache is looked at when one is found."""
    large = [path for path in files(cache / "blobs") if path.stat().st_size > 1000]
    flip(large[0], tell=False)
    flip(large[-1], tell=False)


def cut_blobs_and_plant(cache: Path) -> None:
    paths = files(cache / "blobs")
    for path in paths[:10]:
        os.truncate(path, path.stat().st_size // 2)
    for path in paths[10:20]:
        path.unlink()
        path.symlink_to("/etc/passwd")
    os.chown(paths[20], 1234, 1234)
    os.chmod(paths[21], 0o4777)
    shutil.rmtree(paths[-1].parent)
    paths[-1].parent.symlink_to("/etc")


def harm_manifests(cache: Path) -> None:
    paths = files(cache / "manifests")
    os.truncate(paths[0], 100)
    flip(paths[1], tell=True)
    paths[2].rename(paths[2].with_suffix(f".{IMPORTER_VERSION - 1}"))
    paths[3].write_bytes(paths[4].read_bytes())
    paths[5].unlink()
    paths[5].symlink_to("/etc/passwd")


def harm_rpms(cache: Path) -> None:
    paths = files(cache / "rpms")
    flip(paths[0], tell=False)
    os.truncate(paths[1], 1000)
    paths[2].unlink()
    paths[2].symlink_to(paths[3])
    elsewhere = cache.parent / "elsewhere"
    paths[4].parent.rename(elsewhere)
    paths[4].parent.symlink_to(elsewhere)


def harm_metadata(cache: Path) -> None:
    for path in (cache / "repomd").rglob("*.solv*"):
        os.truncate(path, path.stat().st_size * 2 // 3)
    flip(next((cache / "repomd").rglob("*-primary*")), tell=False)


def harm_memos(cache: Path) -> None:
    """Checksums of objects, labels, and what programs did."""
    paths = [cache / "object-memo", *files(cache / "labels"), *(cache / "programs").glob("??/*")]
    assert len(paths) > 4
    for number, path in enumerate(paths):
        if number % 3 == 0:
            flip(path, tell=False)
        elif number % 3 == 1:
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink()
            path.symlink_to("/etc/passwd")


def harm_lower(cache: Path) -> None:
    """The root that programs saw last, whose files are those of the store."""
    lower = next((cache / "programs").rglob("usr/bin/cat")).parents[2]
    flip(lower / "usr/bin/cat", tell=True)
    os.truncate(lower / "usr/share/doc/hello/README", 1)
    (lower / "usr/share/hello/one").unlink()
    (lower / "usr/share/hello/one").write_text("another\n")
    (lower / "usr/share/hello/link").unlink()
    (lower / "usr/share/hello/link").symlink_to("/etc/passwd")
    (lower / "usr/share/planted").write_text("planted\n")
    (lower / "usr/share/doc").rename(cache.parent / "doc")
    (lower / "usr/share/doc").symlink_to(cache.parent / "doc")
    os.chown(lower / "usr/share", 1234, 1234)
    (lower / "usr/lib").chmod(0o777)


def harm_directories(cache: Path) -> None:
    (cache / "blobs").chmod(0o777)
    shutil.rmtree(cache / "manifests")
    (cache / "manifests").symlink_to("/etc")
    os.chown(cache / "rpms", 1234, 1234)
    for name in ("killed", "killed.lock"):
        (cache / "work" / name).mkdir() if name == "killed" else (cache / "work" / name).touch()


@pytest.mark.parametrize(
    "damage",
    [
        flip_all_blobs,
        flip_blobs_untold,
        cut_blobs_and_plant,
        harm_manifests,
        harm_rpms,
        harm_metadata,
        harm_memos,
        harm_lower,
        harm_directories,
    ],
)
def test_a_damaged_cache_gives_the_same_commit(fresh: tuple[Site, str], damage: Callable[[Path], None]) -> None:
    site, expected = fresh
    damage(site.cachedir)
    done = site.run(**FIXED)
    assert done.status == 0, done.stderr
    assert site.head() == expected
    site.ostree("fsck", "--quiet")
    assert os.listdir(site.cachedir / "work") == [".lock"]
    said = site.run("--force-nocache", **FIXED)
    assert "damaged" not in said.stderr
    # what was harmed and nothing uses goes with gc, or is found; then all is sound
    for words in ("gc", "verify", "verify"):
        command = [sys.executable, "-m", "compose", "cache", words, f"--cachedir={site.cachedir}"]
        checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def unpacked(source: Path, target: Path) -> None:
    """What GitLab's cache of CI jobs, a zip file, keeps: no hard links, times in whole seconds, no xattrs."""
    for place, _, names in os.walk(source):
        to = target / Path(place).relative_to(source)
        to.mkdir()
        for name in names:
            path, copy = Path(place, name), to / name
            if path.is_symlink():
                copy.symlink_to(path.readlink())
                continue
            shutil.copyfile(path, copy)
            shutil.copymode(path, copy)
            os.utime(copy, (int(path.stat().st_mtime), int(path.stat().st_mtime)))
        to.chmod(Path(place).stat().st_mode & 0o7777)


def test_a_cachedir_that_ci_kept_is_used(site: Site, tmp_path: Path) -> None:
    here = replace(site, cachedir=site.path / "cache")
    here.compose(**FIXED)
    commit = here.head()
    kept = replace(here, cachedir=tmp_path / "kept")
    unpacked(here.cachedir, kept.cachedir)
    shutil.rmtree(here.cachedir)
    result = tmp_path / "result.json"
    kept.compose("--force-nocache", "--no-parent", f"--write-composejson-to={result}", **FIXED)
    assert kept.head() == commit
    assert json.loads(result.read_text())["content-bytes-compressed"] == 0
    hits = json.loads(kept.tool("cache", "show", f"--cachedir={kept.cachedir}", "--format=json").stdout)["hits"]
    # the first compose found none
    assert hits["rpms"] == hits["manifests"] == {"asked": 14, "found": 7}
    if os.uname().machine == "x86_64":
        assert hits["programs"]["found"] > 0


def test_composes_at_once_one_killed_one_removing(site: Site) -> None:
    """A fresh cachedir, three that compose into repositories of their own, one that dies on the way, and gc all the time."""
    cachedir = site.path / "cache"
    sites = [replace(site, path=site.path / name, cachedir=cachedir) for name in ("one", "two", "three", "dies")]
    for each in sites:
        each.path.mkdir()
        each.init()
        each.write_repo()
        each.write_treefile()
    environment = os.environ | FIXED
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment}
    running = [subprocess.Popen(each.command("--jobs=1"), **quiet) for each in sites]
    collector = [sys.executable, "-m", "compose", "cache", "gc", f"--cachedir={cachedir}", "--keep-days=0", "--wait=60"]
    while not cachedir.exists():
        time.sleep(0.01)
    collecting = subprocess.Popen(collector, **quiet)
    while not list(cachedir.glob("blobs/*/*")):
        assert running[-1].poll() is None
        time.sleep(0.05)
    running[-1].send_signal(signal.SIGKILL)
    for each in (*running, collecting):
        _, said = each.communicate(timeout=100)
        assert each.returncode == (-9 if each is running[-1] else 0), said
    heads = {each.head() for each in sites[:3]}
    assert len(heads) == 1
    assert not (sites[3].repo / "refs/heads/tiny").exists()
    sites[3].compose(**FIXED)
    assert {sites[3].head()} == heads
    assert os.listdir(cachedir / "work") == [".lock"]
    for each in sites:
        each.ostree("fsck", "--quiet")


def test_show_gc_and_hit_rates(fresh: tuple[Site, str]) -> None:
    site, expected = fresh

    def cache(*words: str) -> dict:
        command = [sys.executable, "-m", "compose", "cache", *words, f"--cachedir={site.cachedir}", "--format=json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    for _ in range(2):
        site.compose("--force-nocache", **FIXED)
    shown = cache("show")
    assert shown["composes"] == 3
    assert shown["hits"]["rpms"] == shown["hits"]["manifests"] == {"asked": 21, "found": 14}
    # of a repository that had them
    assert 0 < shown["hits"]["objects"]["found"] < shown["hits"]["objects"]["asked"]
    if os.uname().machine == "x86_64":
        assert 0 < shown["hits"]["programs"]["found"] < shown["hits"]["programs"]["asked"]
    assert shown["kinds"]["rpms"]["entries"] == shown["kinds"]["manifests"]["entries"] == 7
    on_disk = int(
        subprocess.run(["du", "-s", "-B1", site.cachedir], check=True, capture_output=True, text=True).stdout.split()[0]
    )
    # directories are not counted
    assert 0.7 * on_disk < shown["bytes"] <= on_disk

    gone = cache("gc", "--keep-days=1")
    # the last root is of use, and holds its files
    assert {kind for kind, row in gone["removed"].items() if row["entries"]} <= {"blobs"}
    half = gone["bytes_left"] // 2
    gone = cache("gc", f"--max-size={half}")
    assert gone["bytes_left"] <= half
    shown = cache("show")
    assert shown["bytes"] == gone["bytes_left"]
    site.compose("--force-nocache", "--no-parent", **FIXED)
    assert site.head() == expected
    assert cache("gc", "--max-size=0")["bytes_left"] == 0


@pytest.mark.parametrize(
    ("cache", "repo", "mode"),
    [
        ("tmpfs", "ext4", "bare-user"),
        ("ext4", "tmpfs", "archive"),
        ("btrfs", "xfs", "archive"),
        ("xfs", "btrfs", "bare-user"),
        ("btrfs", "btrfs", "bare-user"),
    ],
)
def test_cache_and_repository_on_any_filesystem(
    fresh: tuple[Site, str], tmp_path: Path, cache: str, repo: str, mode: str
) -> None:
    site, expected = fresh
    with mounted(cache, tmp_path / "there") as there, mounted(repo, tmp_path / "here") as here:
        site = replace(site, path=here, cachedir=(here if cache == repo else there) / "cachedir")
        site.init(mode)
        site.write_repo()
        site.write_treefile()
        site.compose(**FIXED)
        assert site.head() == expected
        # and from the warm cache
        site.ostree("refs", "--delete", "tiny")
        site.compose(**FIXED)
        assert site.head() == expected
        site.ostree("fsck", "--quiet")

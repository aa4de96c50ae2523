"""Disks that are full, read-only or failing, at every place that a compose writes: one clear error, nothing lost or half
written, and the rerun gives the commit that it would have been."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from compose.fs import FREE_SPACE
from tests.e2e.tiny import EPOCH, REF, Done, Site
from tests.support.filesystem import mounted

pytestmark = pytest.mark.root
FIXED = {"SOURCE_DATE_EPOCH": str(EPOCH + 1)}
KB, MB = 1 << 10, 1 << 20


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return {}


@pytest.fixture
def expected(site: Site, known: dict[str, str]) -> str:
    """The commit that a compose gives where nothing is wrong."""
    if not known:
        site.compose(f"--write-commitid-to={site.path / 'id'}", **FIXED)
        known["commit"] = (site.path / "id").read_text()
    return known["commit"]


def leave(top: Path, room: int) -> None:
    """Fill a filesystem up to `room` bytes."""
    ballast = top / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while os.fstatvfs(file.fileno()).f_bfree * os.fstatvfs(file.fileno()).f_frsize > room:
            file.write(bytes(32 * KB))


def check_failed(site: Site, done: Done, words: str = "", *, clean: bool = True) -> None:
    """One error with a way out, and a repository as it was. clean: what was written until then could be removed."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1
    assert words in lines[0]
    assert "/" in lines[0]
    assert "hint: " in done.stderr
    assert site.ostree("refs") == ""
    if clean:
        assert [path.name for path in (site.repo / "tmp").iterdir()] == ["cache"]
    if (site.cachedir / "work").exists():
        assert os.listdir(site.cachedir / "work") in ([".lock"], [])


def check_good(site: Site, expected: str) -> None:
    assert site.head() == expected
    site.ostree("fsck", "--quiet")
    assert [path.name for path in (site.repo / "tmp").iterdir()] == ["cache"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted("tmpfs", tmp_path / "disk", 64 * MB) as top:
        yield top


def test_little_space_is_told_before_the_work(site: Site, disk: Path) -> None:
    site = replace(site, cachedir=disk / "cache")
    assert "may need" not in site.run("--download-only-rpms").stderr
    leave(disk, 3 * MB)
    done = site.run()
    warning = re.search(
        rf"warning: {disk}/cache has \d\.\d MB free; this compose may need up to \d\.\d MB there", done.stderr
    )
    assert done.status == 1
    assert warning is not None, done.stderr
    assert warning.start() < done.stderr.index("Importing packages") < done.stderr.index("error: ")
    leave(disk, 32 * MB)
    assert "may need" not in site.run().stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "kind", "step"),
    [
        ("cachedir", "tmpfs", 256 * KB),
        ("cachedir", "ext4", 512 * KB),
        ("preview", "ext4", 512 * KB),
        ("archive", "tmpfs", 256 * KB),
        ("bare-user", "ext4", 512 * KB),
        ("bare", "tmpfs", 512 * KB),
    ],
)
def test_full_at_any_point(site: Site, expected: str, tmp_path: Path, place: str, kind: str, step: int) -> None:
    """A little more room each time, and what the times before left is still there, until there is enough."""
    with mounted(kind, tmp_path / "full", 64 * MB) as top:
        if place in ("cachedir", "preview"):
            site = replace(site, cachedir=top / "cache")
        else:
            site = replace(site, path=top)
            site.init(place)
            # or that says no first
            site.ostree("config", "set", "core.min-free-space-percent", "0")
            site.write_repo()
            site.write_treefile()
        site_of_commit = site
        if place == "preview":
            site_of_commit = replace(site, path=top / "cache")
            (top / "cache").mkdir(mode=0o700)
            subprocess.run(["ostree", "init", f"--repo={top}/cache/preview-repo", "--mode=archive"], check=True)
            (top / "cache/repo").symlink_to("preview-repo")
        failed = 0
        while True:
            leave(top, failed * step)
            done = site.run(repo=place != "preview", **FIXED)
            if done.status == 0:
                break
            check_failed(site_of_commit, done)
            failed += 1
            assert failed < 100
        assert failed > 2
        check_good(site_of_commit, expected)


def test_a_program_that_goes_on_when_the_disk_is_full_fails_the_compose(site: Site, disk: Path) -> None:
    site = replace(site, cachedir=disk / "cache")
    script = f"#!/bin/sh\nwhile echo {'x' * 1000}; do :; done >/usr/big\nexit 0\n"
    site.write_treefile(postprocess=[script])
    leave(disk, 12 * MB)
    check_failed(site, site.run(**FIXED), "was full when postprocess[0]")
    site.write_treefile(postprocess=["#!/bin/sh\necho x >/usr/big\n"])
    (disk / "ballast").unlink()
    site.compose(**FIXED)
    assert site.ostree("cat", REF, "/usr/big") == "x\n"


@pytest.mark.parametrize(
    "flag",
    [
        *("--write-composejson-to", "--write-commitid-to", "--touch-if-changed", "--write-lockfile-to"),
        *("--write-timings-to", "--write-codequality-to"),
    ],
)
def test_files_that_could_not_be_written_are_told_of_before_anything_is_made(site: Site, disk: Path, flag: str) -> None:
    leave(disk, 0)
    check_failed(site, site.run(f"{flag}={disk}/file"), f"{disk}/file: No space left on device")
    (disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    check_failed(site, site.run(f"{flag}={disk}/file"), f"{disk}/file: Read-only file system")
    done = site.run(f"{flag}={disk}/missing/file")
    assert done.status == 1
    assert f"error: cannot write {disk}/missing/file: No such file or directory" in done.stderr
    assert site.ostree("refs") == ""


@pytest.mark.parametrize("place", ["cachedir", "repository"])
def test_read_only(site: Site, expected: str, disk: Path, place: str) -> None:
    if place == "cachedir":
        site = replace(site, cachedir=disk / "cache")
    else:
        site = replace(site, path=disk)
        site.init()
        site.write_repo()
        site.write_treefile()
    site.run("--download-only")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    check_failed(site, site.run(**FIXED), str(disk))
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    site.compose(**FIXED)
    check_good(site, expected)


@pytest.mark.parametrize(
    ("cold", "mode", "limit"),
    [
        (True, "archive", 16 * KB),
        (True, "archive", 1000 * KB),
        (False, "archive", 300 * KB),
        (False, "bare-user", 1400 * KB),
    ],
    ids=["small blobs", "large blobs", "rpmdb", "objects"],
)
def test_files_larger_than_they_may_be(site: Site, expected: str, cold: bool, mode: str, limit: int) -> None:
    """The kernel answers EFBIG to every write beyond."""
    shutil.rmtree(site.repo)
    site.init(mode)
    if cold:
        site = replace(site, cachedir=site.path / "cache")
        site.compose("--download-only-rpms")
    done = subprocess.run(
        site.command(), env=os.environ | FIXED, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)), timeout=100,
    )  # fmt: skip
    check_failed(site, Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr))
    site.compose(**FIXED)
    check_good(site, expected)


def test_a_disk_that_fails_when_it_must_have_written(site: Site, expected: str, tmp_path: Path) -> None:
    """Every write is accepted, and at the sync the disk cannot: nothing is published.

    The disk is a file in memory, which is said to be larger than the memory that it may take.
    """
    with (
        mounted("tmpfs", tmp_path / "memory", 3 * MB) as memory,
        mounted("ext2", memory / "failing", 64 * MB) as disk,
    ):
        site = replace(site, path=disk)
        site.init("bare-user")
        site.ostree("config", "set", "core.min-free-space-percent", "0")
        site.write_repo()
        site.write_treefile()
        os.sync()
        for _ in range(2):
            check_failed(site, site.run(**FIXED), f"cannot write {site.repo}", clean=False)
            assert [path for path in (site.repo / "objects").rglob("*") if path.is_file()] == []
        subprocess.run(["mount", "-o", "remount,size=64m", memory], check=True)
        site.compose(**FIXED)
        check_good(site, expected)


@contextmanager
def failing(disk: Path, room: int) -> Iterator[None]:
    """The device of a mounted image answers with I/O errors from `room` bytes on, as long as the context lasts."""
    image = disk.with_name(disk.name + ".img")
    (device,) = subprocess.check_output(["losetup", "--noheadings", "--output=NAME", "-j", image], text=True).split()
    os.sync()
    tail = image.read_bytes()[room:]
    os.truncate(image, room)
    subprocess.run(["losetup", "--set-capacity", device], check=True)
    try:
        yield
    finally:
        with image.open("r+b") as file:
            file.seek(room)
            file.write(tail)
        subprocess.run(["losetup", "--set-capacity", device], check=True)


@pytest.mark.parametrize("room", [9, 10, 11])
def test_a_cachedir_whose_disk_fails(room: int, site: Site, expected: str, tmp_path: Path) -> None:
    """Each write is waited for. room: MB of the disk that are in order: what ext2 needs at once, and a bit of the blobs."""
    with mounted("ext2", tmp_path / "failing", 64 * MB, options="sync") as disk:
        site = replace(site, cachedir=disk / "cache")
        with failing(disk, room * MB):
            done = site.run(**FIXED)
        check_failed(site, done, clean=False)
        # the kernel's words, SQLite's, or curl's
        assert re.search("Input/output error|Cannot allocate memory|disk I/O error|Failure writing output", done.stderr)
        assert "dmesg" in done.stderr
        site.compose(**FIXED)
        check_good(site, expected)


def test_full_where_other_commands_write(site: Site, disk: Path) -> None:
    """The root of install, a plain one, a lockfile, the ids of id-lock, a bundle: not there at all rather than in part."""
    tree = site.write_treefile(id_lock=str(disk / "ids.yaml"))
    other = site.write_treefile(name="other.yaml")
    leave(disk, 0)

    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "compose", *words, f"--cachedir={site.cachedir}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr

    asked = (
        (f"{disk}/out/rootfs", ("install", str(tree), f"{disk}/out", f"--repo={site.repo}", "--accept-new-ids")),
        (f"{disk}/lock.yaml", ("lock", str(tree), f"--lockfile={disk}/lock.yaml")),
        (f"{disk}/ids.yaml", ("tree", str(tree), f"--repo={site.repo}", "--accept-new-ids")),
        (f"{disk}/plain", ("rootfs", str(other), f"{disk}/plain")),
        (f"{disk}/all.tar", ("fetch", str(other), f"--bundle={disk}/all.tar")),
    )
    for path, words in asked:
        status, said = run(*words)
        assert status == 1
        assert f": No space left on device\nhint: {FREE_SPACE}" in said
        assert "Traceback" not in said
        assert not os.path.lexists(path)
    assert site.ostree("refs") == ""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for _, words in asked:
        status, said = run(*words)
        assert status == 1
        assert "Read-only file system\nhint: " in said
        assert "Traceback" not in said
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    (disk / "ballast").unlink()
    for path, words in asked:
        assert run(*words)[0] == 0
        assert os.path.lexists(path)


def test_a_root_that_nothing_is_known_of_is_no_root(site: Site, disk: Path) -> None:
    """There is room for the root, and none for what belongs beside it."""
    words = ("install", site.treefile, disk / "out", f"--cachedir={site.cachedir}", f"--repo={site.repo}")
    site.tool(*words)
    left = os.statvfs(disk)
    beside = [path.stat().st_blocks * 512 for path in (disk / "out").iterdir() if path.is_file()]
    assert len(beside) == 3
    shutil.rmtree(disk / "out")
    (disk / "ballast").write_bytes(bytes(left.f_bfree * left.f_frsize + sum(beside)))
    done = site.tool(*words, status=1)
    assert f"error: cannot write {disk}/out/compose" in done.stderr
    assert not (disk / "out/rootfs").exists()
    (disk / "ballast").unlink()
    site.tool(*words)


@pytest.mark.parametrize("events", [[], ["--timings"], ["--progress=json"], ["--progress=json", "--progress-fd=3"]])
def test_a_log_that_cannot_be_written_stops_nothing(site: Site, expected: str, events: list[str]) -> None:
    full = "3>/dev/full" if "--progress-fd=3" in events else "2>/dev/full"
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {full}', "sh", *site.command(*events)],
        env=os.environ | FIXED, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{REF} => {expected}")
    check_good(site, expected)


def test_results_that_cannot_be_written_are_an_error(site: Site, expected: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            site.command(), env=os.environ | FIXED, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "error: cannot write to standard output: No space left on device\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    # it was made, and the rerun says so
    check_good(site, expected)
    assert "No apparent changes" in site.compose(**FIXED)


_READ_ONLY = """set -e
for each in "$1" "$2"; do mkdir -p "$each"; mount --bind "$each" "$each"; done
for each in /tmp /var/tmp "$3"; do mount --rbind "$each" "$each"; mount -o remount,bind,ro "$each"; done
shift 3
unset TMPDIR
# Python takes the working directory, when nothing else is left
cd /proc
exec "$@"
"""


def test_a_container_that_is_read_only_but_for_cachedir_and_repository(
    site: Site, expected: str, tmp_path: Path
) -> None:
    site.compose(**FIXED)
    site.write_treefile("tiny-odd")
    around = ["unshare", "--mount", "--propagation=private", "sh", "-c", _READ_ONLY, "sh"]
    around += [str(site.repo), str(tmp_path / "cache"), str(tmp_path.parent)]

    def run(*words: str | Path) -> str:
        command = [sys.executable, "-m", "compose", *map(str, words), f"--cachedir={tmp_path}/cache"]
        environment = os.environ | FIXED | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([*around, *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = f"--repo={site.repo}"
    assert "tiny-odd" in run("plan", site.treefile, where)
    assert f"{REF} => " in run("tree", site.treefile, where)
    assert ": reproduced" in run("verify", REF, where)
    assert site.ostree("rev-parse", f"{REF}^").strip() == expected

"""Pools: locked builds stay available after their repository has dropped them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_lockfiles import compose, packages_of
from tests.e2e.tiny import Done, Site, release
from tests.support import rpmrepo
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root


def fill(site: Site, pool: Path, *words: str | Path, status: int = 0) -> Done:
    return compose(site, "fetch", site.treefile, f"--pool={pool}", *words, status=status)


def test_builds_that_their_repository_dropped(moving: Site, keys: Keys, tmp_path: Path) -> None:
    pool, lock = tmp_path / "new/pool", moving.path / "tiny.lock.yaml"
    compose(moving, "lock", moving.treefile)
    done = fill(moving, pool, f"--lockfile={lock}")
    count = len(list(pool.glob("*.rpm")))
    assert f"{pool}: {count} packages, {count} of them new, " in done.stdout
    assert (pool / "hello-lib-1.0-1.noarch.rpm").exists()
    assert "all there already" in fill(moving, pool, f"--lockfile={lock}").stdout
    (moving.packages / "hello-lib.rpm").unlink()
    release(moving, keys, tmp_path, "hello-lib")
    release(moving, keys, tmp_path, "tiny-release")
    shutil.rmtree(moving.cachedir)
    moving.write_treefile()
    # without the pool, hello-lib cannot be kept
    assert "hello-lib" in compose(moving, "lock", "update", moving.treefile, "tiny-release", status=3).stderr
    moving.write_repo(name="pool", baseurl=pool.as_uri())
    with (moving.path / "pool.repo").open("a") as repo:
        repo.write("cost=2000\n")
    moving.write_treefile(repos=["pool", "tiny"])
    done = compose(moving, "lock", "update", moving.treefile, "tiny-release")
    assert "tiny-release 1-1 -> 2.0-1" in done.stdout
    (arch,) = yaml.safe_load(lock.read_text())["arches"].values()
    assert [row["nevra"] for row in arch["packages"] if row["repo"] == "pool"] == ["hello-lib-0:1.0-1.noarch"]
    moving.compose(f"--lockfile={lock}")
    assert "('hello-lib', '0', '1.0'" in packages_of(moving)
    # and later the new one, which does not replace the old one
    assert "hello-lib 1.0-1 -> 2.0-1" in compose(moving, "lock", "update", moving.treefile).stdout
    done = fill(moving, pool, f"--lockfile={lock}")
    assert f"{pool}: {count} packages, 2 of them new, " in done.stdout
    assert len(list(pool.glob("hello-lib-*.rpm"))) == 2


def test_other_bytes_replace_a_package_with_a_warning(site: Site, tmp_path: Path) -> None:
    fill(site, tmp_path)
    path = tmp_path / "hello-lib-1.0-1.noarch.rpm"
    data = path.read_bytes()
    path.write_bytes(data + b"more")
    # of a run that was killed
    (tmp_path / f"{path.name}.0123456789ab.tmp").touch()
    assert f"{path} is replaced" in fill(site, tmp_path).stderr
    assert path.read_bytes() == data
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_something_else_in_the_place_of_a_package(make: Callable[[Path], None], site: Site, tmp_path: Path) -> None:
    make(tmp_path / "hello-lib-1.0-1.noarch.rpm")
    assert "hello-lib-1.0-1.noarch.rpm: " in fill(site, tmp_path, status=1).stderr


def test_two_at_once(site: Site, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    words = ["fetch", str(site.treefile), f"--pool={pool}", f"--cachedir={site.cachedir}"]
    running = [
        subprocess.Popen([sys.executable, "-m", "compose", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    ended = [each.communicate(timeout=100) for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], ended
    rpmrepo.run("createrepo_c", "--update", "--quiet", str(pool))


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        ([], "give either --bundle=FILE or --pool=DIR", 2),
        (["--pool=p", "--bundle=b"], "give either --bundle=FILE or --pool=DIR", 2),
        (["--pool=/proc/none"], "cannot write /proc/none: ", 1),
        (["--pool="], "--pool is empty", 2),
        (["--pool=/dev/null"], "cannot write /dev/null: ", 1),
    ],
)
def test_faults(words: list[str], said: str, status: int, site: Site) -> None:
    assert said in compose(site, "fetch", site.treefile, *words, status=status).stderr


def test_a_compose_that_fails_leaves_no_pool(site: Site, tmp_path: Path) -> None:
    assert compose(site, "fetch", tmp_path / "missing.yaml", f"--pool={tmp_path / 'pool'}", status=2)
    assert not (tmp_path / "pool").exists()


def test_without_createrepo(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "createrepo_c is not installed" in fill(site, tmp_path / "pool", status=2).stderr
    assert not (tmp_path / "pool").exists()


def test_an_indexer_that_fails(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/createrepo_c"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no room >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    done = fill(site, tmp_path / "pool", status=1)
    assert "createrepo_c failed in" in done.stderr
    assert "no room" in done.stderr

"""Lockfiles: the same builds on any day, and a clear error when they cannot be had."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.tiny import EPOCH, REF, SIGNER, Done, Site, release
from tests.support import rpmrepo
from tests.support.rpmrepo import Keys, Server, run

pytestmark = pytest.mark.root


def compose(site: Site, *arguments: str | Path, status: int = 0) -> Done:
    where = [] if "diff" in arguments else [f"--cachedir={site.cachedir}"]
    command = [sys.executable, "-m", "compose", *map(str, arguments), *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == status, done.stdout + done.stderr
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def packages_of(site: Site) -> str:
    return site.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist")


def test_the_same_set_on_any_day(moving: Site, keys: Keys, tmp_path: Path) -> None:
    lock = moving.path / "tiny.lock.yaml"
    moving.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    first = moving.head()
    compose(moving, "lock", moving.treefile)
    assert '"hello-lib-0:1.0-1.noarch"' in lock.read_text()
    (signer,) = set(re.findall(r'"key": "(\w+)"', lock.read_text()))
    assert keys.fingerprint(SIGNER).lower().endswith(signer)
    release(moving, keys, tmp_path)
    locked = lock.read_bytes()
    moving.compose(f"--lockfile={lock}", "--force-nocache", "--no-parent", SOURCE_DATE_EPOCH=str(EPOCH))
    assert "('hello-lib', '0', '1.0'" in packages_of(moving)
    assert lock.read_bytes() == locked
    # the commit too, but for the time of the repository's metadata, which is of the lock
    assert moving.head() == first
    moving.compose("--force-nocache")
    assert "('hello-lib', '0', '2.0'" in packages_of(moving)


def test_a_lock_needs_no_metadata_at_all(moving: Site) -> None:
    """The packages are fetched by their location; over HTTP no repodata is asked for."""
    server = Server(moving.packages)
    try:
        moving.write_repo(baseurl=server.url)
        compose(moving, "lock", moving.treefile)
        shutil.rmtree(moving.cachedir)
        shutil.rmtree(moving.packages / "repodata")
        asked = len(server.asked_for("repomd.xml"))
        moving.compose(f"--lockfile={moving.path / 'tiny.lock.yaml'}")
        assert len(server.asked_for("repomd.xml")) == asked
        assert len(server.asked_for("hello.rpm")) == 2
    finally:
        server.close()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_lock_of_packages_that_are_elsewhere(moving: Site, scheme: str, tmp_path: Path) -> None:
    """createrepo_c --baseurl: metadata at one place, packages at another; libdnf5 finds them, and so does a lock."""
    server = Server(tmp_path)
    try:
        shutil.copytree(moving.packages, tmp_path / "pool")
        base = f"{server.url}/pool/" if scheme == "http" else (tmp_path / "pool").as_uri()
        shutil.move(moving.packages / "repodata", tmp_path / "before")
        rpmrepo.run("createrepo_c", "--quiet", f"--baseurl={base}", str(moving.packages))
        (tmp_path / "far").mkdir()
        shutil.move(moving.packages / "repodata", tmp_path / "far/repodata")
        moving.write_repo(baseurl=f"{server.url}/far")
        compose(moving, "lock", moving.treefile)
        lock = moving.path / "tiny.lock.yaml"
        assert lock.read_text().count(f'"base": "{base}"') == lock.read_text().count('"nevra"')
        for _ in range(2):
            shutil.rmtree(moving.cachedir)
            moving.compose(f"--lockfile={lock}")
            # a base that is dead is not the only place
            lock.write_text(lock.read_text().replace(base, "http://127.0.0.1:9/"))
            for rpm in (tmp_path / "pool").glob("*.rpm"):
                shutil.copy(rpm, tmp_path / "far")
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["mirrorlist", "metalink"])
def test_a_lock_with_mirrors(moving: Site, kind: str, tmp_path: Path) -> None:
    """The first mirror of the list is dead."""
    server = Server(moving.packages)
    try:
        mirrors = ["http://127.0.0.1:9", server.url]
        if kind == "mirrorlist":
            text = "# mirrors\n" + "".join(f"{url}/\n" for url in mirrors)
        else:
            urls = "".join(
                f'<url protocol="http" type="http" preference="{100 - place}">{url}/repodata/repomd.xml</url>'
                for place, url in enumerate(mirrors)
            )
            text = (
                '<?xml version="1.0"?><metalink version="3.0" xmlns="http://www.metalinker.org/"><files>'
                f'<file name="repomd.xml"><resources>{urls}</resources></file></files></metalink>'
            )
        compose(moving, "lock", moving.treefile)
        shutil.rmtree(moving.cachedir)
        (moving.packages / "mirrors").write_text(text)
        repo = moving.path / "tiny.repo"
        repo.write_text(re.sub("baseurl=.*", f"{kind}={server.url}/mirrors", repo.read_text()))
        moving.compose(f"--lockfile={moving.path / 'tiny.lock.yaml'}")
        assert len(server.asked_for("hello.rpm")) == 1
        assert not server.asked_for("repomd.xml")
    finally:
        server.close()


def test_a_package_that_is_gone_or_changed_is_an_error(moving: Site) -> None:
    lock = moving.path / "tiny.lock.yaml"
    compose(moving, "lock", moving.treefile)
    shutil.rmtree(moving.cachedir)
    (moving.packages / "hello-lib.rpm").rename(moving.packages / "elsewhere")
    done = moving.run(f"--lockfile={lock}")
    assert (done.status, "hello-lib-1.0-1.noarch" in done.stderr) == (4, True), done.stderr
    shutil.copy(moving.packages / "hello.rpm", moving.packages / "hello-lib.rpm")
    done = moving.run(f"--lockfile={lock}")
    assert done.status != 0
    assert "hello-lib-1.0-1.noarch of repository 'tiny' is corrupted" in done.stderr


def test_another_signer_is_an_error(moving: Site) -> None:
    lock = moving.path / "tiny.lock.yaml"
    compose(moving, "lock", moving.treefile)
    lock.write_text(re.sub(r'"key": "[0-9a-f]+"', '"key": "' + "0" * 40 + '"', lock.read_text(), count=1))
    done = moving.run(f"--lockfile={lock}")
    assert done.status == 5
    assert "signed by" in done.stderr and "locked with 0000" in done.stderr


def test_a_treefile_that_asks_for_something_else(moving: Site) -> None:
    lock = moving.path / "tiny.lock.yaml"
    compose(moving, "lock", moving.treefile)
    moving.write_treefile("tiny-odd", units=["x.service"])
    done = moving.run(f"--lockfile={lock}")
    assert done.status == 3
    assert "tiny.lock.yaml does not match the treefile" in done.stderr
    assert "in the treefile, not in the lock: tiny-odd" in done.stderr
    # what is locked already stays locked
    compose(moving, "lock", "update", moving.treefile, "--keep")
    moving.compose(f"--lockfile={lock}")


def test_one_file_for_all_architectures(moving: Site) -> None:
    """Each is solved with its own $basearch, and writing one keeps the others."""
    lock = moving.path / "tiny.lock.yaml"
    repo = moving.path / "tiny.repo"
    (moving.packages.parent / "aarch64").symlink_to(moving.packages)
    (moving.packages.parent / "x86_64").symlink_to(moving.packages)
    repo.write_text(re.sub("baseurl=.*", f"baseurl={moving.packages.parent.as_uri()}/$basearch", repo.read_text()))
    moving.write_treefile(packages=["hello-lib"])
    moving.treefile.write_text(
        moving.treefile.read_text().replace('"releasever"', '"packages-aarch64": ["tiny-weak"], "releasever"')
    )
    done = compose(moving, "lock", moving.treefile, "--arch=x86_64", "--arch=aarch64", "--progress=json")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    # one command, so a reader of events may stop at its result
    assert (events.count("begin"), events.count("result")) == (1, 1)
    found = yaml.safe_load(lock.read_text())["arches"]
    names = {arch: [row["nevra"] for row in part["packages"]] for arch, part in found.items()}
    assert names == {
        "aarch64": ["hello-lib-0:1.0-1.noarch", "tiny-filesystem-0:1-1.noarch", "tiny-weak-0:1-1.noarch"],
        "x86_64": ["hello-lib-0:1.0-1.noarch", "tiny-filesystem-0:1-1.noarch"],
    }
    before = lock.read_text()
    compose(moving, "lock", "update", moving.treefile, "--arch=x86_64")
    assert lock.read_text() == before


def test_a_lock_beside_rpms_of_no_repository(moving: Site) -> None:
    """The treefile pins them by digest; with another digest, the lock no longer matches it."""
    shutil.move(moving.packages / "tiny-weak.rpm", moving.path / "own.rpm")
    rpmrepo.index(moving.packages)
    digest = hashlib.sha256((moving.path / "own.rpm").read_bytes()).hexdigest()
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}])
    compose(moving, "lock", moving.treefile)
    lock = moving.path / "tiny.lock.yaml"
    assert "tiny-weak" not in lock.read_text()
    moving.compose(f"--lockfile={lock}")
    assert "'tiny-weak'" in packages_of(moving)
    shutil.copy(moving.packages / "tiny-odd.rpm", moving.path / "own.rpm")
    digest = hashlib.sha256((moving.path / "own.rpm").read_bytes()).hexdigest()
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}])
    done = moving.run(f"--lockfile={lock}")
    assert done.status == 3
    assert "tiny.lock.yaml does not match the treefile" in done.stderr


def test_update_moves_what_is_named_and_nothing_else(moving: Site, keys: Keys, tmp_path: Path) -> None:
    lock = moving.path / "tiny.lock.yaml"
    compose(moving, "lock", moving.treefile)
    release(moving, keys, tmp_path, "hello-lib")
    release(moving, keys, tmp_path, "tiny-release")
    before = lock.read_text()
    done = compose(moving, "lock", "update", moving.treefile, "hello-lib")
    assert "hello-lib 1.0-1 -> 2.0-1" in done.stdout
    assert "tiny-release" not in done.stdout
    changed = [
        (old, new) for old, new in zip(before.splitlines(), lock.read_text().splitlines(), strict=True) if old != new
    ]
    assert len([pair for pair in changed if "nevra" in pair[0]]) == 1
    assert "tiny-release 1-1 -> 2.0-1" in compose(moving, "lock", "update", moving.treefile).stdout
    done = compose(moving, "lock", "update", moving.treefile, "helo", status=2)
    assert "has no package helo" in done.stderr


UPDATEINFO = """<?xml version="1.0"?>
<updates>
<update type="security"><id>TINY-2026-1</id><title>t</title><severity>Critical</severity><issued date="2026-01-01 00:00:00"/>
<references><reference type="cve" id="CVE-2026-1" href="https://example.com/1" title="CVE-2026-1"/></references>
<pkglist><collection><package name="hello-lib" version="1.5" release="1" epoch="0" arch="noarch">
<filename>hello-lib-1.5.rpm</filename></package></collection></pkglist></update>
<update type="security"><id>TINY-2026-2</id><title>t</title><issued date="2026-01-01 00:00:00"/>
<pkglist><collection><package name="hello-lib" version="1.0" release="1" epoch="0" arch="noarch">
<filename>hello-lib-1.0.rpm</filename></package><package name="hello-lib" version="3.0" release="1" epoch="0" arch="noarch">
<filename>hello-lib-3.0.rpm</filename></package></collection></pkglist></update>
<update type="bugfix"><id>TINY-2026-3</id><title>t</title><issued date="2026-01-01 00:00:00"/>
<pkglist><collection><package name="tiny-release" version="2.0" release="1" epoch="0" arch="noarch">
<filename>tiny-release-2.0.rpm</filename></package></collection></pkglist></update>
</updates>
"""


def advise(site: Site, text: str) -> None:
    """Make this the repository's updateinfo, with metadata written anew."""
    (site.path / "updateinfo.xml").write_text(text)
    rpmrepo.index(site.packages)
    run("modifyrepo_c", str(site.path / "updateinfo.xml"), str(site.packages / "repodata"))


def advisories_of(site: Site, kind: str = "metadata") -> str:
    return site.ostree("show", REF, f"--print-{kind}-key=rpmostree.advisories")


def of_lock(site: Site, *flags: str) -> str:
    """Compose from the lockfile; returns the commit."""
    lock = site.path / "tiny.lock.yaml"
    site.compose(f"--lockfile={lock}", "--force-nocache", "--no-parent", *flags, SOURCE_DATE_EPOCH=str(EPOCH))
    return site.head()


def test_a_lock_has_the_advisories_of_its_builds(moving: Site, tmp_path: Path) -> None:
    """The commit is the same as one from the repositories at the time of the lock, whatever these list later."""
    lock = moving.path / "tiny.lock.yaml"
    # one that is in no repository, and so not among the locked packages
    shutil.move(moving.packages / "tiny-weak.rpm", moving.path / "own.rpm")
    digest = hashlib.sha256((moving.path / "own.rpm").read_bytes()).hexdigest()
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}])
    weak = (
        '<package name="tiny-weak" version="1" release="1" epoch="0" arch="noarch"><filename>w.rpm</filename></package>'
    )
    listed = UPDATEINFO.replace('"1.5"', '"1.0"').replace(
        "</package></collection>", f"</package>{weak}</collection>", 1
    )
    advise(moving, listed)
    moving.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    first, expected = moving.head(), advisories_of(moving)
    assert (expected.count("TINY-2026-"), expected.count("tiny-weak-1-1.noarch"), expected.count("CVE-")) == (2, 1, 1)
    compose(moving, "lock", moving.treefile)
    assert [line.strip() for line in lock.read_text().splitlines() if "TINY" in line] == [
        '- {"id": "TINY-2026-1", "severity": "critical", "packages": ["hello-lib-1.0-1.noarch", "tiny-weak-1-1.noarch"], '
        '"references": [{"url": "https://example.com/1", "title": "CVE-2026-1"}]}',
        '- {"id": "TINY-2026-2", "packages": ["hello-lib-1.0-1.noarch"]}',
    ]
    locked = lock.read_text()
    advise(moving, "<updates/>")
    assert of_lock(moving) == first
    # the record and a bundle have them from the lock
    compose(moving, "verify", first, f"--repo={moving.repo}", "--offline")
    compose(moving, "fetch", moving.treefile, f"--lockfile={lock}", f"--bundle={tmp_path}/all.tar")
    moving.ostree("refs", "--delete", REF)
    compose(moving, "tree", f"--bundle={tmp_path}/all.tar", f"--repo={moving.repo}", "--force-nocache")
    assert advisories_of(moving) == expected
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}], advisories_metadata="detached")
    of_lock(moving)
    assert advisories_of(moving, "detached-metadata") == expected
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}], advisories_metadata="disabled")
    of_lock(moving)
    assert "rpmostree.advisories" not in moving.ostree("show", "--raw", REF)
    moving.write_treefile(rpm_files=[{"path": "own.rpm", "sha256": digest}])
    # of a version that did not record them
    lock.write_text(re.sub(r"(?s)    advisories:.*", "", locked).replace("compose-lock: 2", "compose-lock: 1"))
    of_lock(moving)
    assert "rpmostree.advisories" not in moving.ostree("show", "--raw", REF)
    # of another build
    lock.write_text(locked.replace('["hello-lib-1.0-1.noarch"]', '["hello-lib-1.1-1.noarch"]'))
    done = moving.run(f"--lockfile={lock}")
    complaint = f"{lock}: the advisory 'TINY-2026-2' lists hello-lib-1.1-1.noarch, which is not among the packages"
    assert (done.status, complaint in done.stderr) == (2, True), done.stderr
    # --keep looks them up again
    compose(moving, "lock", "update", moving.treefile, "--keep")
    assert lock.read_text().endswith("    advisories: []\n")
    assert of_lock(moving) != first


def test_security_updates(moving: Site, keys: Keys, tmp_path: Path) -> None:
    lock = moving.path / "tiny.lock.yaml"
    words = ("lock", "update", moving.treefile)
    done = compose(moving, *words, "--security", status=2)
    assert "does not lock" in done.stderr and "hint: lock it first: compose lock " in done.stderr
    compose(moving, "lock", moving.treefile)
    assert compose(moving, *words, "--security", "--unchanged-exit-77", status=77).stdout == f"{lock}: no change\n"
    release(moving, keys, tmp_path, "hello-lib")
    release(moving, keys, tmp_path, "tiny-release")
    advise(moving, UPDATEINFO)
    before = lock.read_text()
    # the build that the advisory lists has been replaced by a later one; those before and after both are of no interest
    expected = [
        "hello-lib 1.0-1 -> 2.0-1 (noarch)",
        "fixes TINY-2026-1 (critical): hello-lib-1.5-1.noarch, CVE-2026-1",
    ]
    done = compose(moving, *words, "--security", "--dry-run", "--unchanged-exit-77")
    assert done.stdout.splitlines() == [*expected, f"{lock}: 1 package would change"]
    assert lock.read_text() == before
    assert compose(moving, *words, "--security").stdout.splitlines() == [*expected, f"{lock}: 1 package changed"]
    assert lock.read_text() != before
    compose(moving, *words, "--security", "--unchanged-exit-77", status=77)
    assert compose(moving, *words).stdout.splitlines() == [
        "tiny-release 1-1 -> 2.0-1 (noarch)",
        f"{lock}: 1 package changed",
    ]
    for other in ("--keep", "hello-lib"):
        assert "exclude each other" in compose(moving, *words, "--security", other, status=2).stderr


def test_diff(moving: Site, keys: Keys, tmp_path: Path) -> None:
    lock, old = moving.path / "tiny.lock.yaml", moving.path / "old.yaml"
    compose(moving, "lock", moving.treefile)
    shutil.copy(lock, old)
    assert compose(moving, "lock", "diff", old, lock).stdout == ""
    release(moving, keys, tmp_path)
    moving.write_treefile("tiny-weak")
    compose(moving, "lock", moving.treefile)
    arch = os.uname().machine
    assert compose(moving, "lock", "diff", old, lock).stdout.splitlines() == [
        f"{arch}: hello-lib 1.0-1 -> 2.0-1 (noarch)",
        f"{arch}: tiny-weak added 1-1 (noarch)",
    ]
    (found,) = json.loads(compose(moving, "lock", "diff", "--format=json", old, lock).stdout)
    assert found.pop("packages")[0] == {
        "name": "hello-lib",
        "arch": "noarch",
        "before": "hello-lib-1.0-1.noarch",
        "after": "hello-lib-2.0-1.noarch",
    }
    assert found == {"basearch": arch, "advisories_added": [], "advisories_gone": []}


def test_only_advisories_differ(moving: Site) -> None:
    lock, old = moving.path / "tiny.lock.yaml", moving.path / "old.yaml"
    compose(moving, "lock", moving.treefile)
    shutil.copy(lock, old)
    advise(moving, UPDATEINFO)
    line = "advisory added: TINY-2026-2: hello-lib-1.0-1.noarch"
    done = compose(moving, "lock", "update", moving.treefile, "--unchanged-exit-77")
    assert done.stdout.splitlines() == [line, f"{lock}: advisories changed"]
    compose(moving, "lock", "update", moving.treefile, "--unchanged-exit-77", status=77)
    arch = os.uname().machine
    assert compose(moving, "lock", "diff", old, lock).stdout == f"{arch}: {line}\n"
    assert compose(moving, "lock", "diff", lock, old).stdout == f"{arch}: {line.replace('added', 'gone')}\n"
    (found,) = json.loads(compose(moving, "lock", "diff", "--format=json", old, lock).stdout)
    assert [each["id"] for each in found["advisories_added"]] == ["TINY-2026-2"]


def test_rpm_ostrees_lockfile_is_written_and_read(moving: Site, keys: Keys, tmp_path: Path) -> None:
    written = moving.path / "lock.json"
    moving.compose("--dry-run", f"--ex-write-lockfile-to={written}")
    lock = json.loads(written.read_text())
    assert lock["packages"]["hello-lib"]["evra"] == "1.0-1.noarch"
    release(moving, keys, tmp_path)
    moving.compose(f"--ex-lockfile={written}")
    assert "('hello-lib', '0', '1.0'" in packages_of(moving)
    overrides = moving.path / "overrides.yaml"
    overrides.write_text("packages:\n  hello-lib:\n    evr: 2.0-1\n")
    moving.compose(f"--ex-lockfile={written}", f"--ex-lockfile={overrides}")
    assert "('hello-lib', '0', '2.0'" in packages_of(moving)


def test_a_locked_build_that_is_missing_counts_if_it_is_needed(moving: Site) -> None:
    lock = moving.path / "lock.json"
    moving.compose("--dry-run", f"--ex-write-lockfile-to={lock}")
    known = json.loads(lock.read_text())
    wrong = json.loads(lock.read_text())
    wrong["packages"]["absent"] = {"evra": "1-1.noarch"}
    lock.write_text(json.dumps(wrong))
    # of several lockfiles any may be the one that has it
    pins = moving.path / "pins.yaml"
    pins.write_text("packages: {hello: {evr: 1.0-1}}")
    for strict in ((), ("--ex-lockfile-strict",)):
        done = moving.run(f"--ex-lockfile={lock}", f"--ex-lockfile={pins}", *strict)
        assert done.status == 0
        assert f"warning: {lock}, {pins}: absent-1-1.noarch is in no enabled repository" in done.stderr
        known["packages"]["hello"]["digest"] = "sha256:" + "0" * 64
        pins.write_text(json.dumps(known))
        done = moving.run(f"--lockfile={pins}", *strict)
        assert (done.status, "the lockfile has sha256:0000" in done.stderr) == (3, True)
        pins.write_text("packages: {hello: {evr: 1.0-1}}")


def test_strict_takes_nothing_that_is_not_locked(moving: Site) -> None:
    lock = moving.path / "lock.json"
    moving.compose("--dry-run", f"--ex-write-lockfile-to={lock}")
    moving.compose(f"--lockfile={lock}", "--lockfile-strict")
    moving.write_treefile("tiny-weak")
    assert moving.run(f"--lockfile={lock}").status == 0
    done = moving.run(f"--lockfile={lock}", "--lockfile-strict")
    assert done.status == 3
    assert re.search(r"tiny-weak-1-1\.noarch is not locked in \S*lock\.json", done.stderr)


def test_a_dependency_that_is_not_locked(moving: Site) -> None:
    lock = moving.path / "lock.json"
    moving.compose("--dry-run", f"--ex-write-lockfile-to={lock}")
    known = json.loads(lock.read_text())
    del known["packages"]["hello-lib"]
    lock.write_text(json.dumps(known))
    done = moving.run(f"--lockfile={lock}", "--lockfile-strict")
    assert done.status == 3
    assert f"hello-lib-1.0-1.noarch (tiny) is not locked in {lock}" in done.stderr
    assert "leave out --lockfile-strict" in done.stderr
    moving.compose(f"--lockfile={lock}")


def test_lockfile_repos_are_for_locked_packages_only(moving: Site, tmp_path: Path) -> None:
    """Another repository, enabled by lockfile-repos: its hello-lib is taken because it is locked, its tiny-weak is not."""
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("hello-lib", "tiny-weak"):
        shutil.move(moving.packages / f"{name}.rpm", pool)
    rpmrepo.index(moving.packages)
    rpmrepo.index(pool)
    moving.write_repo(name="pool", baseurl=pool.as_uri())
    moving.write_treefile("tiny-odd", lockfile_repos=["pool"])
    assert moving.run().status == 3
    lock = moving.path / "lock.yaml"
    lock.write_text("packages:\n  hello-lib:\n    evra: 1.0-1.noarch\n")
    moving.compose(f"--lockfile={lock}")
    assert "'hello-lib'" in packages_of(moving)
    assert "'tiny-weak'" not in packages_of(moving)


@pytest.mark.parametrize("repos", [None, []])
def test_lockfile_repos_alone(moving: Site, repos: list[str] | None, tmp_path: Path) -> None:
    """If the treefile has no repos, only lockfile-repos are used, for locked packages alone; without a lockfile all are."""
    pool = tmp_path / "pool"
    shutil.copytree(moving.packages, pool)
    moving.write_repo(name="pool", baseurl=pool.as_uri())
    lock = moving.path / "lock.json"
    moving.write_treefile(repos=repos, lockfile_repos=["pool"])
    moving.compose("--dry-run", f"--ex-write-lockfile-to={lock}")
    shutil.rmtree(moving.packages / "repodata")
    assert moving.run().status == 4
    done = moving.run(f"--lockfile={lock}")
    assert (done.status, " packages from pool\n" in done.stderr) == (0, True), done.stderr
    known = json.loads(lock.read_text())
    del known["packages"]["hello-lib"]
    lock.write_text(json.dumps(known))
    done = moving.run(f"--lockfile={lock}")
    assert (done.status, "only locked packages are taken from repositories in lockfile-repos" in done.stderr) == (
        3,
        True,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("packages: []", "lock.yaml:1:1: packages must be a mapping"),
        ("compose-lock: 9", "lock.yaml:1:1: compose-lock: version 9 is not supported"),
        ("compose-lock: 1\narches: {}", "lock.yaml has no lock for"),
        ("{", "lock.yaml:1:2"),
    ],
)
def test_faults(site: Site, text: str, complaint: str) -> None:
    lock = site.path / "lock.yaml"
    lock.write_text(text)
    done = site.run(f"--lockfile={lock}")
    assert done.status == 2
    assert complaint in done.stderr

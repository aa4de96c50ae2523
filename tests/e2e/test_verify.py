"""`compose verify`: a commit is what its record makes, or every path that is not is named, with its writer and a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import BASE, REF, Done, Site
from tests.support.filesystem import mounted

pytestmark = pytest.mark.root
EXTENSIONS = "extensions/compose"


def compose(*words: str, **environment: str) -> Done:
    command = [sys.executable, "-m", "compose", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
    )
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def verify(site: Site, *words: str, commit: str = REF, cachedir: Path | None = None) -> Done:
    return compose("verify", commit, f"--repo={site.repo}", f"--cachedir={cachedir or site.cachedir}", *words)


@pytest.fixture
def gone(site: Site) -> Iterator[Path]:
    """The repository of packages is away during the test."""
    elsewhere = site.packages.with_name("elsewhere")
    site.packages.rename(elsewhere)
    yield elsewhere
    elsewhere.rename(site.packages)


def test_a_commit_is_what_its_record_makes(site: Site) -> None:
    (site.path / "motd").write_text("hello\n")
    (site.path / "more.yaml").write_text("add-files: [[motd, /usr/etc/motd]]\n")
    (site.path / "extra.json").write_text('{"example.number": 7}')
    site.write_treefile(include="more.yaml", automatic_version_prefix="1", add_commit_metadata={"example.text": "x"})
    site.compose(SOURCE_DATE_EPOCH="1750000000")
    flags = (
        "--force-nocache",
        "--add-metadata-string=example.flag=y",
        f"--add-metadata-from-json={site.path}/extra.json",
    )
    site.compose(*flags)
    # nothing that was beside the repository is needed
    for name in ("motd", "more.yaml", "extra.json", "tiny.yaml", "tiny.repo", "tiny.key"):
        (site.path / name).unlink()
    before, solved = site.snapshot(), sorted(os.listdir(site.cachedir / "solved"))
    for commit in (REF, f"{REF}^"):
        done = verify(site, commit=commit)
        assert done.status == 0, done.stdout + done.stderr
        assert ": reproduced" in done.stdout
    assert site.snapshot() == before
    # about files in a scratch directory nobody asks again
    assert sorted(os.listdir(site.cachedir / "solved")) == solved


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "tmpfs", "ramfs"])
def test_the_filesystem_of_the_cachedir_has_no_part_in_it(site: Site, kind: str, tmp_path: Path) -> None:
    site.compose()
    with mounted(kind, tmp_path / kind) as place:
        done = verify(site, cachedir=place / "cache")
    assert done.status == 0, done.stdout + done.stderr


def test_each_difference_has_a_writer_and_a_kind(site: Site) -> None:
    site.write_treefile("restless")
    site.compose()
    time.sleep(1)
    done = verify(site, "--format=json")
    assert done.status == 8, done.stdout + done.stderr
    assert "gives another commit" in done.stderr
    found = json.loads(done.stdout)
    assert not found["equal"]
    assert not found["inputs"]
    assert not found["metadata"]
    kinds = {os.path.basename(each["path"]): each["kind"] for each in found["paths"]}
    expected = {
        "time": "times", "binary-time": "times", "random": "random", "random-key": "random", "order": "order", "mode": None
    }  # fmt: skip
    assert kinds == expected
    changed = {os.path.basename(each["path"]): each["changed"] for each in found["paths"]}
    assert changed["mode"] == ["mode"]
    assert {each["writer"] for each in found["paths"]} == {"scriptlet:restless-1.0-1.noarch:%post"}
    told = verify(site)
    assert told.status == 8
    assert "~ /usr/share/restless/time (content" in told.stdout
    assert "differs in times only\n    written by %post of restless-1.0-1.noarch\n" in told.stdout


def test_another_treefile_makes_another_commit(site: Site) -> None:
    site.compose()
    other = site.write_treefile(name="other.yaml", packages=list(BASE), documentation=False)
    done = verify(site, str(other))
    assert done.status == 8
    assert "input treefile documentation: None -> false" in done.stdout
    assert "metadata rpmostree.inputhash: " in done.stdout
    assert "- /usr/share/doc/hello/README " in done.stdout
    found = events(verify(site, str(other), "--progress=json").stderr)
    assert [each["exit_code"] for each in found if each["event"] in ("result", "error")] == [8]
    assert verify(site, str(site.treefile)).status == 0


def test_packages_that_are_gone_are_named(site: Site, gone: Path, tmp_path: Path) -> None:
    del gone
    site.compose("--cache-only")
    done = verify(site, cachedir=tmp_path / "cold")
    assert done.status == 4
    for name in ("hello-1.0-1.noarch", "tiny-shell-1-1.x86_64"):
        assert f"{name} of repository 'tiny': " in done.stderr
    assert f"{site.packages.as_uri()}/hello.rpm" in done.stderr


def test_packages_that_are_gone_are_taken_from_a_bundle(site: Site, tmp_path: Path) -> None:
    bundle = tmp_path / "all.tar"
    assert compose("fetch", str(site.treefile), f"--bundle={bundle}", f"--cachedir={site.cachedir}").status == 0
    site.compose()
    elsewhere = site.packages.with_name("elsewhere")
    site.packages.rename(elsewhere)
    try:
        done = verify(site, f"--bundle={bundle}", cachedir=tmp_path / "cold")
    finally:
        elsewhere.rename(site.packages)
    assert done.status == 0, done.stderr


def test_in_each_kind_of_repository(composed: Site) -> None:
    assert verify(composed).status == 0


def test_a_commit_without_record(site: Site) -> None:
    site.compose()
    shutil.rmtree(site.repo / EXTENSIONS)
    done = verify(site)
    assert done.status == 1
    assert "has no records of" in done.stderr


def test_a_record_that_is_damaged(site: Site) -> None:
    site.compose()
    (record,) = (site.repo / EXTENSIONS).glob("*.sources.tar.zst")
    record.write_bytes(record.read_bytes()[:-50])
    done = verify(site)
    assert done.status in (1, 4)
    assert f"{record}" in done.stderr

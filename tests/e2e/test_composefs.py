"""The composefs digest of a commit, where the repository asks for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from compose.ostree.objects import COMPOSEFS_DIGEST as DIGEST
from compose.ostree.objects import decode_commit
from compose.pipeline.private import open_private
from tests.e2e.tiny import REF, Site
from tests.support import rpmrepo
from tests.support.imageimporter import import_image

pytestmark = pytest.mark.root
PROGRAM = "/usr/bin/mkcomposefs"
SEALED = "[composefs]\nenabled = signed\n"


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    assert shutil.which("mkcomposefs"), "tests/toolbox/toolbox.sh need mkcomposefs composefs composefs"


def digest_of(repo: Path, revision: str) -> str:
    return rpmrepo.run(
        "ostree", f"--repo={repo}", "show", "--print-hex", f"--print-metadata-key={DIGEST}", revision
    ).strip()


def expected(repo: Path, revision: str) -> str:
    """Of libostree."""
    how = ("--branch=theirs", "--timestamp=@0", "--generate-composefs-metadata")
    return digest_of(repo, rpmrepo.run("ostree", f"--repo={repo}", "commit", *how, f"--tree=ref={revision}").strip())


def ask(site: Site, value: str = "yes") -> None:
    site.ostree("config", "set", "ex-integrity.composefs", value)


def test_a_repository_that_asks_for_it(site: Site) -> None:
    site.compose()
    first = site.head()
    assert DIGEST not in site.ostree("show", "--list-metadata-keys", first)
    ask(site)
    # nothing else is new
    site.compose()
    second = site.head()
    assert second != first
    assert digest_of(site.repo, second) == expected(site.repo, second)
    site.compose()
    assert site.head() == second
    site.ostree("fsck")
    for commit in (first, second):
        site.tool("verify", commit, f"--repo={site.repo}", f"--cachedir={site.cachedir}")


def test_a_root_directory(site: Site) -> None:
    ask(site, "maybe")
    site.tool("install", site.treefile, site.path / "made", f"--cachedir={site.cachedir}")
    where = (f"--repo={site.repo}", f"--cachedir={site.cachedir}")
    site.tool("commit", site.treefile, site.path / "made/rootfs", *where)
    assert digest_of(site.repo, REF) == expected(site.repo, REF)


def test_an_image(site: Site, tmp_path: Path) -> None:
    site = replace(site, cachedir=tmp_path / "cache")
    site.cachedir.mkdir(mode=0o700)
    with open_private(str(site.cachedir / "image-repo")) as repo:
        rpmrepo.run("ostree", f"--repo={repo.path}", "config", "set", "ex-integrity.composefs", "true")
    flags = ("--format=oci", "--initialize", f"--cachedir={site.cachedir}")
    site.tool("image", site.treefile, tmp_path / "image", *flags)
    manifest = json.loads((tmp_path / "image/index.json").read_text())["manifests"][0]["digest"]
    config = json.loads((tmp_path / "image/blobs/sha256" / manifest.removeprefix("sha256:")).read_text())["config"]
    labels = json.loads((tmp_path / "image/blobs/sha256" / config["digest"].removeprefix("sha256:")).read_text())
    commit = labels["config"]["Labels"]["ostree.commit"]
    repo_path = site.cachedir / "image-repo"
    assert digest_of(repo_path, commit) == expected(repo_path, commit)


@pytest.mark.parametrize("asked", [True, False])
def test_an_image_that_is_made_anew(asked: bool, site: Site, tmp_path: Path) -> None:
    """Its commit has a digest when the one before had."""
    if asked:
        ask(site)
    site.compose()
    site.tool("container-encapsulate", f"--repo={site.repo}", REF, f"oci:{tmp_path}/image")

    def again(source: str, output: str) -> bytes | None:
        where = (f"--from=oci:{tmp_path}/{source}", f"--output=oci:{tmp_path}/{output}", f"--cachedir={site.cachedir}")
        site.tool("build-chunked-oci", "--bootc", *where)
        found = import_image(tmp_path / output)
        assert found.commit != site.head()
        return decode_commit(found.metadata[(found.commit, "commit")]).get(DIGEST)

    first = again("image", "first")
    assert len(first or b"") == 32 * asked
    # the first time what containers have beside the commit was new
    assert again("first", "second") == first


def test_a_sealed_system_without_one_is_told(site: Site) -> None:
    (site.path / "prepare-root.conf").write_text(SEALED)
    site.write_treefile(**{"add-files": [["prepare-root.conf", "/usr/lib/ostree/prepare-root.conf"]]})
    assert "[composefs-digest]" in site.run().stderr
    assert "composefs-digest" in site.tool("lint", REF, f"--repo={site.repo}").stdout
    ask(site)
    assert "composefs-digest" not in site.run().stderr
    assert "composefs-digest" not in site.tool("lint", REF, f"--repo={site.repo}").stdout


def test_without_the_program_nothing_is_begun(site: Site) -> None:
    ask(site)
    site.write_treefile("conflict-a")
    before = site.snapshot()
    hidden = ("unshare", "--mount", "sh", "-c", f'mount --bind /dev/null {PROGRAM}; exec "$@"', "sh")
    done = subprocess.run([*hidden, *site.command()], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mkcomposefs is not installed" in done.stderr
    assert "install the package composefs" in done.stderr
    assert "packages from" not in done.stdout + done.stderr
    assert site.snapshot() == before

"""What belongs to which package of a commit, in each kind of repository, and in which layer the next build finds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compose.errors import ImageError, RepositoryError
from compose.events import Reporter
from compose.oci.chunking import PreviousLayers, plan_layers
from compose.oci.contentmeta import UNPACKAGED, ContentMeta, read_content_meta, read_files
from compose.ostree.repo import Repo
from tests.e2e.tiny import REF, Site, release
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root


def read(site: Site, revision: str = REF) -> ContentMeta:
    with Repo.open(str(site.repo)) as repo:
        return read_content_meta(repo, repo.resolve(revision) or "", Reporter())


def paths(site: Site) -> dict[str, set[str]]:
    """By name of their owner."""
    with Repo.open(str(site.repo)) as repo:
        files = read_files(repo, repo.resolve(REF) or "", Reporter())
    owners = {checksum: each.name for each in read(site).components for checksum in each.objects}
    found: dict[str, set[str]] = {}
    for path, checksum in files.paths.items():
        found.setdefault(owners[checksum], set()).add(path)
    return found


def test_files_belong_to_packages(composed: Site) -> None:
    found = paths(composed)
    assert found["hello"] == {
        *(f"usr/bin/hello{kind}" for kind in ("", "-setuid", "-capable")),
        *(f"usr/share/hello/{name}" for name in ("one", "two", "link", "grüße", "private", "made-by-post")),
        "usr/etc/hello.conf", "usr/share/doc/hello/README",
    }  # fmt: skip
    assert found["hello-lib"] == {"usr/share/hello-lib"}
    assert "usr/lib/modules/6.1.0-tiny/vmlinuz" in found["tiny-kernel"]
    assert {"usr/share/rpm/rpmdb.sqlite", "usr/lib/passwd", "opt"} <= found[UNPACKAGED]
    # as the real ostree has them
    listed = [line.split(maxsplit=5) for line in composed.ostree("ls", "-R", "-C", REF).splitlines()]
    sizes = {words[4]: int(words[3]) for words in listed if words[0].startswith("-")}
    content = read(composed)
    assert {name: size for name, size in content.sizes.items() if name in sizes} == sizes
    assert {each for component in content.components for each in component.objects} == content.sizes.keys()
    assert sum(each.size for each in content.components) == sum(sizes.values())


def test_one_package_more_recent_is_one_layer(moving: Site, keys: Keys, tmp_path: Path) -> None:
    moving.compose()
    spec = (Path(__file__).parents[1] / "specs/hello-lib.spec").read_text()
    release(moving, keys, tmp_path, "hello-lib", "2.0", spec=spec.replace("'hello-lib'", "'newer'"))
    moving.compose()
    one, other = plan_layers(read(moving, f"{REF}^")), read(moving)
    kept = plan_layers(other, previous=PreviousLayers(layers=tuple(each.components for each in one)))
    before = {each.objects for each in one}
    assert {each.components for each in kept if each.objects not in before} == {("hello-lib",), (UNPACKAGED,)}


def test_a_commit_without_packages(site: Site, tmp_path: Path) -> None:
    tree = tmp_path / "tree/usr/share"
    tree.mkdir(parents=True)
    site.ostree("commit", "--branch=x", f"--tree=dir={tmp_path}/tree")
    with pytest.raises(ImageError, match="has no packages"):
        read(site, "x")
    (tree / "rpm").mkdir()
    (tree / "rpm/rpmdb.sqlite").write_bytes(b"none")
    site.ostree("commit", "--branch=x", f"--tree=dir={tmp_path}/tree")
    with pytest.raises(RepositoryError, match=r"the rpm database cannot be read"):
        read(site, "x")


def test_a_database_that_holds_none(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "tree/usr/share/rpm"
    place.mkdir(parents=True)
    subprocess.run(["rpmdb", f"--dbpath={place}", "--define", "_db_backend sqlite", "--initdb"], check=True)
    site.ostree("commit", "--branch=x", f"--tree=dir={tmp_path}/tree")
    with pytest.raises(ImageError, match="has no packages"):
        read(site, "x")

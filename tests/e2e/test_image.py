"""`compose image`: from a treefile to a container image, followed by the next one; skopeo and a registry are judges."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compose.ostree.config import Mode
from compose.pipeline.private import open_private
from tests.e2e.tiny import Done, Site, release
from tests.support import rpmrepo
from tests.support.imageimporter import import_image
from tests.support.registry import serve

pytestmark = pytest.mark.root

needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


def image(site: Site, output: object, *flags: str, status: int = 0, **environment: str) -> Done:
    return site.tool(
        *("image", site.treefile, str(output), f"--cachedir={site.cachedir}", *flags), status=status, **environment
    )


def newer(site: Site, keys: rpmrepo.Keys, tmp_path: Path, version: str = "2.0") -> None:
    """The repository gets another build of a package, with other content."""
    spec = (Path(__file__).parents[1] / "specs/hello-lib.spec").read_text().replace("'hello-lib'", f"'{version}'")
    release(site, keys, tmp_path, "hello-lib", version, spec=spec)


class Layout:
    def __init__(self, path: Path) -> None:
        self.path = path

    def blob(self, digest: str) -> dict[str, Any]:
        return json.loads((self.path / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())

    def manifest(self, tag: str | None = None) -> dict[str, Any]:
        rows = json.loads((self.path / "index.json").read_text())["manifests"]
        (row,) = [
            row for row in rows if row.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag
        ]  # fmt: skip
        return self.blob(row["digest"])

    def labels(self, tag: str | None = None) -> dict[str, str]:
        return self.blob(self.manifest(tag)["config"]["digest"])["config"]["Labels"]


def components(manifest: dict[str, Any]) -> list[str]:
    return [each["annotations"]["ostree.components"] for each in manifest["layers"][1:]]


def test_scratch_is_in_the_cachedir(site: Site) -> None:
    """Where the next compose removes what a killed one left."""
    program = (
        "from compose import cli, scratch; real = scratch.temporary_directory\n"
        "scratch.temporary_directory = lambda prefix, place=None: real(prefix, place or '/nonexistent')\n"
        "raise SystemExit(cli.program())"
    )
    words = ["image", str(site.treefile), str(site.path / "image"), "--format=oci", "--initialize"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, f"--cachedir={site.cachedir}"],
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_an_image_is_followed(moving: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    moving.write_treefile(automatic_version_prefix="1")
    out = moving.path / "image"
    first = image(moving, out, "--format=oci", "--initialize", "--label=a=b")
    assert f"Wrote: oci:{out}" in first.stdout
    assert "version: 1\n" in first.stdout
    layout = Layout(out)
    before, labels = layout.manifest(), layout.labels()
    assert import_image(out).commit == labels["ostree.commit"]
    assert labels["a"] == "b"
    assert f"commit: {labels['ostree.commit']}" in first.stdout
    # nothing new: nothing is made or touched
    touched = moving.path / "touched"
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = image(moving, out, "--format=oci", f"--touch-if-changed={touched}", "--unchanged-exit-77", status=77)
    assert again.stdout.startswith("No apparent changes")
    assert files == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert not touched.exists()
    # a package changes, and one comes
    newer(moving, keys, tmp_path)
    moving.write_treefile("tiny-odd", automatic_version_prefix="1")
    second = image(moving, out, "--format=oci", f"--touch-if-changed={touched}")
    assert touched.exists()
    assert "version: 1.1\n" in second.stdout
    assert import_image(out).commit == layout.labels()["ostree.commit"]
    after = layout.manifest()
    assert components(after)[:-1] == components(before)[:-1]
    assert set(components(after)[-1].split(",")) == {"tiny-odd", "tiny-weak"}
    assert components(before)[-1] == ""
    kept = {each["digest"] for each in before["layers"]} & {each["digest"] for each in after["layers"]}
    # new: the commit, what no package brought, hello-lib, and what is new
    assert len(kept) == len(after["layers"]) - 4
    assert f"Added layers:     {len(after['layers']) - len(kept)} " in second.stdout
    assert layout.labels()["ostree.commit"] != labels["ostree.commit"]


@pytest.mark.parametrize("form", ["oci", "ociarchive"])
def test_layers_that_are_the_same_are_not_compressed_again(
    moving: Site, keys: rpmrepo.Keys, tmp_path: Path, form: str
) -> None:
    moving.write_treefile()
    out = moving.path / "image"
    image(moving, out, "--format=oci", "--initialize")
    manifest = Layout(out).manifest()
    index = json.loads((out / "index.json").read_text())

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (out / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def layer_of(name: str) -> int:
        return next(number for number, each in enumerate(components(manifest), 1) if name in each.split(","))

    def plain(number: int) -> bytes:
        digest = manifest["layers"][number]["digest"].removeprefix("sha256:")
        return gzip.decompress((out / "blobs/sha256" / digest).read_bytes())

    # the same layer as another codec compresses it; another that is not what the configuration says
    kept, false, damaged = (layer_of(name) for name in ("tiny-shell", "tiny-release", "tiny-kernel"))
    assert len({kept, false, damaged, layer_of("hello-lib")}) == 4
    rows = dict(enumerate(manifest["layers"]))
    rows[kept] |= put(gzip.compress(plain(kept), 1, mtime=1))
    rows[false] |= put(gzip.compress(plain(false) + bytes(512), mtime=0))
    rows[damaged] |= put(gzip.compress(plain(damaged), 1, mtime=1))
    index["manifests"] = [index["manifests"][0] | put(json.dumps(manifest | {"layers": list(rows.values())}).encode())]
    (out / "index.json").write_text(json.dumps(index))
    (out / "blobs/sha256" / rows[damaged]["digest"].removeprefix("sha256:")).write_bytes(b"\x1f\x8b")
    old = {number: rows[number]["digest"] for number in rows}
    if form == "ociarchive":
        rpmrepo.run("tar", "-C", str(out), "-cf", f"{out}.tar", ".")
        shutil.rmtree(out)
        os.rename(f"{out}.tar", out)
    newer(moving, keys, tmp_path)
    done = image(moving, out, f"--format={form}")
    if form == "ociarchive":
        os.rename(out, f"{out}.tar")
        out.mkdir()
        rpmrepo.run("tar", "-C", str(out), "-xf", f"{out}.tar")
    assert import_image(out).commit == Layout(out).labels()["ostree.commit"]
    after = [each["digest"] for each in Layout(out).manifest()["layers"]]
    assert after[kept] == old[kept]
    assert after[layer_of("hello-lib")] != old[layer_of("hello-lib")]
    assert after[false] not in old.values() and after[damaged] not in old.values()
    assert "Added layers:" in done.stdout


def test_the_same_image_whatever_the_cache_has(moving: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    # ids as the treefile has them
    moving.write_treefile(id_lock="ids.yaml")
    (moving.path / "ids.yaml").write_text("compose-ids: 1\nusers: {hello: 700}\ngroups: {hello: 700}\n")
    out, other = moving.path / "one.ociarchive", moving.path / "other.ociarchive"
    image(moving, out, "-i", "--accept-new-ids")
    shutil.copy(out, other)
    newer(moving, keys, tmp_path)
    assert "in the cachedir" not in image(moving, out).stderr
    done = image(moving, other, f"--cachedir={tmp_path}/elsewhere")
    assert "The commit of the previous image is not in the cachedir" in done.stderr
    assert out.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("form", ["oci", "ociarchive"])
def test_when_there_is_to_be_an_image(site: Site, form: str) -> None:
    out = site.path / "out"
    format_of = f"--format={form}"
    missing = image(site, out, format_of, status=1)
    assert "there is no image yet" in missing.stderr
    assert "--initialize" in missing.stderr
    assert not out.exists()
    image(site, out, format_of, "--initialize-mode=if-not-exists")
    assert "No apparent changes" in image(site, out, format_of).stdout
    assert "No apparent changes" in image(site, out, format_of, "--initialize-mode=if-not-exists").stdout
    there = image(site, out, format_of, "--initialize-mode=never", status=1)
    assert "there is an image already" in there.stderr
    for flag in ("--initialize-mode=always", "--force-nocache") if form == "oci" else ():
        assert "Wrote: " in image(site, out, format_of, flag).stdout


def test_tags_of_a_layout_are_images_apart(site: Site) -> None:
    out = site.path / "out"
    image(site, f"{out}:one", "--format=oci", "-i")
    assert "there is no image yet" in image(site, f"{out}:two", "--format=oci", status=1).stderr
    image(site, f"{out}:two", "--format=oci", "--initialize-mode=never", "--label=x=y")
    assert Layout(out).labels("two")["x"] == "y"
    assert "x" not in Layout(out).labels("one")
    assert "No apparent changes" in image(site, f"{out}:one", "--format=oci").stdout


def test_what_is_no_image_of_ours(site: Site, tmp_path: Path) -> None:
    out = site.path / "out"
    image(site, out, "--format=oci", "-i")
    index = json.loads((out / "index.json").read_text())
    manifest = Layout(out).manifest()
    config = Layout(out).blob(manifest["config"]["digest"])

    def put(document: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(document).encode()
        path = tmp_path / "blob"
        path.write_bytes(data)
        digest = rpmrepo.run("sha256sum", str(path)).split()[0]
        shutil.copy(path, out / "blobs/sha256" / digest)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def become(**changes: Any) -> None:
        index["manifests"] = [index["manifests"][0] | put(manifest | changes)]
        (out / "index.json").write_text(json.dumps(index))

    # somebody built upon it: its structure cannot be kept, and it is followed all the same
    become(layers=[*manifest["layers"], {**manifest["layers"][1], "annotations": {}}])
    done = image(site, out, "--format=oci", "--force-nocache")
    assert "the layer structure is not kept" in done.stderr
    assert "Removed layers:" in done.stdout
    # made by something else
    become(config={**manifest["config"], **put({**config, "config": {}})})
    done = image(site, out, "--format=oci", status=1)
    assert "has no label rpmostree.inputhash" in done.stderr
    assert "--initialize-mode=always" in done.stderr
    # damaged
    (out / "blobs/sha256" / manifest["config"]["digest"].removeprefix("sha256:")).write_text("{")
    become()
    assert "damaged" in image(site, out, "--format=oci", status=1).stderr
    image(site, out, "--format=oci", "-i")


def test_a_damaged_archive(site: Site) -> None:
    """An image's configuration decides whether anything is new, so it must match its digest."""
    out = site.path / "out"
    image(site, out, "-i")
    data = out.read_bytes()
    place = data.index(b'"rpmostree.inputhash":"')
    out.write_bytes(data[: place + 23] + b"0000" + data[place + 27 :])
    done = image(site, out, status=1)
    assert "is damaged" in done.stderr
    image(site, out, "-i")


def test_the_repository_of_images_is_opened_by_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.setxattr

    def other(path: str, name: str, value: bytes) -> None:
        real(path, name, value)
        os.removexattr(path, name)

    monkeypatch.setattr(os, "setxattr", other)
    with open_private(str(tmp_path / "repo")) as repo:
        assert repo.config.mode is Mode.BARE_USER


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--initialize", "--initialize-mode=never"], "exclude each other"),
        (["--lockfile-strict"], "needs a --lockfile"),
        (["--label=x"], "expected KEY=VALUE"),
        (["--image-config=nowhere.json"], "nowhere.json"),
        (["--max-layers=0"], "--max-layers"),
    ],
)
def test_wrong_flags(site: Site, flags: list[str], complaint: str) -> None:
    done = image(site, site.path / "out", *flags, status=2)
    assert complaint in done.stderr
    assert not (site.path / "out").exists()


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("ociarchive", "oci-archive:x"),
        ("ociarchive", "docker://example.com/x"),
        ("registry", "registry:example.com/x"),
        ("registry", "docker://example.com:5000/x"),
        ("oci", "oci:x"),
    ],
)
def test_output_is_no_reference(site: Site, form: str, output: str) -> None:
    assert "--format" in image(site, output, f"--format={form}", "-i", status=2).stderr


def test_names_that_look_like_references(site: Site) -> None:
    place = site.path / "oci"
    image(site, f"{place}:x", "--format=oci", "-i")
    assert Layout(place).labels("x")


@needs_skopeo
def test_a_host_that_is_called_registry(site: Site) -> None:
    done = image(site, "registry:1/tiny", "--format=registry", "--initialize-mode=if-not-exists", status=1)
    assert "cannot read the manifest of registry:registry:1/tiny" in done.stderr


def test_a_place_that_takes_no_image(site: Site, tmp_path: Path) -> None:
    done = image(site, tmp_path / "nowhere/out", "-i", status=1)
    assert "nowhere" in done.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    done = image(site, tmp_path / "full", "-i", "--format=oci", status=2)
    assert "neither empty nor an OCI layout" in done.stderr
    # before anything is composed, or left there
    assert "packages from" not in done.stderr
    image(site, tmp_path / "nowhere/out", "-i", "--format=oci", status=2)
    (tmp_path / "empty").mkdir()
    assert "there is no image yet" in image(site, tmp_path / "empty", "--format=oci", status=1).stderr
    assert not list((tmp_path / "empty").iterdir())


def test_a_failed_compose_leaves_the_image(site: Site) -> None:
    out = site.path / "out"
    image(site, out, "-i")
    before = out.read_bytes()
    site.write_treefile("failing-post")
    image(site, out, status=6)
    assert out.read_bytes() == before
    assert sorted(path.name for path in site.path.iterdir() if "out" in path.name) == ["out"]


def test_what_comes_of_it_for_programs(site: Site) -> None:
    out = site.path / "out"
    files = (f"--write-composejson-to={site.path}/compose.json", f"--digestfile={site.path}/digest")
    done = image(site, out, "-i", "--progress=json", *files)
    (result,) = [row for row in map(json.loads, done.stderr.splitlines()) if row["event"] == "result"]
    assert (result["outcome"], result["image"]) == ("committed", f"oci-archive:{out}")
    assert f"digest: {result['image_digest']}" in done.stdout
    assert (site.path / "digest").read_text() == result["image_digest"]
    assert json.loads((site.path / "compose.json").read_text())["ostree-commit"] == result["commit"]


def test_its_commits_count_in_the_cache(site: Site, tmp_path: Path) -> None:
    cache = f"--cachedir={tmp_path}/own"
    image(site, site.path / "out", "-i", cache)
    assert "repositories of images" in site.tool("cache", "show", cache).stdout
    site.tool("cache", "gc", "--max-size=0", cache)
    assert not (tmp_path / "own/image-repo").exists()
    image(site, site.path / "out", cache, "--force-nocache")


def test_an_object_in_the_cache_that_is_damaged(site: Site, tmp_path: Path) -> None:
    cache = f"--cachedir={tmp_path}/own"
    image(site, site.path / "out", "-i", cache)
    repo = tmp_path / "own/image-repo"
    listed = rpmrepo.run("ostree", f"--repo={repo}", "ls", "-C", "--", *_commits(repo), "/usr/share/hello-lib")
    checksum = listed.split()[4]
    (repo / "objects" / checksum[:2] / f"{checksum[2:]}.file").write_text("damage")
    done = image(site, site.path / "out", "--force-nocache", cache, status=1)
    assert f"{checksum}.file is damaged" in done.stderr
    assert f"remove {repo}" in done.stderr
    shutil.rmtree(repo)
    image(site, site.path / "out", "--force-nocache", cache)


def _commits(repo: Path) -> list[str]:
    return [path.parent.name + path.stem for path in repo.glob("objects/*/*.commit")]


@needs_skopeo
def test_skopeo_reads_it(site: Site, tmp_path: Path) -> None:
    out = site.path / "out.ociarchive"
    image(site, out, "-i")
    shown = json.loads(rpmrepo.run("skopeo", "inspect", f"oci-archive:{out}"))
    assert shown["Labels"]["rpmostree.inputhash"]
    rpmrepo.run("skopeo", "--insecure-policy", "copy", "--quiet", f"oci-archive:{out}", f"dir:{tmp_path}/dir")


@needs_skopeo
def test_a_registry(moving: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    with serve(tmp_path) as (place, home):
        environment = {"HOME": str(home)}
        where, form = f"{place}/tiny/os:main", "--format=registry"
        missing = image(moving, where, form, status=1, **environment)
        assert "there is no image yet" in missing.stderr
        first = image(moving, where, form, "--initialize-mode=if-not-exists", "--copy-retry-times=1", **environment)
        digest = first.stdout.rsplit("digest: ", 1)[1].strip()
        shown = json.loads(
            subprocess.run(
                ["skopeo", "inspect", f"docker://{where}"], env=os.environ | environment, stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )  # fmt: skip
        assert shown["Digest"] == digest
        assert "No apparent changes" in image(moving, where, form, **environment).stdout
        newer(moving, keys, tmp_path)
        second = image(moving, where, form, **environment)
        assert "Added layers:     3 " in second.stdout
        # what is not there is not the same as what cannot be asked for
        refused = image(
            moving, f"127.0.0.1:1/x:{form}", form, "--initialize-mode=if-not-exists", status=1, **environment
        )
        assert "skopeo exited with" in refused.stderr

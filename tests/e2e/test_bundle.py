"""Bundles: everything a compose needs in one file, and the same commit made from it without network."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from compose.bundle import Source, unpack, write
from tests.e2e.test_verify import compose, verify
from tests.e2e.tiny import BASE, REF, Done, Site
from tests.support import rpmrepo

pytestmark = pytest.mark.root


def fetch(site: Site, bundle: Path, *words: str, treefile: Path | None = None) -> Done:
    return compose("fetch", str(treefile or site.treefile), f"--bundle={bundle}", f"--cachedir={site.cachedir}", *words)


def compose_offline(site: Site, bundle: Path, cachedir: Path) -> Done:
    command = [
        "unshare",
        "--net",
        *site.command("--offline", f"--bundle={bundle}", "--write-commitid-to", f"{bundle}.id"),
    ]
    command = [each for each in command if each != str(site.treefile)]
    command[command.index(f"--cachedir={site.cachedir}")] = f"--cachedir={cachedir}"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_the_same_commit_without_network_and_packages(site: Site, tmp_path: Path) -> None:
    below = site.path / "shared"
    below.mkdir()
    (below / "motd").write_text("hello\n")
    (below / "base.yaml").write_text("add-files: [[motd, /usr/etc/motd]]\n")
    (site.path / "last.sh").write_text("#!/usr/bin/sh\necho last >>/usr/share/last\n")
    (site.path / "last.sh").chmod(0o775)
    (site.path / "vars").mkdir()
    repo = site.path / "tiny.repo"
    repo.write_text(repo.read_text() + "username=me\npassword=secret\n")
    site.write_treefile(include="shared/base.yaml", postprocess_script="last.sh", repovars={"unused": "x"})
    bundle = tmp_path / "all.tar"
    done = fetch(site, bundle)
    assert done.status == 0, done.stderr
    first = bundle.read_bytes()
    assert b"secret" not in first
    assert fetch(site, bundle).status == 0
    assert bundle.read_bytes() == first
    site.compose()
    expected = site.head()
    site.ostree("refs", "--delete", "tiny")
    # all that it was made of is gone
    elsewhere = site.packages.with_name("elsewhere")
    site.packages.rename(elsewhere)
    try:
        done = compose_offline(site, bundle, tmp_path / "cold")
    finally:
        elsewhere.rename(site.packages)
    assert done.status == 0, done.stderr
    assert Path(f"{bundle}.id").read_text() == expected
    # by places that are found in the bundle
    done = compose("blame", "/usr/bin/sh", f"--repo={site.repo}", f"--ref={expected}")
    assert ", requested at treefile/tiny.yaml:" in done.stdout


def test_what_is_in_it(site: Site, tmp_path: Path) -> None:
    bundle = tmp_path / "all.tar"
    lock = site.path / "tiny.lock.yaml"
    assert compose("lock", str(site.treefile), f"--cachedir={site.cachedir}").status == 0
    assert fetch(site, bundle, f"--lockfile={lock}").status == 0
    with tarfile.open(bundle) as tar:
        names = tar.getnames()
        assert tar.extractfile("compose.lock.yaml").read() == lock.read_bytes()  # type: ignore[union-attr]
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        assert {(each.mtime, each.uid, each.uname) for each in tar} == {(0, 0, "")}
    assert [each["path"] for each in index["files"]] == names[1:] == sorted(names[1:])
    assert {"treefile/tiny.yaml", "root/etc/yum.repos.d/compose.repo", "root/keys/tiny-0.asc"} <= set(names)
    assert len([name for name in names if name.startswith("rpms/")]) == len(BASE) + 1


def test_a_bundle_of_a_version_with_advisories_beside_the_lock(site: Site, tmp_path: Path) -> None:
    path, unpacked = tmp_path / "all.tar", tmp_path / "unpacked"
    assert fetch(site, path).status == 0
    unpacked.mkdir()
    with path.open("rb") as stream:
        index = unpack(stream, "x", str(unpacked))
    files = {each.path: Source(path=str(unpacked / each.path)) for each in index.members}
    lock = (unpacked / "compose.lock.yaml").read_text()
    lock = lock.replace("compose-lock: 2", "compose-lock: 1").replace("    advisories: []\n", "")
    advisory = {"id": "TINY-1", "severity": "low", "packages": ["hello-1.0-1.noarch"], "references": []}
    with path.open("wb") as stream:
        write(
            stream,
            files | {"compose.lock.yaml": Source(data=lock.encode())},
            {**index.facts, "advisories": [advisory]},
        )
    done = compose_offline(site, path, tmp_path / "cold")
    assert done.status == 0, done.stderr
    commit = Path(f"{path}.id").read_text()
    told = site.ostree("show", commit, "--print-metadata-key=rpmostree.advisories")
    assert "('TINY-1', uint32 1, uint32 1, ['hello-1.0-1.noarch'], @a{sv} {})" in " ".join(told.split()), told


def test_a_package_that_was_exchanged_is_refused(site: Site, tmp_path: Path) -> None:
    """Matching digests in a bundle do not make it trusted: packages are verified against the lock and their keys."""
    bundle = tmp_path / "all.tar"
    assert fetch(site, bundle).status == 0
    data = bundle.read_bytes()
    with tarfile.open(bundle) as tar:
        member = next(each for each in tar if each.name.endswith("/hello.rpm"))
        other = next(each for each in tar if each.name.endswith("/tiny-release.rpm"))
    bundle.write_bytes(data[: member.offset_data + 5000] + b"?" + data[member.offset_data + 5001 :])
    done = compose_offline(site, bundle, tmp_path / "cold")
    assert done.status == 4
    assert f"{member.name} is damaged" in done.stderr
    bundle.write_bytes(data[: other.offset_data - 600])
    done = compose_offline(site, bundle, tmp_path / "cold")
    assert done.status == 4
    assert "is truncated" in done.stderr


def test_a_treefile_that_names_files_by_absolute_paths(site: Site, tmp_path: Path) -> None:
    (site.path / "motd").write_text("hello\n")
    site.write_treefile(add_files=[[str(site.path / "motd"), "/usr/etc/motd"]])
    done = fetch(site, tmp_path / "all.tar")
    assert done.status == 2
    assert "the treefile cannot be relocated" in done.stderr
    assert not (tmp_path / "all.tar").exists()
    # no reason not to compose
    done = site.run()
    assert done.status == 0
    assert "compose verify will not work for this commit" in done.stderr


@pytest.mark.parametrize("mode", ["archive", "bare-user", "bare"])
def test_layers_are_in_it(site: Site, tmp_path: Path, mode: str) -> None:
    """The commit records the layers it was made from, whatever their refs point to later."""
    layers, tree = tmp_path / "layers", tmp_path / "tree"
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/extra").write_text("extra\n")
    (tree / "usr/share/link").symlink_to("extra")
    (tree / "usr/share/odd").write_text("odd\n")
    os.chown(tree / "usr/share/odd", 700, 700)
    (tree / "usr/share/odd").chmod(0o4750)

    def ostree(*words: str) -> str:
        return rpmrepo.run("ostree", f"--repo={layers}", *words).strip()

    ostree("init", f"--mode={mode}")
    taken = ostree("commit", "--branch=layer/extra", f"--tree=dir={tree}")
    site.write_treefile(ostree_layers=["layer/extra"])
    bundle = tmp_path / "all.tar"
    where = f"--layer-repo={layers}"
    assert fetch(site, bundle, where).status == 0
    site.compose(where)
    expected = site.head()
    assert "-04750 700 700" in site.ostree("ls", REF, "/usr/share/odd")
    site.ostree("refs", "--delete", "tiny")
    layers.rename(tmp_path / "away")
    done = compose_offline(site, bundle, tmp_path / "cold")
    assert done.status == 0, done.stderr
    assert Path(f"{bundle}.id").read_text() == expected
    done = verify(site, commit=expected)
    assert done.status == 2
    assert f"has no commit layer/extra as of {taken}" in done.stderr
    assert "--layer-repo" in done.stderr
    assert verify(site, f"--bundle={bundle}", commit=expected).status == 0
    (tmp_path / "away").rename(layers)
    (tree / "usr/share/extra").write_text("later\n")
    ostree("commit", "--branch=layer/extra", f"--tree=dir={tree}")
    assert verify(site, where, commit=expected).status == 0


def test_wrong_use(site: Site, tmp_path: Path) -> None:
    (tmp_path / "none.tar").write_bytes(b"not a tar" * 100)
    done = compose("tree", f"--bundle={tmp_path}/none.tar", f"--cachedir={site.cachedir}", f"--repo={site.repo}")
    assert done.status == 4
    assert "is not a bundle of compose" in done.stderr
    done = compose("tree", f"--bundle={tmp_path}/missing.tar", f"--cachedir={site.cachedir}", f"--repo={site.repo}")
    assert done.status == 2
    assert "No such file" in done.stderr
    assert compose("tree").status == 2
    assert compose("tree", str(site.treefile), f"--bundle={tmp_path}/none.tar").status == 2

"""`compose extensions`: packages for a composed tree, with dnf5 on a checkout of it as judge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site, release
from tests.support import rpmrepo

pytestmark = pytest.mark.root

_SPEC = """\
Name: {name}
Version: 1
Release: 1
Summary: x
License: MIT
BuildArch: noarch
AutoReqProv: no
{more}
%description
x
%files
"""


@pytest.fixture
def based(moving: Site, keys: rpmrepo.Keys, tmp_path: Path) -> Site:
    """A composed tree, and since then a newer build of one of its packages."""
    moving.compose()
    release(moving, keys, tmp_path, "hello-lib", "2.0")
    return moving


def more(site: Site, keys: rpmrepo.Keys, tmp_path: Path, name: str, *lines: str, version: str = "1") -> None:
    text = _SPEC.format(name=name, more="\n".join(lines))
    release(site, keys, tmp_path, name, version, spec=text)


def extensions(
    site: Site, *flags: str, base: str | None = None, status: int = 0, **wanted: dict[str, object] | list[str]
) -> Done:
    path = site.path / "extensions.json"
    repos = wanted.pop("repos", [])
    path.write_text(json.dumps({"repos": repos, "extensions": wanted}))
    return site.tool(
        *("extensions", site.treefile, path, f"--output-dir={site.path}/out", f"--cachedir={site.cachedir}"),
        *([f"--repo={site.repo}"] if base is None else [base]),
        *flags,
        status=status,
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.rpm"))


def test_what_fits_on_the_tree(based: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    more(based, keys, tmp_path, "hello-devel", "Requires: nobody-has-this", version="1.0")
    more(based, keys, tmp_path, "hello-devel", "Requires: nobody-has-this", version="3")
    done = extensions(
        based,
        f"--touch-if-changed={based.path}/touched",
        odd={"packages": ["tiny-odd"]},
        devel={"kind": "development", "packages": ["hello-devel"], "match-base-evr": "hello"},
        elsewhere={"packages": ["nobody-has-this"], "architectures": ["s390x"]},
    )
    out = based.path / "out"
    assert names(out) == ["hello-devel-1.0-1.noarch.rpm", "tiny-odd-1-1.noarch.rpm", "tiny-weak-1-1.noarch.rpm"]
    assert f"{out}: 3 packages" in done.stdout
    assert (based.path / "touched").exists()
    written = json.loads((out / "extensions.json").read_text())["extensions"]
    assert written["devel"]["packages"] == ["hello-devel-1.0-1"]
    assert "elsewhere" not in written
    # a client has them all but those for development
    root = tmp_path / "root"
    based.ostree("checkout", "-U", REF, str(root))
    (root / "usr/lib/sysimage").mkdir(parents=True, exist_ok=True)
    rpms = [str(out / name) for name in names(out) if "devel" not in name]
    subprocess.run(
        ["rpm", f"--root={root}", "--dbpath=/usr/share/rpm", "--test", "--nosignature", "-i", *rpms], check=True
    )


def test_again_is_no_change(based: Site) -> None:
    wanted = {"odd": {"packages": ["tiny-odd"]}}
    out = based.path / "out"
    extensions(based, **wanted)
    (out / "mine.rpm").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    touched = f"--touch-if-changed={based.path}/touched"
    assert extensions(based, touched, **wanted).stdout == "No change.\n"
    extensions(based, "--unchanged-exit-77", status=77, **wanted)
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert not (based.path / "touched").exists()
    # what is gone comes back, and what is not part any more goes; what somebody else put there stays
    (out / "tiny-weak-1-1.noarch.rpm").unlink()
    assert "2 packages" in extensions(based, **wanted).stdout
    assert "tiny-weak-1-1.noarch.rpm" in names(out)
    assert extensions(based, touched, weak={"packages": ["tiny-weak"]}).stdout.endswith(": 1 package\n")
    assert names(out) == ["mine.rpm", "tiny-weak-1-1.noarch.rpm"]
    assert (based.path / "touched").exists()


def test_a_development_package_may_be_in_the_tree(based: Site) -> None:
    wanted = {"d": {"kind": "development", "packages": ["hello-lib"], "match-base-evr": "hello-lib"}}
    extensions(based, **wanted)
    assert names(based.path / "out") == ["hello-lib-1.0-1.noarch.rpm"]
    extensions(based, d={"kind": "development", "packages": ["hello-lib"]})
    assert names(based.path / "out") == ["hello-lib-2.0-1.noarch.rpm"]


def test_what_is_damaged_or_checked_since_then_is_no_no_change(based: Site) -> None:
    based.write_repo(gpgcheck=False)
    extensions(based, a={"packages": ["tiny-weak"]})
    (based.path / "out/tiny-weak-1-1.noarch.rpm").write_bytes(b"")
    assert "1 package" in extensions(based, a={"packages": ["tiny-weak"]}).stdout
    assert "1 package" in extensions(based, a={"packages": ["unsigned"]}).stdout
    based.write_repo()
    extensions(based, status=5, a={"packages": ["unsigned"]})


@pytest.mark.parametrize("repos", [["base"], None])
def test_repositories_of_the_extensions(based: Site, repos: list[str] | None) -> None:
    section = (based.path / "tiny.repo").read_text()
    (based.path / "tiny.repo").write_text(
        section.replace("[tiny]", "[base]")
        + "excludepkgs=tiny-odd\n"
        + section.replace("[tiny]", "[extras]")
        + "includepkgs=tiny-odd\nenabled=0\n"
    )
    based.write_treefile(repos=repos)
    done = extensions(based, repos=["extras"], a={"packages": ["tiny-odd"]})
    assert "tiny-odd-1-1.noarch (extras)" in done.stdout
    assert "tiny-weak-1-1.noarch (base)" in done.stdout
    assert "no repository 'nonsense'" in extensions(based, status=2, repos=["nonsense"]).stderr


def test_builds_that_would_have_one_name(based: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    more(based, keys, tmp_path, "twin")
    (based.packages / "twin-1.rpm").rename(based.packages / "twin-old.rpm")
    more(based, keys, tmp_path, "twin", "Epoch: 2")
    twins = {"a": {"packages": ["twin = 0:1-1"]}, "b": {"kind": "development", "packages": ["twin"]}}
    assert "would have the same file name" in extensions(based, status=5, **twins).stderr


def test_a_root_in_place_of_a_repository(based: Site, tmp_path: Path) -> None:
    root = tmp_path / "root"
    based.ostree("checkout", "-U", REF, str(root))
    assert "2 packages" in extensions(based, base=f"--rootfs={root}", odd={"packages": ["tiny-odd"]}).stdout
    database = root / "usr/share/rpm/rpmdb.sqlite"
    database.unlink()
    os.mkfifo(database)
    assert "no rpm database" in extensions(based, base=f"--rootfs={root}", status=2).stderr
    for wrong, words in (
        (f"--rootfs={tmp_path}/nothing", "No such file"),
        (f"--rootfs={tmp_path}", "no rpm database"),
        ("--base-rev=x", "give either --repo"),
    ):
        assert words in extensions(based, base=wrong, status=2, odd={"packages": ["tiny-odd"]}).stderr


def test_nothing_of_the_tree_changes(based: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    more(based, keys, tmp_path, "needs-new", "Requires: hello-lib >= 2.0")
    done = extensions(based, status=3, new={"packages": ["needs-new"]})
    assert re.search(r"extensions\.json:1:\d+: needs-new", done.stderr)
    assert "requires hello-lib >= 2.0" in done.stderr
    assert "hello-lib-2.0-1.noarch (tiny) is a different build than the one in the base" in done.stderr
    assert "compose the base again first" in done.stderr
    more(based, keys, tmp_path, "takes-place", "Obsoletes: hello-lib", "Provides: hello-lib = 3.0")
    done = extensions(based, status=3, new={"packages": ["takes-place"]})
    assert "hello-lib-1.0-1.noarch would be replaced by takes-place-1-1.noarch" in done.stderr
    assert not (based.path / "out").exists()


def test_wrong_use(based: Site) -> None:
    done = extensions(based, status=2, a={"packages": ["hello"]})
    assert "package hello already present in base" in done.stderr
    done = extensions(based, status=3, a={"packages": ["user(hello)"]})
    assert "the base already has user(hello)" in done.stderr
    done = extensions(based, status=3, a={"packages": ["tiny-od"]})
    assert "there is no package 'tiny-od'" in done.stderr
    assert "did you mean tiny-odd?" in done.stderr
    done = extensions(based, status=3, a={"packages": ["tiny-od"], "kind": "development"})
    assert "did you mean tiny-odd?" in done.stderr
    assert "there is no repository 'extras'" in extensions(based, status=2, repos=["extras"]).stderr
    done = extensions(based, "--base-rev=nothing", status=1, a={"packages": ["tiny-odd"]})
    assert "has no commit nothing" in done.stderr
    done = extensions(based, "--base-rev=x", base=f"--rootfs={based.path}", status=2)
    assert "--base-rev names a commit of --repo" in done.stderr
    done = extensions(based, status=5, a={"packages": ["unsigned"]})
    assert "unsigned" in done.stderr
    assert not (based.path / "out").exists()


def test_of_a_bundle(based: Site, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    """The same packages without network, for a tree composed from the bundle; with a repository that only extensions use,
    and a newer build of a package in the tree."""
    more(based, keys, tmp_path, "hello-devel", version="1.0")
    extras = tmp_path / "extras"
    extras.mkdir()
    (based.packages / "tiny-weak.rpm").rename(extras / "tiny-weak.rpm")
    rpmrepo.index(based.packages)
    rpmrepo.index(extras)
    based.write_treefile(repos=None)
    based.write_repo(name="extras", baseurl=extras.as_uri())
    with (based.path / "extras.repo").open("a") as file:
        file.write("enabled=0\npassword=secret\n")
    wanted: dict[str, dict[str, object] | list[str]] = {
        "odd": {"packages": ["tiny-odd"], "repos": ["extras"]},
        "devel": {"kind": "development", "packages": ["hello-devel"], "match-base-evr": "hello"},
    }
    based.compose("--force-nocache")
    extensions(based, **wanted)
    online = {path.name: path.read_bytes() for path in (based.path / "out").iterdir() if path.suffix != ""}
    assert len(online) == 4
    bundle = tmp_path / "all.tar"
    fetched = [
        based.tool(
            *("fetch", based.treefile, f"--bundle={bundle}", f"--cachedir={based.cachedir}"),
            f"--extensions={based.path}/extensions.json",
        ).stdout
        for _ in range(2)
    ]
    first = bundle.read_bytes()
    assert fetched[0] == fetched[1]
    assert bundle.read_bytes() == first
    assert b"secret" not in first

    def offline(command: str, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [
                *("unshare", "--net", sys.executable, "-m", "compose", command, f"--bundle={bundle}"),
                *(f"--repo={based.repo}", f"--cachedir={tmp_path}/cold", *words),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def out(status: int = 0) -> str:
        return offline("extensions", f"--output-dir={tmp_path}/offline", status=status)

    for place in (based.packages, extras, based.path / "extensions.json"):
        place.rename(place.with_name(f"{place.name}.away"))
    try:
        offline("tree", "--force-nocache")
        assert "3 packages" in out()
        found = {path.name: path.read_bytes() for path in (tmp_path / "offline").iterdir() if path.suffix != ""}
        assert found == online
        assert "No change." in out()
        # what was solved for other packages is for no other tree
        based.write_treefile("tiny-weak", name="other.yaml")
    finally:
        for place in (based.packages, extras):
            place.with_name(f"{place.name}.away").rename(place)
    (extras / "tiny-weak.rpm").rename(based.packages / "tiny-weak.rpm")
    rpmrepo.index(based.packages)
    based.compose(treefile=based.path / "other.yaml")
    told = out(status=3)
    assert "the tree differs from the one that the extensions in" in told
    assert "in the tree, not in the bundle: tiny-weak-1-1.noarch" in told
    assert f"compose tree --bundle={bundle}" in told


def test_wrong_use_of_a_bundle(based: Site, tmp_path: Path) -> None:
    bundle, where = tmp_path / "all.tar", f"--cachedir={based.cachedir}"
    based.tool("fetch", based.treefile, f"--bundle={bundle}", where)
    words = ("extensions", f"--output-dir={tmp_path}/out", f"--repo={based.repo}", where)
    assert f"{bundle} has no extensions" in based.tool(*words, f"--bundle={bundle}", status=4).stderr
    assert "give a TREEFILE" in based.tool(*words, based.treefile, status=2).stderr
    told = based.tool(*words, based.treefile, based.treefile, f"--bundle={bundle}", status=2).stderr
    assert "a bundle contains its own treefile" in told
    (based.path / "extensions.json").write_text('{"extensions": {"a": {"packages": ["hello"]}}}')
    told = based.tool(
        "fetch", based.treefile, f"--bundle={tmp_path}/b", where, f"--extensions={based.path}/extensions.json", status=2
    ).stderr
    assert "package hello already present in base" in told
    assert not (tmp_path / "b").exists()

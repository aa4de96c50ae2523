"""A recompose from a warm cache makes the same commit as a compose from an empty one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compose import records
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions
from compose.pipeline.run import compose_tree
from compose.sandbox.lookups import abi_of
from compose.workroot.memory import ProgramMemory
from tests.e2e.tiny import EPOCH, REF, Site
from tests.e2e.whole import Whole
from tests.support import rpmrepo

pytestmark = pytest.mark.root

LEAF = """
Name: leaf
Version: {version}
Release: 1
Summary: A leaf
License: MIT
BuildArch: noarch
{more}
%description
%{{summary}}.
%install
mkdir -p %{{buildroot}}/usr/share/leaf
echo {version} > %{{buildroot}}/usr/share/leaf/version
%files
/usr/share/leaf
"""
MORE = {
    "data": "",
    "with a scriptlet": "%post\necho 'leaf {version}' >> /etc/leaves\n",
    "with an account": "%pre\necho 'leaf:x:4{version}:4{version}::/:/bin/sh' >> /etc/passwd\n",
}


def leaf(directory: Path, version: int, more: str) -> Path:
    """A repository of one package, newer than all others."""
    directory.mkdir()
    spec = directory / "leaf.spec"
    spec.write_text(LEAF.format(version=version, more=more.format(version=version)))
    rpmrepo.run(
        *("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {directory}/build", "--define", f"_rpmdir {directory}"),
        *("--define", "use_source_date_epoch_as_buildtime 1", str(spec)),
        SOURCE_DATE_EPOCH=str(EPOCH + version),
    )
    rpmrepo.index(directory)
    return directory


def again(commit: str, repo: Path) -> set[str]:
    """What really ran, "leaf %post"; the rest was remembered."""
    with Repo.open(str(repo)) as opened:
        programs = records.read(opened, commit).programs
    return {f"{each.owner.partition(':')[2].rsplit('-', 2)[0]} {each.phase}" for each in programs if each.seconds}


@pytest.fixture
def leafy(site: Site) -> Site:
    """A site with a cache and a package `leaf` of its own."""
    here = replace(site, cachedir=site.path / "cache")
    here.write_treefile("leaf", repos=["tiny", "leaf"])
    return here


def release(site: Site, version: int, more: str) -> None:
    packages = leaf(site.path / f"leaf-{version}", version, more)
    (site.path / "leaf.repo").write_text(f"[leaf]\nbaseurl={packages.as_uri()}\ngpgcheck=0\n")


def without_memory(site: Site) -> str:
    """The commit that a compose with an empty cache would make now."""
    cold = site.path / "cold"
    shutil.copytree(site.repo, cold / "repo", symlinks=True)
    command = [*site.command("--force-nocache", repo=False), f"--repo={cold}/repo", f"--cachedir={cold}/cache"]
    subprocess.run(command, check=True, capture_output=True)
    return rpmrepo.run("ostree", f"--repo={cold}/repo", "rev-parse", REF).strip()


@pytest.mark.parametrize("kind", MORE)
def test_with_and_without_a_memory(kind: str, leafy: Site) -> None:
    release(leafy, 1, MORE[kind])
    leafy.compose()
    # accounts of the commit before are there from the start now
    leafy.compose("--force-nocache")
    release(leafy, 2, MORE[kind])
    cold = without_memory(leafy)
    leafy.compose()
    ran = again(leafy.head(), leafy.repo)
    if os.uname().machine == "x86_64":
        assert ran == {"data": set(), "with a scriptlet": {"leaf %post"}}.get(kind, ran | {"leaf %pre"})
    assert leafy.head() == cold


def test_composes_at_once_share_a_cache(leafy: Site) -> None:
    release(leafy, 1, MORE["with a scriptlet"])
    repos = [leafy.path / f"repo-{number}" for number in range(3)]
    for repo in repos:
        rpmrepo.run("ostree", f"--repo={repo}", "init", "--mode=archive")
    running = [
        subprocess.Popen(
            [*leafy.command(repo=False), f"--repo={repo}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for repo in repos
    ]
    for each in running:
        _, errors = each.communicate(timeout=100)
        assert each.returncode == 0, errors.decode()
    assert len({rpmrepo.run("ostree", f"--repo={repo}", "rev-parse", REF) for repo in repos}) == 1


def test_a_killed_compose_leaves_nothing_half_remembered(leafy: Site) -> None:
    release(leafy, 1, MORE["with a scriptlet"])
    for count in (1, 3, 6):
        process = subprocess.Popen(
            leafy.command("--force-nocache"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((leafy.cachedir / "programs").glob("??/*"))) >= count:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
    cold = without_memory(leafy)
    leafy.compose("--force-nocache")
    assert leafy.head() == cold


def missed(programs: Path, made: str) -> str:
    """A file in /etc that the program which made a path looked for, and did not find."""
    memory = ProgramMemory(str(programs))
    keys = [path.parent.name + path.name.partition(".")[0] for path in map(Path, memory.paths())]
    runs = [run for key in keys for run in memory.recall(key)]
    found = next(run.sight.found for run in runs if made in run.changed)
    return next(
        path for path in sorted(found) if path.startswith("etc/") and path.count("/") == 1 and found[path] == "-"
    )


@pytest.mark.slow
@pytest.mark.universe
@pytest.mark.skipif(abi_of(os.uname().machine) is None, reason="unknown system calls")
def test_an_initramfs_is_made_when_something_that_dracut_saw_is_another(
    whole_sets: Callable[[str], Whole], tmp_path: Path
) -> None:
    base = whole_sets("min")
    made = base.result.tree
    assert made is not None
    kernel = next(path for path in made.entries if path.endswith("/initramfs.img"))
    shutil.copytree(base.treefile.parent, tmp_path / "treefile")
    treefile = tmp_path / "treefile/more.yaml"
    (tmp_path / "treefile/added").write_text("# nothing\n")
    options = ComposeOptions(treefile=str(treefile), cachedir=str(base.top / "cache"), repo=str(tmp_path / "repo"))
    rpmrepo.run("ostree", f"--repo={tmp_path}/repo", "init", "--mode=bare-user")
    for added, rerun in (
        # nobody looks there
        ("usr/share/leaf/added", False),
        # in a directory that it lists
        ("usr/lib/dracut/dracut.conf.d/99-added.conf", True),
        # what it looks for and does not find, and what it reads
        (missed(base.top / "cache/programs", kernel), True),
        ("usr/lib/dracut/modules.d/98ostree/module-setup.sh", True),
    ):
        document: dict[str, object] = {"include": "whole.yaml", "add-files": [["added", added]]}
        original = made.get(added)
        if original is not None and original.blob is not None:
            text = BlobStore(str(base.top / "cache/blobs")).read(original.blob)
            (tmp_path / "treefile/module").write_bytes(text + b"# more\n")
            document["add-files"] = [["module", added]]
        treefile.write_text(json.dumps(document))
        result = compose_tree(options, Reporter())
        assert result.commit is not None and result.tree is not None
        assert ("initramfs dracut" in again(result.commit, tmp_path / "repo")) is rerun, added
        if not rerun:
            assert result.tree[kernel].blob == made[kernel].blob
            fresh = compose_tree(replace(options, rerun_programs=True, no_parent=True), Reporter())
            assert fresh.commit == result.commit


def test_what_is_in_the_commit_alone_is_a_change(site: Site) -> None:
    """rpm-ostree hashes the flattened treefile, too."""
    site.write_treefile(automatic_version_prefix="41", add_commit_metadata={"k": "one"})
    site.compose()
    assert "No apparent changes" in site.compose()
    site.write_treefile(automatic_version_prefix="42", add_commit_metadata={"k": "two"})
    site.compose()
    assert site.ostree("show", "--print-metadata-key=version", REF).strip() == "'42'"
    assert site.ostree("show", "--print-metadata-key=k", REF).strip() == "'two'"


def test_a_layer_that_no_longer_overrides_is_a_change(site: Site, tmp_path: Path) -> None:
    (tmp_path / "layer/usr/bin").mkdir(parents=True)
    (tmp_path / "layer/usr/bin/hello-setuid").write_text("another")
    site.ostree("commit", "--branch=layer", f"--tree=dir={tmp_path}/layer", "--owner-uid=0", "--owner-gid=0")
    site.write_treefile(ostree_override_layers=["layer"])
    site.compose()
    site.write_treefile(ostree_layers=["layer"])
    done = site.run()
    assert done.status == 1
    assert "hello-setuid" in done.stderr


@pytest.mark.parametrize("how", ["--mirror --commit-metadata-only", "--depth=0"])
def test_what_was_pulled_is_the_previous_commit(how: str, site: Site, tmp_path: Path) -> None:
    """Only the commit itself, or into refs/remotes: all that a CI job needs to go on from."""
    site.write_treefile(automatic_version_prefix="41")
    site.compose()
    later = replace(site, path=tmp_path / "later")
    later.path.mkdir()
    later.write_repo()
    later.write_treefile(automatic_version_prefix="41")
    later.init()
    later.ostree("remote", "add", "--no-gpg-verify", "origin", site.repo.as_uri())
    later.ostree("pull", *how.split(), "origin", REF)
    assert "No apparent changes" in later.compose()
    later.compose("--force-nocache")
    assert later.ostree("show", "--print-metadata-key=version", REF).strip() == "'41.1'"
    assert later.ostree("rev-parse", f"{REF}^").strip() == site.head()

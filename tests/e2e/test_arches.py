"""Composes for another architecture than this machine's: all that runs no programs of the packages.

test_emulated.py has the rest.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.tiny import Site

pytestmark = pytest.mark.root

OTHER = "ppc64"
"""An architecture that no machine emulates for us."""


@pytest.fixture
def both(moving: Site) -> Site:
    """Packages at $basearch, one more for the other architecture, and a ref of its name."""
    repo = moving.path / "tiny.repo"
    (moving.packages.parent / OTHER).symlink_to(moving.packages)
    repo.write_text(re.sub("baseurl=.*", f"baseurl={moving.packages.parent.as_uri()}/$basearch", repo.read_text()))
    moving.write_treefile(packages=["hello-lib"], ref="tiny/${basearch}", **{f"packages-{OTHER}": ["tiny-weak"]})
    return moving


def told(site: Site, *words: str | Path, status: int = 0) -> str:
    done = site.tool(*words, f"--cachedir={site.cachedir}", "--progress=plain", status=status)
    return done.stdout if status == 0 else done.stderr


def test_plan_why_and_packages(both: Site) -> None:
    arch, tree = f"--arch={OTHER}", both.treefile
    plan = json.loads(told(both, "plan", tree, arch, "--download", "--format=json", f"--repo={both.repo}"))
    assert plan["ref"] == f"tiny/{OTHER}"
    assert "tiny-weak" in json.dumps(plan["packages"])
    assert ": tiny-weak" in told(both, "why", "tiny-weak", tree, arch)
    assert "nothing asks for it" in told(both, "why-not", "tiny-odd", tree, arch)
    assert "tiny-weak-1-1.noarch" in told(both, "tree", tree, arch, "--dry-run")
    assert json.loads(told(both, "tree", tree, arch, "--print-only"))["ref"] == f"tiny/{OTHER}"
    told(both, "tree", tree, arch, "--download-only")


def test_programs_of_another_architecture_do_not_run(both: Site, tmp_path: Path) -> None:
    where = f"--repo={both.repo}"
    text = told(both, "tree", both.treefile, f"--arch={OTHER}", where, status=1)
    assert f"cannot run the programs of packages for {OTHER}" in text
    assert "--dry-run" in text
    bundle = tmp_path / "other.tar"
    told(both, "fetch", both.treefile, f"--arch={OTHER}", f"--bundle={bundle}")
    text = told(both, "tree", f"--bundle={bundle}", where, status=1)
    assert f"compose on a machine of {OTHER}" in text
    assert both.ostree("refs") == ""


@pytest.mark.parametrize(
    ("arch", "hint"), [("arm64", "did you mean aarch64?"), ("x86-64", "did you mean x86_64?"), ("zzz", "choose one of")]
)
def test_names_that_are_none(both: Site, arch: str, hint: str) -> None:
    text = told(both, "plan", both.treefile, f"--arch={arch}", status=2)
    assert f"{arch}: not an architecture of RPM repositories" in text
    assert hint in text


def test_a_commit_has_its_own(both: Site) -> None:
    text = told(both, "why", "tiny-weak", "--ref=x", f"--repo={both.repo}", f"--arch={OTHER}", status=2)
    assert "--arch needs a TREEFILE" in text

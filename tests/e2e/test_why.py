"""`compose why` of a commit, with what the solver says of its treefile as judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tiny import BASE, REF, Site

pytestmark = pytest.mark.root


def why(site: Site, *words: str | Path, status: int = 0) -> Any:
    done = site.tool("why", *words, "--all", "--format=json", f"--cachedir={site.cachedir}", status=status)
    return json.loads(done.stdout) if not status else done.stderr


def test_a_commit_knows_what_the_solver_knew(moving: Site) -> None:
    (moving.path / "parts").mkdir()
    base = moving.write_treefile(name="parts/base.yaml")
    moving.treefile.write_text(json.dumps({"include": "parts/base.yaml", "packages": ["tiny-odd"]}))
    moving.compose()
    where = (f"--repo={moving.repo}", f"--ref={REF}")
    names = (*BASE, "tiny-odd", "tiny-weak", "hello-lib", "tiny-filesystem.noarch", "hello-1.0")
    expected = {name: why(moving, name, moving.treefile) for name in names}
    assert [chain["weak"] for chain in expected["tiny-weak"][0]["chains"]] == [True]
    # whatever became of the treefile and of the package repository
    moving.treefile.unlink()
    base.unlink()
    for rpm in moving.packages.glob("*.rpm"):
        rpm.unlink()
    for name in names:
        for chain in expected[name][0]["chains"]:
            chain["place"] = chain["place"].removeprefix(f"{moving.path}/")
        assert why(moving, name, *where) == expected[name]
    assert f"error: {REF} has no package unsigned" in why(moving, "unsigned", *where, status=2)


def test_wrong_use(site: Site) -> None:
    assert "give a TREEFILE, or --repo and --ref" in why(site, "hello", status=2)
    assert "belong together" in why(site, "hello", f"--ref={REF}", status=2)
    assert "has no commit" in why(site, "hello", f"--repo={site.repo}", f"--ref={REF}", status=1)

"""The treefiles that come with the project: each loads, has nothing for lint or fmt to say, and shows its origin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compose.findings import Level
from compose.treefile.lint import lint
from compose.treefile.load import load_treefile
from compose.treefile.origin import origins
from compose.treefile.rewrite import format_text

PROJECT = Path(__file__).parents[3]
FEDORA = sorted((PROJECT / "treefiles").glob("*.yaml"))
# composed from the repository of the demonstration, whose .repo file is made with it
DEMO = sorted([*(PROJECT / "treefiles/demo").glob("*.yaml"), *(PROJECT / "examples").glob("*/*.yaml")])
REPO = "[universe]\nbaseurl=file:///x\ngpgkey=file:///y\n"


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("path", FEDORA, ids=shown)
def test_fedora(path: Path, arch: str) -> None:
    loaded = load_treefile(str(path), basearch=arch)
    assert loaded.warnings == ()
    assert [finding for finding in lint(str(path), basearch=arch) if finding.level is not Level.NOTE] == []
    assert all(row.place.file.endswith(".yaml") for row in origins(str(path), basearch=arch))


@pytest.mark.parametrize("path", DEMO, ids=shown)
def test_demonstration_and_examples(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "universe.repo").write_text(REPO)
    found = lint(str(tmp_path / path.name), basearch="x86_64")
    assert [finding for finding in found if finding.level is not Level.NOTE] == []


@pytest.mark.parametrize("path", [*FEDORA, *DEMO], ids=shown)
def test_tidy(path: Path) -> None:
    text = path.read_text()
    assert format_text(text, str(path)) == text


def test_what_people_compose() -> None:
    refs = {load_treefile(str(path), basearch="x86_64").treefile.ref for path in FEDORA}
    assert refs - {None} == {f"fedora/x86_64/{name}" for name in ("minimal", "iot", "desktop", "bootc")}

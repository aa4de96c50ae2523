"""`compose treefile` as a user has it: output, exit codes, files on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

TOP = """\
# About it.
ref: x/${basearch}
releasever: 43
repos: [fedora]
include: base.yaml
automatic_version_prefix: "43"
packages:
- bash
"""
BASE = "packages: [bash, zsh]\nboot_location: modules\n"
REPO = "[fedora]\nbaseurl=https://example.com/\ngpgkey=fedora.key\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in (("top.yaml", TOP), ("base.yaml", BASE), ("fedora.repo", REPO)):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(place: Path, *arguments: str, status: int = 0) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "compose", "treefile", *arguments], cwd=place, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_schema_is_a_schema_that_takes_real_treefiles(place: Path) -> None:
    schema = json.loads(run(place, "schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in (place / "top.yaml", *(Path(__file__).parents[2] / "treefiles").glob("*.yaml")):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path
    assert list(validator.iter_errors({"packges": []}))


def test_show_prints_what_print_only_prints(place: Path) -> None:
    shown = json.loads(run(place, "show", "top.yaml"))
    assert shown["packages"] == ["bash", "zsh"]
    assert json.loads(run(place, "show", "--arch=aarch64", "top.yaml"))["ref"] == "x/aarch64"


def test_show_origin(place: Path) -> None:
    lines = [line.split() for line in run(place, "show", "--origin", "top.yaml").splitlines()]
    assert ["packages:", "zsh", "base.yaml:1:18"] in lines
    rows = json.loads(run(place, "show", "--origin", "--format=json", "top.yaml"))
    assert {"path": "packages", "value": "zsh", "file": "base.yaml", "line": 1, "column": 18} in rows


def test_lint(place: Path) -> None:
    shown = run(place, "lint", "top.yaml")
    assert shown.splitlines() == [
        "base.yaml:2:1: warning: boot_location is the old spelling of boot-location [deprecated-spelling]",
        "top.yaml:6:1: warning: automatic_version_prefix is the old spelling of automatic-version-prefix "
        "[deprecated-spelling]",
        "top.yaml:8:3: warning: bash is already listed at base.yaml:1:12 [duplicate-package]",
    ]
    run(place, "lint", "--strict", "top.yaml", status=1)
    run(place, "lint", "--strict", "--ignore=deprecated-spelling", "--ignore=duplicate-package", "top.yaml")
    assert json.loads(run(place, "lint", "--format=sarif", "top.yaml"))["version"] == "2.1.0"
    assert len(json.loads(run(place, "lint", "--format=json", "top.yaml"))) == 3
    rows = json.loads(run(place, "lint", "--format=codequality", "top.yaml"))
    assert [(row["location"]["path"], row["location"]["lines"]["begin"]) for row in rows] == [
        ("base.yaml", 2), ("top.yaml", 6), ("top.yaml", 8),
    ]  # fmt: skip
    run(place, "lint", "--ignore=nonsense", "top.yaml", status=2)
    (place / "fedora.repo").write_text("[other]\nbaseurl=x\n")
    run(place, "lint", "top.yaml", status=1)


def test_lint_on_github(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compose", "treefile", "lint", "top.yaml"], cwd=place, capture_output=True, text=True,
        check=True, env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "GITHUB_ACTIONS": "true"},
    )  # fmt: skip
    assert (
        "::warning title=compose,file=top.yaml,line=8,col=3::bash is already listed at base.yaml:1:12 [duplicate-package]"
        in done.stderr.splitlines()
    )


def test_lint_on_github_of_what_does_not_load(place: Path) -> None:
    (place / "base.yaml").write_text("pakages: [bash]\nselinux: perhaps\n")
    done = subprocess.run(
        [sys.executable, "-m", "compose", "treefile", "lint", "top.yaml"], cwd=place, capture_output=True, text=True,
        check=False, env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "GITHUB_ACTIONS": "true"},
    )  # fmt: skip
    assert done.returncode == 2
    found = [line.partition("::base.yaml")[0] for line in done.stderr.splitlines() if line.startswith("::")]
    assert found == [f"::error title=compose,file=base.yaml,line={line},col=1" for line in (1, 2)], done.stderr


def test_reports_of_what_does_not_load(place: Path) -> None:
    (place / "base.yaml").write_text("pakages: [bash]\nselinux: perhaps\n")
    rows = json.loads(run(place, "lint", "--format=json", "top.yaml", status=2))
    assert [(row["file"], row["line"], row["column"], row["rule"], row["level"]) for row in rows] == [
        ("base.yaml", 1, 1, "invalid", "error"), ("base.yaml", 2, 1, "invalid", "error"),
    ]  # fmt: skip
    assert rows[0]["message"].startswith("pakages: ")
    results = json.loads(run(place, "lint", "--format=sarif", "top.yaml", status=2))["runs"][0]["results"]
    assert [each["locations"][0]["physicalLocation"]["region"]["startLine"] for each in results] == [1, 2]
    rows = json.loads(run(place, "lint", "--format=codequality", "top.yaml", status=2))
    assert [row["severity"] for row in rows] == ["major", "major"]
    # of which no line can be named
    (missing,) = json.loads(run(place, "lint", "--format=json", "missing.yaml", status=2))
    assert (missing["file"], missing["line"]) == ("missing.yaml", 1)


def test_fmt(place: Path) -> None:
    shown = run(place, "fmt", "--check", "top.yaml", "base.yaml", status=1)
    assert "-- bash\n+  - bash\n" in shown
    assert (place / "top.yaml").read_text() == TOP
    assert run(place, "fmt", "top.yaml", "base.yaml") == "top.yaml\n"
    assert (place / "top.yaml").read_text() == TOP.replace("- bash", "  - bash")
    assert run(place, "fmt", "--check", "top.yaml", "base.yaml") == ""


def test_fmt_of_a_last_line_without_its_end(place: Path) -> None:
    (place / "top.yaml").write_text("ref: a")
    assert run(place, "fmt", "--check", "top.yaml", status=1).endswith(
        "-ref: a\n\\ No newline at end of file\n+ref: a\n"
    )


def test_fmt_writes_nothing_when_one_file_is_wrong(place: Path) -> None:
    (place / "wrong.yaml").write_text("a: [")
    run(place, "fmt", "top.yaml", "wrong.yaml", status=2)
    assert (place / "top.yaml").read_text() == TOP


def test_migrate(place: Path) -> None:
    before = json.loads(run(place, "show", "top.yaml"))
    run(place, "migrate", "--check", "top.yaml", status=1)
    assert run(place, "migrate", "top.yaml").split() == ["top.yaml", "base.yaml"]
    assert (place / "base.yaml").read_text() == BASE.replace("_", "-")
    after = json.loads(run(place, "show", "top.yaml"))
    # the edition's own tmp-is-dir is held off; its boot-location is what base.yaml says anyway
    assert {key: value for key, value in after.items() if before.get(key) != value} == {
        "edition": "2024",
        "tmp-is-dir": False,
    }

"""examples/github and examples/gitlab: their steps, run as the services run them, on the tiny packages.

What only the services have is put in its place: checkout, caches and uploads do nothing, `gh` notes what it is asked, and
installing is left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo.example import EXAMPLES, command
from tests.e2e.conftest import make_site
from tests.e2e.tiny import REF, SPECS, Site, release
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root

WORKFLOW = yaml.safe_load((EXAMPLES / "github/workflow.yml").read_text())
PIPELINE = yaml.safe_load((EXAMPLES / "gitlab/gitlab-ci.yml").read_text())
ACTIONS = {"actions/checkout", "actions/cache", "actions/cache/restore", "github/codeql-action/upload-sarif"}


@pytest.fixture
def checkout(tmp_path: Path, packages: Path, keys: Keys) -> Site:
    """A checkout of a project with a treefile; its repository is made by the jobs."""
    site = make_site(
        tmp_path / "work", Path(shutil.copytree(packages, tmp_path / "mine")), keys, tmp_path / "work/cache"
    )
    shutil.rmtree(site.repo)
    write(site)
    return site


def write(site: Site, *more: str) -> None:
    site.write_treefile(*more, name="tree.yaml", automatic_version_prefix="1")


def environment(site: Site, **more: str) -> dict[str, str]:
    """With this project's compose, and a gh that notes its arguments."""
    binaries = site.path / ".bin"
    shutil.rmtree(binaries, ignore_errors=True)
    _, found = command("pipeline", site.path, site.packages)
    gh = binaries / "gh"
    gh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{site.path}/gh.log\n')
    gh.chmod(0o755)
    return {name: value for name, value in found.items() if not name.startswith(("GITHUB_", "CI_"))} | more


def true(condition: str, contexts: Mapping[str, str]) -> bool:
    """What `if:` says, in the forms that the workflow has."""
    if condition == "always()":
        return True
    match = re.fullmatch(r"(\S+) (==|!=) '(.*)'", condition)
    assert match, condition
    return (contexts.get(match[1], "") == match[3]) == (match[2] == "==")


def on_github(site: Site, event: str) -> tuple[list[str], str, str]:
    """Run the jobs of an event; returns the names of the steps that ran, the log, and the summary."""
    contexts = {"github.event_name": event, "github.token": "x", "github.event.number": "7", "github.run_id": "1"}
    ran, log = [], ""
    summary, output = site.path / "summary", site.path / "output"
    summary.write_text("")
    for job in WORKFLOW["jobs"].values():
        if not true(job["if"], contexts):
            continue
        for step in job["steps"]:
            if not true(step.get("if", "always()"), contexts):
                continue
            if "uses" in step:
                assert step["uses"].partition("@")[0] in ACTIONS
                continue
            if step["name"] == "Install":
                continue
            output.write_text("")
            variables = {key: re.sub(r"\$\{\{ (\S+) \}\}", lambda match: contexts[match[1]], value)
                         for key, value in step.get("env", {}).items()}  # fmt: skip
            assert "${{" not in step["run"]
            # "bash -e {0}": what a step without shell: gets
            script = site.path / "step.sh"
            script.write_text(step["run"])
            done = subprocess.run(
                ["bash", "-e", str(script)], cwd=site.path, capture_output=True, text=True, check=False, timeout=200,
                env=environment(site, CI="true", GITHUB_ACTIONS="true", GITHUB_WORKSPACE=str(site.path),
                                GITHUB_STEP_SUMMARY=str(summary), GITHUB_OUTPUT=str(output), **variables),
            )  # fmt: skip
            log += done.stdout + done.stderr
            if done.returncode:
                return [*ran, f"{step['name']} failed"], log, summary.read_text()
            ran.append(step["name"])
            for line in output.read_text().splitlines():
                key, _, value = line.partition("=")
                contexts[f"steps.{step.get('id', '')}.outputs.{key}"] = value
    return ran, log, summary.read_text()


def test_github(checkout: Site, keys: Keys, tmp_path: Path) -> None:
    ran, log, summary = on_github(checkout, "push")
    assert ran == ["Compose", "Release"], log
    assert "release create 1 --notes-file notes.md" in (checkout.path / "gh.log").read_text()
    assert checkout.head() in summary
    assert "The first one." in summary

    ran, log, _ = on_github(checkout, "schedule")
    assert ran == ["Compose"]
    assert "No apparent changes" in log

    release(checkout, keys, tmp_path, spec=(SPECS / "hello-lib.spec").read_text())
    write(checkout, "tiny-odd")
    before = checkout.head()
    ran, log, summary = on_github(checkout, "pull_request")
    assert ran == ["Lint", "Plan", "Comment"], log
    assert checkout.head() == before
    plan = (checkout.path / "plan.md").read_text()
    assert "| upgraded | `hello-lib.noarch` | `1.0-1` | `2.0-1` | `tiny` |" in plan
    assert plan.strip() in summary
    assert (checkout.path / "gh.log").read_text().splitlines()[-1].startswith("pr comment 7 ")
    assert json.loads((checkout.path / "lint.sarif").read_text())["version"] == "2.1.0"

    ran, _, summary = on_github(checkout, "push")
    assert ran == ["Compose", "Release"]
    assert "## `1` to `1.1`" in summary

    write(checkout, "nosuch")
    ran, log, summary = on_github(checkout, "pull_request")
    assert ran == ["Lint", "Plan failed"]
    assert re.search(r"(?m)^::error title=compose,file=tree\.yaml,line=\d+,col=5::", log)
    assert "there is no package 'nosuch'" in summary


def on_gitlab(site: Site, name: str) -> tuple[int, str]:
    """Run a job's script as GitLab's shell does; returns its exit code and log."""
    job: dict[str, Any] = PIPELINE[name]
    done = subprocess.run(
        ["bash"], input="set -eo pipefail\n" + "\n".join(job["script"]), cwd=site.path, capture_output=True, text=True,
        check=False, timeout=200, env=environment(site, CI="true", GITLAB_CI="true", CI_PROJECT_DIR=str(site.path), REF=REF),
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_gitlab(checkout: Site, keys: Keys, tmp_path: Path) -> None:
    code, log = on_gitlab(checkout, "tree")
    assert code == 0, log
    assert "section_start:" in log
    assert (checkout.path / "compose.env").read_text() == f"COMMIT={checkout.head()}\n"
    code, _ = on_gitlab(checkout, "tree")
    assert code == PIPELINE["tree"]["allow_failure"]["exit_codes"]

    release(checkout, keys, tmp_path, spec=(SPECS / "hello-lib.spec").read_text())
    write(checkout, "tiny-odd")
    code, log = on_gitlab(checkout, "plan")
    assert code == 0, log
    for artifact in (*PIPELINE["plan"]["artifacts"]["paths"], PIPELINE["plan"]["artifacts"]["reports"]["codequality"]):
        assert os.path.exists(checkout.path / artifact)
    assert "hello-lib" in (checkout.path / "plan.md").read_text()
    assert json.loads((checkout.path / "quality.json").read_text()) == []
    assert on_gitlab(checkout, "tree")[0] == 0
    assert "## `1` to `1.1`" in (checkout.path / "notes.md").read_text()

    write(checkout, "nosuch")
    assert on_gitlab(checkout, "plan")[0] == 3
    (row,) = json.loads((checkout.path / "quality.json").read_text())
    assert row["location"]["path"] == "tree.yaml"


def test_what_they_install_is_what_the_readme_says() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    steps = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if step.get("name") == "Install"]
    for text in (*steps, "\n".join(PIPELINE["default"]["before_script"])):
        for package in ("python3-libdnf5", "python3-rpm", "python3-libselinux"):
            assert package in text
            assert package in readme

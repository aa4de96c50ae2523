"""Events, CI services and exit codes of real composes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.tiny import Site

pytestmark = pytest.mark.root

SCHEMA = json.loads(resources.files("compose.cli").joinpath("events.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
STAGES = ["treefile", "solve", "fetch", "import", "assemble", "postprocess", "label", "lint", "commit"]
PLAIN = {name: value for name, value in os.environ.items() if not re.match("CI$|GITHUB|GITLAB|NO_COLOR", name)}


def events(text: str) -> list[dict[str, Any]]:
    """Each line one, and right."""
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        VALIDATOR.validate(each)
    return found


def run(
    site: Site, *flags: str, descriptor: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`compose tree`, with events of descriptor 9 to a file."""
    command = site.command(*flags)
    if descriptor is not None:
        command = ["sh", "-c", f'exec "$@" 9>{descriptor}', "sh", *command, "--progress=json", "--progress-fd=9"]
    return subprocess.run(command, env=PLAIN | environment, check=False, capture_output=True, text=True, timeout=100)


def test_the_events_of_a_compose(site: Site) -> None:
    site.write_treefile("tiny-odd", gpg_key=None)
    done = run(site, descriptor=site.path / "events")
    assert done.returncode == 0, done.stderr
    found = events((site.path / "events").read_text())
    assert found[0] | {"time": 0, "version": ""} == {
        "event": "begin", "time": 0, "schema": 1, "version": "", "command": "compose tree",
    }  # fmt: skip
    assert [each["name"] for each in found if each["event"] == "stage" and each["state"] == "ended"] == STAGES
    assert [each["time"] for each in found] == sorted(each["time"] for each in found)
    tasks: dict[int, list[str]] = {}
    for each in found:
        if each["event"] == "task":
            tasks.setdefault(each["id"], []).append(each["state"])
    assert tasks
    for states in tasks.values():
        assert (states[0], states[-1]) == ("begun", "ended")
    result = found[-1]
    assert (result["event"], result["outcome"], result["commit"]) == ("result", "committed", site.head())
    # people still have their log
    assert "Importing packages" in done.stderr
    assert events(run(site, "--progress=json").stderr)[-1]["outcome"] == "unchanged"


def test_the_events_of_an_install(site: Site) -> None:
    done = site.tool("install", site.treefile, site.path / "out", f"--repo={site.repo}", f"--cachedir={site.cachedir}",
                     "--progress=json")  # fmt: skip
    found = events(done.stderr)
    ended = [each["name"] for each in found if each["event"] == "stage" and each["state"] == "ended"]
    assert ended == ["treefile", "solve", "fetch", "import", "assemble", "postprocess", "write"]
    assert (found[-1]["outcome"], found[-1]["rootfs"]) == ("installed", f"{site.path}/out/rootfs")


def test_the_error_of_a_compose(site: Site) -> None:
    treefile = site.write_treefile("nosuch")
    done = run(site, "--progress=json")
    assert (done.returncode, done.stdout) == (3, "")
    found = events(done.stderr)
    assert found[-1]["exit_code"] == 3
    (fault,) = found[-1]["faults"]
    line = next(number for number, line in enumerate(treefile.read_text().splitlines(), 1) if "nosuch" in line)
    assert (fault["place"]["file"], fault["place"]["line"]) == (str(treefile), line)
    assert [each["name"] for each in found if each["event"] == "stage" and each["state"] == "failed"] == ["solve"]


def test_a_signal(site: Site) -> None:
    site.write_treefile("slow-post")
    lines = []
    with subprocess.Popen(site.command("--progress=json"), stderr=subprocess.PIPE, text=True, env=PLAIN) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if "Running scriptlets" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    last = events("".join(lines))[-1]
    assert (last["event"], last["exit_code"], last["message"]) == ("error", 143, "interrupted by SIGTERM")


def test_descriptors(site: Site) -> None:
    for descriptor in ("77", "9"):
        done = run(site, "--progress=json", f"--progress-fd={descriptor}")
        assert done.returncode == 2
        assert f"--progress-fd={descriptor} is not open" in done.stderr
    assert "needs --progress=json" in run(site, "--progress-fd=1").stderr


def test_a_reader_that_goes_away_stops_nothing(site: Site) -> None:
    command = ["bash", "-c", 'exec "$@" 9> >(head -n 1 >/dev/null)', "bash", *site.command()]
    done = subprocess.run([*command, "--progress=json", "--progress-fd=9"], env=PLAIN, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert site.head()


def test_on_github(site: Site) -> None:
    treefile = site.write_treefile("nosuch")
    summary = site.path / "summary.md"
    github = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(site.path),
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    done = run(site, **github)
    line = next(number for number, line in enumerate(treefile.read_text().splitlines(), 1) if "nosuch" in line)
    assert f"::error title=compose,file=tiny.yaml,line={line},col=5::" in done.stderr
    assert "error: " in done.stderr
    assert "there is no package 'nosuch'" in summary.read_text()
    site.write_treefile()
    summary.unlink()
    done = run(site, **github)
    assert done.returncode == 0
    assert done.stderr.count("::group::") == done.stderr.count("::endgroup::") == len(STAGES)
    assert site.head() in summary.read_text()


def test_a_package_gives_no_commands_to_github(site: Site) -> None:
    """The output of a scriptlet that fails is shown; it must not be obeyed."""
    site.write_treefile(postprocess=["echo '::set-output name=commit::evil'; echo '  ::add-path::/tmp'; exit 1"])
    done = run(site, CI="true", GITHUB_ACTIONS="true", GITHUB_WORKSPACE=str(site.path))
    assert done.returncode == 6
    assert ":\\:set-output name=commit::evil" in done.stderr
    ours = ("::group::", "::endgroup::", "::warning ", "::error ")
    for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
        assert not line.lstrip().startswith("::") or line.startswith(ours)


def test_on_gitlab(site: Site) -> None:
    site.write_treefile("nosuch")
    report = site.path / "quality.json"
    done = run(site, f"--write-codequality-to={report}", CI="true", GITLAB_CI="true", CI_PROJECT_DIR=str(site.path))
    assert done.returncode == 3
    assert done.stderr.count("section_start:") == done.stderr.count("section_end:") == 2
    (row,) = json.loads(report.read_text())
    assert row["location"]["path"] == "tiny.yaml"
    assert "::error" not in done.stderr


def on_a_terminal(site: Site, **environment: str) -> str:
    """What `compose tree --dry-run` writes to a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        site.command("--dry-run"), env={**PLAIN, "TERM": "xterm-256color", **environment}, stdin=follower,
        stdout=subprocess.DEVNULL, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    data = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        data += chunk
    os.close(leader)
    assert process.wait() == 0
    return data.decode()


def test_what_a_terminal_gets(site: Site) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")
    bars = on_a_terminal(site)
    assert "\x1b[?25l" in bars
    assert colour.search(bars)
    quiet = on_a_terminal(site, NO_COLOR="1")
    assert "\x1b[?25l" in quiet
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", quiet)
    for plain in (on_a_terminal(site, TERM="dumb"), on_a_terminal(site, CI="true")):
        assert "\x1b" not in plain
        assert "packages from tiny" in plain


def test_a_command_line_that_is_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compose", "tree", "--nosuch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--nosuch" in done.stderr

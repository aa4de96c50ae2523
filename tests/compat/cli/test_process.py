"""The program as a process: what it imports, its streams, locale and completions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compose.cli.app import COMMANDS
from compose.doctor import _MODULES


def imported(code: str) -> set[str]:
    """Modules that an interpreter has afterwards."""
    tell = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_help_imports_no_command_and_no_stage():
    modules = imported("from compose.cli import main; main(['--help'])")
    own = {name for name in modules if name.startswith("compose.")}
    assert not {name for name in own if name.split(".")[1] in ("pipeline", "treefile", "solve", "sandbox")}
    assert not own & {f"compose.cli.{each.partition(':')[0]}" for each, _ in COMMANDS.values()}
    assert not modules & {"jsonschema", "rich", "yaml", "libdnf5", "rpm"}


def test_until_a_compose_has_something_to_make_it_imports_nothing_to_make_it_with():
    """Most composes are unchanged, and as soon over as these would be imported."""
    modules = imported("from compose.cli.app import load; load('tree'); import compose.pipeline.run")
    parts = {name.split(".")[1] for name in modules if name.startswith("compose.")}
    assert not parts & {"sandbox", "workroot", "blobs", "fetch", "importer", "assemble", "postprocess", "label"}
    assert not modules & {f"compose.solve.{name}" for name in ("dnf", "repositories", "locked", "links", "advisories")}
    assert not modules & {"jsonschema", "rich", "yaml", "libdnf5", "rpm"}
    assert not modules & {"configparser", "ctypes", "secrets", "tempfile", "urllib.parse"}


def test_doctor_needs_no_module_that_it_looks_for():
    modules = imported("import compose.cli.doctor")
    assert not modules & {*_MODULES, "libdnf5", "rpm", "selinux"}


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "status"), [("tree --help", 0), ("tree --no-such-flag", 2)])
def test_streams_that_the_caller_closed(closed: str, words: str, status: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m compose {words} {closed}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stdout + done.stderr
    if status and "2>" not in closed:
        assert "--no-such-flag" in done.stderr
    assert "--no-such-flag" not in done.stdout


def test_file_names_are_utf_8_in_any_locale() -> None:
    program = "import os, sys; from compose.cli import program; sys.exit(program())"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program, "tree", "--repo=/no/grüße", "/no/grüße.yaml"],
        env=os.environ | locale,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert "grüße".encode() in done.stderr


def test_hardly_anything_is_imported_before_an_interrupt_is_handled() -> None:
    own = {name for name in imported("import compose.cli") if name.startswith("compose")}
    assert own == {"compose", "compose.cli"}


def test_an_interrupt_before_there_is_a_handler_or_after_prints_no_traceback() -> None:
    program = (
        "import os, signal, compose.cli as cli; cli.main = lambda: os.kill(os.getpid(), signal.SIGINT); cli.program()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("words", [["fmt"], ["show", "--origin"], ["lint"], ["lint", "--format=codequality"]])
def test_names_that_are_not_utf_8_are_printed_as_they_are(words: list[str], tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(path, "wb") as file:
        file.write(b"packages:    [x]\nrepos:\n    - a\n")
    done = subprocess.run(
        [sys.executable, "-m", "compose", "treefile", *words, path],
        # as in a locale like en_US.UTF-8
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert (b"udcff.yaml" if "--format=codequality" in words else path) in done.stdout


def test_who_stops_reading_hears_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "compose", "treefile", "schema"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    "words", [["tree", "/no/t.yaml"], ["tree", "--no-such-flag"], ["treefile", "fmt", "/no/t.yaml"]]
)
def test_a_log_that_nobody_reads_changes_no_exit_code(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "compose", *words]
    with open("/dev/full", "wb") as full:
        assert [subprocess.run(command, stderr=log, check=False).returncode for log in (writing, full)] == [2, 2]
    os.close(writing)


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["tr"], ["tree", "treefile"]),
        (["tree", "--write-co"], ["--write-commitid-to", "--write-composejson-to", "--write-codequality-to"]),
        (["tree", "--progress", "j"], ["json"]),
        (["lock", "up"], ["update"]),
        # "default": with the names of files
        (["tree", "fed"], ["default"]),
        (["lock", "fed"], ["default"]),
        (["lock", "update", "fed"], ["default"]),
        (["treefile", "fmt", "fed"], ["default"]),
        (["tree", "fed.yaml", "--repo", "re"], ["default"]),
        (["size", "--repo", "re"], ["default"]),
    ],
)
def test_a_shell_completes(words: list[str], replies: list[str], tmp_path: Path) -> None:
    program = tmp_path / "compose"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={Path.cwd()} exec {sys.executable} -m compose "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_COMPOSE_COMPLETE=bash_source compose)"\ncompopt() { echo "$2"; }\n'
        'COMP_WORDS=(compose "$@") COMP_CWORD=$#\n_compose_completion compose\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (replies, "")

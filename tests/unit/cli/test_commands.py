"""What `compose --help` lists without importing it is what the commands are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from compose.cli.app import COMMANDS, load


@pytest.mark.parametrize("name", COMMANDS)
def test_each_is_listed_with_its_own_words(name):
    assert load(name).get_short_help_str(limit=1000) == COMMANDS[name][1]


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

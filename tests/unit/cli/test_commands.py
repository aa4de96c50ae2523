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

"""Run an example on the demonstration's packages: `make example NAME=flavours`."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.ordinary import Stage

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT / "examples"
AS_USER = frozenset({"rootless"})


def command(name: str, work: Path, universe: Path, script: str = "run.sh") -> tuple[list[str], dict[str, str]]:
    """What to run in WORK, which exists, and with which environment; `compose` is this project's."""
    program = work / ".bin/compose"
    program.parent.mkdir()
    as_user = name in AS_USER
    project = Path("/mnt/project") if as_user else PROJECT
    # what pip makes of the console script
    program.write_text(f'#!/bin/sh\nPYTHONPATH={project} exec {sys.executable} -m compose "$@"\n')
    program.chmod(0o755)
    run = project / "examples" / name / script
    if as_user:
        # the user sees the packages elsewhere
        repofile = work / "universe.repo"
        repofile.write_text((universe / "universe.repo").read_text().replace(str(universe.resolve()), "/mnt/packages"))
        before = f"mount --bind {shlex.quote(str(repofile))} /mnt/packages/universe.repo"
        stage = Stage(directory=work, bound={"bin": program.parent, "packages": universe}, before=before)
        words = ["env", f"PATH=/mnt/bin:{os.environ['PATH']}", "PACKAGES=/mnt/packages", str(run)]
        return [*stage.prefix(), *words], dict(os.environ)
    changed = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PACKAGES": str(universe.absolute())}
    return [str(run)], os.environ | changed


def main() -> int:
    names = sorted(path.parent.name for path in EXAMPLES.glob("*/run.sh"))
    parser = argparse.ArgumentParser(prog="python3 -m tests.demo.example")
    parser.add_argument("name", choices=names)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--universe", type=Path, required=True)
    options = parser.parse_args()
    work: Path = (options.output / options.name).absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    arguments, environment = command(options.name, work, options.universe)
    print(f"in {work}", flush=True)
    return subprocess.run(arguments, cwd=work, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

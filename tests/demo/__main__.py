"""The demonstration: real packages in, a commit out, pulled by the real client.

`make demo` runs it. Everything is made below the output directory:

    treefile/   the treefile and its .repo file         cache/      cachedir of the composes
    repo/       the OSTree repository (archive)         client/     repository of the pulling client (bare)
    checkout/   the commit, checked out as root
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def say(text: str) -> None:
    print(f"\n==> {text}", flush=True)


def run(*argv: str | Path) -> str:
    """Run a program, output to the terminal; stdout is returned too. Exits with its status when it fails."""
    print("$", *argv, flush=True)
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    sys.stdout.flush()
    if done.returncode:
        raise SystemExit(f"demo: {argv[0]} failed with status {done.returncode}")
    return done.stdout


@contextlib.contextmanager
def served(repo: Path) -> Iterator[str]:
    """`compose serve` on loopback, at a port that is free; the URL."""
    command = [sys.executable, "-m", "compose", "serve", f"--repo={repo}", "--port=0", "--format=json"]
    print("$", *command, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                raise SystemExit(f"demo: compose serve failed with status {server.wait()}")
            yield json.loads(line)["url"]
        finally:
            server.terminate()


def size_of(directory: Path) -> float:
    """Bytes on disk, in MB."""
    out = subprocess.run(["du", "-sk", str(directory)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(out.split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.demo")
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    parser.add_argument("--universe", type=Path, default=Path("build/universe"))
    options = parser.parse_args()
    output: Path = options.output.resolve()
    universe: Path = options.universe.resolve()
    begun = time.monotonic()

    say("Turning real Debian packages into an RPM repository (cached; only what changed is made again)")
    run(sys.executable, "-m", "tests.universe", "min", "--output", universe)

    output.mkdir(parents=True, exist_ok=True)
    for name in ("repo", "client", "checkout", "treefile"):
        shutil.rmtree(output / name, ignore_errors=True)
    treefile = output / "treefile" / "min.yaml"
    treefile.parent.mkdir()
    shutil.copy(PROJECT / "treefiles/demo/min.yaml", treefile)
    shutil.copy(universe / "min/universe.repo", treefile.parent)
    repo = output / "repo"
    run("ostree", f"--repo={repo}", "init", "--mode=archive")
    run("ostree", f"--repo={repo}", "config", "set", "core.auto-update-summary", "true")

    command = (
        *(sys.executable, "-m", "compose", "tree", treefile, f"--repo={repo}", f"--cachedir={output / 'cache'}"),
        f"--write-composejson-to={output / 'compose.json'}",
    )
    say("Composing")
    run(*command)
    result = json.loads((output / "compose.json").read_text())
    say("Composing again: nothing changed")
    again = run(*command)
    if "No apparent changes" not in again:
        raise SystemExit("demo: the second compose should have found nothing to do")

    ref, commit = result["ref"], result["ostree-commit"]
    client, checkout = output / "client", output / "checkout"
    say("Pulling over HTTP with the real ostree")
    run("ostree", f"--repo={client}", "init", "--mode=bare")
    with served(repo) as url:
        run("ostree", f"--repo={client}", "remote", "add", "--no-gpg-verify", "demo", url)
        run("ostree", f"--repo={client}", "pull", "demo", ref)
    run("ostree", f"--repo={client}", "fsck")
    run("ostree", f"--repo={repo}", "fsck")
    run("ostree", f"--repo={client}", "checkout", "-H", f"demo:{ref}", checkout)
    run("ls", "-lZ", checkout)

    say("Done")
    print(f"  ref       {ref}\n  commit    {commit}\n  version   {result['ostree-version']}")
    print(f"  packages  {result['packages']}")
    print(f"  sizes     repository {size_of(repo):.1f} MB, checkout {size_of(checkout):.1f} MB")
    print("  stages    " + ", ".join(f"{name} {seconds:.1f}s" for name, seconds in result["stage-seconds"].items()))
    print(f"  total     {time.monotonic() - begun:.0f}s\n  look at   ostree --repo={repo} ls -C {ref}")


if __name__ == "__main__":
    main()

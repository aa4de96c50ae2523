"""Static deltas beside `ostree static-delta generate`: the composed tree after one leaf package changed, and from nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.measure import ROUNDS, best, measure, row, size_of
from tests.bench.site import Site

_TOLD = ["sh", "-c", 'told=$1; shift; exec "$@" >"$told"', "sh"]


def bench_delta(site: Site) -> dict[str, Any]:
    """bytes: of superblock and parts, which have the same objects on both sides. more: from nothing, once."""
    _ = site.cold
    # whichever of the two the last compose was not
    for name in ("v2", "v3"):
        site.compose(name)
    site.rest()
    return _row(site, "delta-one-leaf", ROUNDS, more=_row(site, "delta-empty", 1, "--empty"))


def _row(site: Site, name: str, rounds: int, *flags: str, **more: Any) -> dict[str, Any]:
    repo = site.composed
    # all of it in parts: files that are fetched as they are take both the same, which is nothing
    words = [_ref(repo), *flags, "--min-fallback-size=0"]
    told = site.scratch / "delta.json"
    ours_flags = [f"--repo={repo}", "--progress=none", "--format=json"]
    commands: dict[str, list[str | Path]] = {
        "ours": [*_TOLD, told, sys.executable, "-m", "compose", "delta", *ours_flags, *words],
        "peer": ["ostree", f"--repo={repo}", "static-delta", "generate", *words],
    }
    runs: dict[str, list[Any]] = {"peer": [], "ours": []}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for who, done in runs.items():
            subprocess.run(["rm", "-rf", repo / "deltas"], check=True)
            done.append((measure(commands[who]), None))
            sizes[who] = size_of(repo / "deltas")
    found = json.loads(told.read_text())
    (ours, _), (peer, _) = best(runs["ours"]), best(runs["peer"])
    # what xz can do at best is not among the rates of a machine
    floor = {"total": 0.0}
    of_ours, of_peer = ({"bytes": sizes[who]} for who in ("ours", "peer"))
    return row(name, ours, peer, floor, of_ours=of_ours, of_peer=of_peer, loose_bytes=found["loose_bytes"], **more)


def _ref(repo: Path) -> str:
    done = subprocess.run(["ostree", f"--repo={repo}", "refs"], check=True, stdout=subprocess.PIPE, text=True)
    return next(each for each in done.stdout.split() if each.endswith("/main"))

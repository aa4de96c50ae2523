"""Ours and the peers side by side, in one run, on the same input: `make bench` writes build/bench.json.

A list of rows: name; ours, peer (wall and cpu in seconds, bytes of the repository's objects); ratio_wall, ratio_cpu (peer's
divided by ours: higher is better); peak_rss_mb of our largest process; floor, what no program can go below here.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from tests.bench.commit import bench_commit
from tests.bench.compose import bench_compose


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--universe", type=Path, default=Path("build/universe"))
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    output: Path = options.output.resolve()
    scratch = output.parent / "bench"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tree = scratch / "tree"
    rows: list[dict[str, Any]] = [bench_compose(options.universe.resolve(), scratch / "compose", tree=tree)]
    shutil.rmtree(scratch / "compose")
    rows += [bench_commit(tree, scratch / "commit", mode=mode) for mode in ("archive", "bare-user")]
    temporary = output.with_suffix(".tmp")
    temporary.write_text(json.dumps(rows, indent=2) + "\n")
    temporary.rename(output)
    shutil.rmtree(scratch)
    for row in rows:
        print(summary(row))
    print(f"written to {output}")


def summary(row: dict[str, Any]) -> str:
    """One line of a row."""
    ours, peer = row["ours"], row["peer"]
    return (
        f"{row['name']:18} ours {ours['wall']:6.1f} s, {ours['bytes'] / 1e6:6.1f} MB;"
        f" peer {peer['wall']:6.1f} s, {peer['bytes'] / 1e6:6.1f} MB;"
        f" {row['ratio_wall']:.1f}x wall, {row['ratio_cpu']:.1f}x cpu; {row['peak_rss_mb']} MB at most"
    )


if __name__ == "__main__":
    main()

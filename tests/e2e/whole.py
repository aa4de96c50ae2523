"""The sets of the universe, each composed once for all tests of a run."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.run import compose_tree
from tests.compat.ostree.test_commit import ostree
from tests.universe.__main__ import SETS
from tests.universe.archive import read_roots
from tests.universe.knowledge import NOT_NEEDED

PROJECT = Path(__file__).parents[2]
UNIVERSE = Path(os.environ.get("COMPOSE_UNIVERSE", PROJECT / "build/universe/min"))


@dataclass(frozen=True)
class Whole:
    """A set, composed into an empty repository with an empty cache. top: has treefile/whole.yaml, repo and cache."""

    result: ComposeResult
    top: Path

    @property
    def treefile(self) -> Path:
        return self.top / "treefile/whole.yaml"


def treefile_in(directory: Path, name: str) -> Path:
    """A treefile with all that a set of the universe is about."""
    directory.mkdir()
    shutil.copy(PROJECT / "treefiles/demo/min.yaml", directory)
    shutil.copy(UNIVERSE.with_name(name) / "universe.repo", directory)
    whole = directory / "whole.yaml"
    # what is a package's other name in Debian has nothing to be asked for
    roots = [each for each in read_roots(SETS / f"{name}.txt") if each not in NOT_NEEDED]
    whole.write_text(json.dumps({"include": "min.yaml", "packages": roots}))
    return whole


def compose_whole(name: str, top: Path) -> Whole:
    """Compose a set in an empty directory. Skips the test when the set was not made."""
    if not (UNIVERSE.with_name(name) / "universe.repo").exists():
        pytest.skip("make universe first")
    ostree(top / "repo", "init", "--mode=archive")
    options = ComposeOptions(
        treefile=str(treefile_in(top / "treefile", name)),
        cachedir=str(top / "cache"),
        repo=str(top / "repo"),
        jobs=os.cpu_count() or 1,
    )
    result = compose_tree(options, Reporter())
    assert result.outcome is Outcome.COMMITTED
    return Whole(result=result, top=top)

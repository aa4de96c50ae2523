"""What the bench computes, apart from measuring."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import ROWS, summary
from tests.bench.measure import Cost, best, exponent, measure, row


@pytest.mark.parametrize("power", [0, 1, 2])
def test_the_exponent_of_a_power_law(power: int) -> None:
    assert exponent((size, 3.0 * size**power) for size in (10, 20, 40, 80)) == power


def test_a_row_says_how_much_better_and_how_far_from_the_floor() -> None:
    ours, peer = (Cost(wall=wall, cpu=wall * 2, rss=10, together=20) for wall in (2, 10))
    found = row("commit-archive", ours, peer, {"total": 1.0}, of_ours={"bytes": 5}, of_peer={"bytes": 6}, exponent=1.0)
    assert (found["ratio_wall"], found["ratio_cpu"], found["above_floor"]) == (5, 5, 2)
    assert found["name"] in ROWS
    assert "5.00x wall" in summary(json.loads(json.dumps(found)))


def test_the_best_run_hides_no_memory() -> None:
    quick, slow = Cost(wall=1, cpu=3, rss=10, together=20), Cost(wall=2, cpu=2, rss=11, together=19)
    assert best([(slow, "slow"), (quick, "quick")]) == (Cost(wall=1, cpu=3, rss=11, together=20), "quick")


def test_what_a_program_takes_is_its_own(tmp_path: Path) -> None:
    held = bytearray(100 << 20)
    small = measure([sys.executable, "-I", "-S", "-c", "pass"], cwd=tmp_path)
    large = measure([sys.executable, "-I", "-S", "-c", "x = bytes(range(256)) * (80 << 12)"], cwd=tmp_path)
    assert small.rss < 50 < 80 <= large.rss < 130
    assert len(held) > large.rss
    with pytest.raises(RuntimeError, match="status 3"):
        measure([sys.executable, "-c", "raise SystemExit(3)"])

"""One line for each pull."""

from __future__ import annotations

from compose.serve.paths import Resource, parse_target
from compose.serve.pulls import QUIET, Pulls
from tests.support.told import Told
from tests.unit.serve.test_paths import HEX, NAME, OBJECT


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def resource(target: str) -> Resource:
    found = parse_target(target)
    assert found is not None
    return found


def test_lines() -> None:
    told, clock = Told(), Clock()
    pulls = Pulls(lambda commit: f"<{commit[:4]}>", told, clock)
    pulls.note("one", resource("/config"), 10)
    pulls.note("one", resource("/summary"), None)
    pulls.note("two", resource("/summary"), 100)
    for extension, size in (("commit", 1_000_000), ("filez", 500_000)):
        pulls.note("one", resource(f"/objects/{OBJECT}.{extension}"), size)
    pulls.note("one", resource(f"/objects/{OBJECT}.commitmeta"), None)
    pulls.report()
    assert told.infos == []
    clock.now += QUIET / 2
    pulls.note("one", resource(f"/deltas/{NAME[:2]}/{NAME[2:]}/0"), 500_000)
    clock.now += QUIET / 2
    pulls.report()
    assert told.infos == ["two: checked for updates"]
    clock.now += QUIET / 2
    pulls.report()
    assert told.infos[1:] == [f"one: pulled <{HEX[:4]}>: 2 objects, 1 delta parts, 2.0 MB in 1.0s"]
    pulls.report(final=True)
    assert len(told.infos) == 2


def test_what_is_missing_is_told() -> None:
    told = Told()
    pulls = Pulls(str, told)
    pulls.note("one", resource(f"/objects/{OBJECT}.filez"), None)
    pulls.report(final=True)
    assert "1 OBJECTS ARE MISSING" in told.infos[0]

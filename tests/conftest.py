"""For all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_HERE = Path(__file__).parent
_LONGEST_NAME = 100
# Modules that take minutes, the longest first: at the end, one worker would be alone with them.
_LONGEST = (
    "e2e/test_boot.py",
    "e2e/test_reproducible.py",
    "e2e/test_min.py",
    "compat/workroot/test_rootless.py",
    "e2e/test_offenders.py",
    "compat/assemble/test_dnf5.py",
    "e2e/test_large.py",
    "e2e/test_recompose.py",
    "e2e/test_another_host.py",
)

# How long something takes on a machine that does other things too decides nothing.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A quarter of the examples, for `make unit` while one writes code.
settings.register_profile("quick", settings.get_profile("tests"), max_examples=25)
settings.load_profile("tests")

# A shell starts what it puts into the background with SIGINT ignored, and children inherit that: tests that interrupt
# something would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Have workers take modules in this order. By default xdist sorts by number of tests, and those with one take longest."""
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path.relative_to(_HERE)), len(places)))


def pytest_make_parametrize_id(config: object, val: object, argname: str) -> str | None:
    """What stands in for a long text in the name of a test: some are of megabytes."""
    del config
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > _LONGEST_NAME else None

"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

_LONGEST_NAME = 100

# How long something takes on a machine that does other things too decides nothing.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A quarter of the examples, for `make unit` while one writes code.
settings.register_profile("quick", settings.get_profile("tests"), max_examples=25)
settings.load_profile("tests")

# A shell starts what it puts into the background with SIGINT ignored, and children inherit that: tests that interrupt
# something would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(config: object, val: object, argname: str) -> str | None:
    """What stands in for a long text in the name of a test: some are of megabytes."""
    del config
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > _LONGEST_NAME else None

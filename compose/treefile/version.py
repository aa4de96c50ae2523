"""Automatic versions: automatic-version-prefix and a counter that continues from the previous commit's version."""

from __future__ import annotations

import re
import time

_TAG = re.compile(r"<([a-z-]+):([^>]*)>")


def next_version(prefix: str, separator: str, last: str | None, now: int) -> str:
    """The version after `last`, by rpm-ostree's rule.

    prefix: may contain <date:FORMAT>, with a strftime(3) format; the date is in UTC. now: seconds since 1970. The first version
    is the prefix alone, or with .0 if it contains a date. Raises ValueError for an unknown tag.
    """
    dated = False

    def tag(match: re.Match[str]) -> str:
        nonlocal dated
        if match[1] != "date":
            raise ValueError(f"unknown tag <{match[1]}:{match[2]}>; the only one is <date:FORMAT>")
        dated = True
        return time.strftime(match[2], time.gmtime(now))

    rendered = _TAG.sub(tag, prefix)
    first = f"{rendered}{separator}0" if dated else rendered
    if last is None or not last.startswith(rendered):
        return first
    rest = last[len(rendered) :]
    if not rest:
        return f"{rendered}{separator}{0 if dated else 1}"
    if not rest.startswith(separator):
        return first
    counted = re.match(r"[0-9]+", rest[len(separator) :])
    return f"{rendered}{separator}{int(counted[0]) + 1 if counted else 0}"

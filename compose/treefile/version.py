"""Automatic versions: automatic-version-prefix and a counter that continues from the previous commit's version."""

from __future__ import annotations

import re
import time

_DATE = re.compile(r"<date:([^>]*)>")
_OTHER_TAG = re.compile(r"<(?!date:)[a-z-]+:[^>]*>")


def unknown_tags(prefix: str) -> list[str]:
    """The tags of an automatic-version-prefix that next_version() does not know: all but <date:FORMAT>."""
    return _OTHER_TAG.findall(prefix)


def next_version(prefix: str, separator: str, last: str | None, now: int) -> str:
    """The version after `last`, by rpm-ostree's rule.

    prefix: may contain <date:FORMAT>, with a strftime(3) format; the date is in UTC. now: seconds since 1970. The first version
    is the prefix alone, or with .0 if it contains a date.
    """
    rendered, dated = _DATE.subn(lambda match: time.strftime(match[1], time.gmtime(now)), prefix)
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

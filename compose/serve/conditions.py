"""Conditional and range requests (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import os
import re
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def etag_of(status: os.stat_result) -> str:
    """Entity tag: changes when the file is replaced or written to."""
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def last_modified_of(status: os.stat_result) -> str:
    return formatdate(int(status.st_mtime), usegmt=True)


def not_modified(none_match: str | None, modified_since: str | None, status: os.stat_result) -> bool:
    """Whether the client's copy is current.

    none_match, modified_since: the headers If-None-Match and If-Modified-Since; the latter is ignored if both are given.
    """
    if none_match is not None:
        return none_match.strip() == "*" or etag_of(status) in _TAG.findall(none_match)
    if modified_since is None:
        return False
    try:
        date = parsedate_to_datetime(modified_since)
        since = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        # an invalid date is ignored
        return False
    return int(status.st_mtime) <= since


def requested_range(header: str | None, if_range: str | None, status: os.stat_result) -> range | None:
    """The bytes that a Range header asks for: empty if it cannot be satisfied, None for the whole file.

    The whole file also answers several ranges, an unknown unit, and a client with a part of an older file (If-Range).
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or (if_range is not None and if_range.strip() not in (etag_of(status), last_modified_of(status))):
        return None
    first, last = match.groups()
    size = status.st_size
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)

"""What a request may ask of a file: only when it changed, or a part of it (RFC 9110, 13 and 14)."""

from __future__ import annotations

import os
import re
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def etag_of(status: os.stat_result) -> str:
    """Another file of the name, or another content, has another one."""
    return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'


def last_modified_of(status: os.stat_result) -> str:
    return formatdate(int(status.st_mtime), usegmt=True)


def is_known(none_match: str | None, modified_since: str | None, status: os.stat_result) -> bool:
    """Does a client have it as it is? none_match, modified_since: its headers If-None-Match and If-Modified-Since, of which
    the first counts where both are there."""
    if none_match is not None:
        return none_match.strip() == "*" or etag_of(status) in _TAG.findall(none_match)
    if modified_since is None:
        return False
    try:
        date = parsedate_to_datetime(modified_since)
        since = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        # no date, and so no condition
        return False
    return int(status.st_mtime) <= since


def part_of(header: str | None, if_range: str | None, status: os.stat_result) -> range | None:
    """The bytes that a Range header asks for: an empty range when there are none of these, None for the whole file.

    The whole file is what answers several ranges, a unit that is none, and a client whose part is of another file (If-Range).
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

"""Ranges, tags and dates of requests."""

from __future__ import annotations

import os

import pytest

from compose.serve.conditions import etag_of, last_modified_of, not_modified, requested_range

TIMES = {"st_mtime": 1_700_000_000.5, "st_mtime_ns": 1_700_000_000_500_000_000}
STATUS = os.stat_result((0o100644, 7, 0, 1, 0, 0, 10, 0, 1_700_000_000, 0), TIMES)
EMPTY = os.stat_result((0o100644, 7, 0, 1, 0, 0, 0, 0, 1_700_000_000, 0), TIMES)
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-3", range(0, 4)),
        ("bytes=4-", range(4, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-30", range(0, 10)),
        ("bytes=9-9", range(9, 10)),
        ("Bytes=8-999999999999999999", range(8, 10)),
        ("bytes=0-0", range(0, 1)),
        # of another unit, several, or no range: the whole
        *((text, None) for text in (None, "", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1")),
        *(
            (text, None)
            for text in ("bytes=a-b", "bytes=0x1-2", "bytes=+1-2", "bytes=\u0661-2", f"bytes={'9' * 5000}-")
        ),
    ],
)
def test_range(header: str | None, part: range | None) -> None:
    assert requested_range(header, None, STATUS) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_range_of_what_is_not_there(header: str) -> None:
    part = requested_range(header, None, STATUS)
    assert part is not None
    assert not part


def test_range_of_an_empty_file() -> None:
    for header in ("bytes=0-", "bytes=-1"):
        part = requested_range(header, None, EMPTY)
        assert part is not None
        assert not part


@pytest.mark.parametrize(("if_range", "held"), [(etag_of(STATUS), True), (DATE, True), ('"x"', False), ("x", False)])
def test_range_of_the_file_that_a_client_has_begun(if_range: str, held: bool) -> None:
    assert (requested_range("bytes=5-", if_range, STATUS) is not None) is held


def test_tag_and_date() -> None:
    assert last_modified_of(STATUS) == DATE
    assert etag_of(STATUS) != etag_of(EMPTY)


@pytest.mark.parametrize(
    ("none_match", "since", "known"),
    [
        (None, None, False),
        (etag_of(STATUS), None, True),
        (f'"x", W/{etag_of(STATUS)}', None, True),
        ("*", None, True),
        ('"x"', None, False),
        (etag_of(STATUS).strip('"'), None, False),
        # where there is a tag, the date does not count
        ('"x"', DATE, False),
        (None, DATE, True),
        (None, "Tue, 14 Nov 2023 22:13:21 GMT", True),
        (None, "Tue, 14 Nov 2023 22:13:19 GMT", False),
        (None, "Tue, 14 Nov 2023 22:13:20 -0000", True),
        *((None, text, False) for text in ("", "yesterday", "99999", "Tue, 99 Nov 99999 99:99:99 GMT")),
    ],
)
def test_known(none_match: str | None, since: str | None, known: bool) -> None:
    assert not_modified(none_match, since, STATUS) is known

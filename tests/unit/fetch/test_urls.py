"""Mirrors of a metalink: by preference, and whatever stands there is no traceback."""

from __future__ import annotations

from compose.fetch.urls import _mirrors


def metalink(*urls: str) -> str:
    rows = "".join(urls)
    return f'<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file>{rows}</file></files></metalink>'


def url(host: str, preference: str = "1", protocol: str = "https") -> str:
    where = f"{protocol}://{host}/repodata/repomd.xml"
    return f'<url protocol="{protocol}" preference="{preference}">{where}</url>'


def test_the_best_first() -> None:
    text = metalink(url("b", "50"), url("a", "100"), url("no", "best"), url("rsync", "100", "rsync"))
    assert _mirrors(text) == ["https://a/", "https://b/", "https://no/"]


def test_what_is_no_metalink() -> None:
    assert _mirrors("<metalink") == []
    assert _mirrors("<html></html>") == []

"""Mirrors of a metalink: by preference, and whatever stands there is no traceback."""

from __future__ import annotations

import pytest

from compose.fetch.urls import _mirrors, _urls
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Reason, ResolvedPackage


def metalink(*urls: str) -> str:
    rows = "".join(urls)
    return f'<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file>{rows}</file></files></metalink>'


def url(host: str, preference: str = "1", protocol: str = "https") -> str:
    where = f"{protocol}://{host}/repodata/repomd.xml"
    return f'<url protocol="{protocol}" preference="{preference}">{where}</url>'


def test_the_best_first() -> None:
    local = url("x").replace("https://", "file:///")
    text = metalink(url("b", "50"), url("a", "100"), url("no", "best"), url("rsync", "100", "rsync"), local)
    assert _mirrors(text) == ["https://a/", "https://b/", "https://no/"]


def test_what_is_no_metalink() -> None:
    assert _mirrors("<metalink") == []
    assert _mirrors("<html></html>") == []


@pytest.mark.parametrize(
    ("base", "urls"),
    [
        ("", ["https://a/x/a.rpm", "https://b/x/a.rpm"]),
        ("ftp://c/pool/", ["ftp://c/pool/x/a.rpm", "https://a/x/a.rpm", "https://b/x/a.rpm"]),
        ("../pool", ["https://a/x/a.rpm", "https://b/x/a.rpm"]),
        ("/etc", ["https://a/x/a.rpm", "https://b/x/a.rpm"]),
    ],
)
def test_a_packages_own_base_first(base: str, urls: list[str]) -> None:
    package = ResolvedPackage(
        nevra=Nevra(name="a", epoch=0, version="1", release="1", arch="noarch"),
        repo="r",
        location="x/a.rpm",
        checksum=("sha256", "00"),
        download_size=1,
        install_size=1,
        source_rpm="",
        reason=Reason.REQUESTED,
        base=base,
    )
    assert list(_urls(package, ("https://a/", "https://b"))) == urls

"""Manifests compared, layer by layer."""

from __future__ import annotations

import json

import pytest

from compose.errors import ImageError
from compose.oci.difference import compare_manifests, parse_manifest


def manifest(**layers: int) -> bytes:
    return json.dumps({"layers": [{"digest": name, "size": size} for name, size in layers.items()]}).encode()


def test_what_a_client_fetches() -> None:
    found = compare_manifests(
        parse_manifest(manifest(a=1, b=10, c=100), "old"), parse_manifest(manifest(b=10, c=100, d=1000, e=7), "new")
    )
    assert found.total == (4, 1117)
    assert found.added == (2, 1007)
    assert found.removed == (1, 1)
    assert found.kept == (2, 110)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "not an image manifest"),
        (b'{"layers":' + 100_000 * b"[", "nested too deeply"),
        (b"[]", "it has no layers"),
        (b'{"manifests": []}', "it lists several images"),
        (b'{"layers": [{}]}', "a layer has no digest or no size"),
        (b'{"layers": [], "mediaType": "text/plain"}', "is a text/plain"),
    ],
)
def test_what_is_no_manifest(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        parse_manifest(data, "x")

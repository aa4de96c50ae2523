"""The records of a commit, as they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from compose.errors import FetchError
from compose.inputhash import Input, InputKind
from compose.records import Records, Run, decode, encode, read_sources


def test_what_is_kept_is_read_back() -> None:
    records = Records(
        writers={"usr": "step:root", "usr/bin": "package:a-1-1.noarch"},
        programs=(Run(owner="package:a-1-1.noarch", phase="%post", status=0, seconds=0.5, changed=("etc/a",)),),
        inputs=(Input(kind=InputKind.KEY, name="ref", value="x"),),
        places={"a": "x.yaml:1"},
        marks={"usr": "0" * 16},
    )
    assert decode(encode(records)) == records


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[" * 200_000, b'{"version": 1, "writers": [], "programs": []}'])
def test_what_is_damaged(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(zstandard.ZstdCompressor().compress(text))
    with pytest.raises(ValueError):
        decode(text)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    assert read_sources(str(tmp_path / "missing"), str(tmp_path)) is None
    with pytest.raises(FetchError, match=r"cannot read .*: Is a directory"):
        read_sources(str(tmp_path), str(tmp_path))


def test_what_claims_to_be_huge_is_not_believed() -> None:
    # a zstd frame with a content size of 8 bytes, RFC 8878
    with pytest.raises(ValueError):
        decode(b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00")

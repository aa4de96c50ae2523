"""Headers of tar streams, with the standard library's reader and a strict one as judges."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.oci import tar
from tests.support.imageimporter import entries

_NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=70).filter(
        lambda each: each not in (".", "..")
    ),
    min_size=1,
    max_size=8,
).map("/".join)
_XATTRS = st.dictionaries(
    st.text("abcdefgh._", min_size=1, max_size=90).map(str.encode), st.binary(max_size=1000), max_size=3
)


def read(stream: bytes) -> list[tarfile.TarInfo]:
    return tarfile.open(fileobj=io.BytesIO(stream)).getmembers()


@given(
    name=_NAMES,
    link=_NAMES,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    xattrs=_XATTRS,
)
def test_what_is_said_is_read(name, link, mode, uid, gid, xattrs) -> None:
    more = tar.xattrs(list(xattrs.items()))
    stream = tar.entry(name, tar.SYMLINK, mode=mode, uid=uid, gid=gid, link=link, more=more) + tar.END
    (strict,) = entries(stream)
    assert (strict.name, strict.kind, strict.target) == (name, "symlink", link)
    assert (strict.mode, strict.uid, strict.gid) == (mode, uid, gid)
    assert strict.pax == {key.decode(): value for key, value in xattrs.items()}
    (info,) = read(stream)
    assert (info.name, info.linkname) == (name.rstrip("/"), link)
    assert (info.mode, info.uid, info.gid, info.mtime, info.uname) == (mode, uid, gid, 0, "")


@pytest.mark.parametrize("size", [0, 1, 512, (8 << 30) - 1, 8 << 30, 1 << 40])
def test_sizes_are_in_the_header_itself(size: int) -> None:
    header = tar.entry("x", tar.REGULAR, mode=0o644, size=size)
    assert len(header) == tar.BLOCK
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_a_file_fills_whole_blocks(size: int) -> None:
    stream = tar.file("a/b", b"x" * size)
    assert len(stream) % tar.BLOCK == 0
    (entry,) = entries(stream + tar.END)
    assert entry.data == b"x" * size


def test_an_object_has_one_header() -> None:
    """Its name is longer than 100 bytes: a header of its own for the name would double what layers of small files have."""
    name = f"sysroot/ostree/repo/objects/ab/{'c' * 62}.file-xattrs-link"
    assert len(tar.entry(name, tar.REGULAR, mode=0o644)) == tar.BLOCK

"""Tar streams of others: every form of a header, with the standard library's writer as judge, and damage."""

from __future__ import annotations

import contextlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import ImageError
from compose.oci import tar
from compose.oci.untar import Kind, TarEntry, TarReader
from tests.support.layers import directory, hard_link, layer, member, symlink

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda each: not each.endswith("/")
)
_FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]


def read(stream: bytes) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(io.BytesIO(stream), "x")
    return [(entry, b"".join(reader.data())) for entry in reader]


@given(
    name=_NAMES,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    data=st.binary(max_size=2000),
    mtime=st.one_of(st.integers(0, 2**33), st.integers(0, 2**40).map(lambda each: each / 256)),
    xattrs=st.dictionaries(
        st.text("abc._", min_size=1, max_size=99),
        st.binary(min_size=1, max_size=999).filter(lambda each: b"\0" not in each),
        max_size=3,
    ),
)
def test_what_tarfile_writes(name, mode, uid, data, mtime, xattrs) -> None:
    pax = {f"SCHILY.xattr.{key}": value.decode(errors="surrogateescape") for key, value in xattrs.items()}
    # a NUL or not, what is no UTF-8 is not written as it is by tarfile
    pax = {key: value for key, value in pax.items() if value.isprintable()}
    ((entry, found),) = read(layer(member(name, data=data, mode=mode, uid=uid, mtime=mtime, pax_headers=pax)))
    assert (entry.name, entry.kind, entry.mode, entry.uid, found) == (name, Kind.FILE, mode, uid, data)
    assert entry.mtime == int(mtime)
    assert {f"SCHILY.xattr.{key.decode()}": value.decode() for key, value in entry.xattrs} == pax


@given(
    name=_NAMES.filter(lambda each: "//" not in each and not each.startswith("/")),
    link=_NAMES,
    xattrs=st.dictionaries(st.binary(min_size=1, max_size=90).filter(lambda each: b"=" not in each), st.binary(min_size=1)),
    size=st.sampled_from([0, 1, 511, 512, 513, 70_000]),
)  # fmt: skip
def test_what_is_written_here(name, link, xattrs, size) -> None:
    more = tar.xattrs(sorted(xattrs.items()))
    stream = tar.entry(name, tar.SYMLINK, mode=0o777, uid=1 << 31, link=link, more=more) + tar.file("f", b"x" * size)
    (first, nothing), (second, data) = read(stream + tar.END)
    assert (first.name, first.link, first.uid, first.xattrs) == (name, link, 1 << 31, tuple(sorted(xattrs.items())))
    assert (nothing, second.size, data) == (b"", size, b"x" * size)


@pytest.mark.parametrize("kind", _FORMATS)
def test_forms(kind: int) -> None:
    long = "d/" * 40 + "n" * 60
    stream = layer(
        directory("d"),
        member(long, data=b"1"),
        symlink("s", "/x"),
        hard_link("h", long[-90:]),
        member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("pipe", tarfile.FIFOTYPE),
        member("cont", tarfile.CONTTYPE, b"2"),
        kind=kind,
    )
    found = read(stream)
    assert [entry.kind for entry, _ in found] == [
        Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK, Kind.LINK, Kind.CHARACTER, Kind.FIFO, Kind.FILE
    ]  # fmt: skip
    assert [entry.name.rstrip("/") for entry, _ in found] == ["d", long, "s", "h", "null", "pipe", "cont"]
    assert (found[2][0].link, found[3][0].link, found[4][0].device) == ("/x", long[-90:], (1, 3))
    # who does not ask for the content gets what is next all the same, and an end is none that nobody needs
    bare = stream.rstrip(b"\0")
    assert [each.name for each in TarReader(io.BytesIO(bare + tar.padding(len(bare))), "x")][-1] == "cont"


def test_a_global_header_says_nothing() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"path": "other", "comment": "c"}) as file:
        file.addfile(tarfile.TarInfo("x"))
    assert [entry.name for entry, _ in read(out.getvalue())] == ["x"]


def test_before_1970_is_1970() -> None:
    assert read(layer(member("x", mtime=-5.5)))[0][0].mtime == 0
    assert read(layer(member("x", mtime=-5), kind=tarfile.GNU_FORMAT))[0][0].mtime == 0


def test_an_old_writer_counts_bytes_with_a_sign() -> None:
    header = bytearray(tar.entry("ä", tar.REGULAR, mode=0o644))
    header[148:156] = b"%06o\0 " % (int(header[148:154], 8) - 2 * 256)
    assert [entry.name for entry, _ in read(bytes(header))] == ["ä"]


def pax(data: bytes, size: int | None = None) -> bytes:
    header = tar.entry("p", b"x", mode=0, size=len(data) if size is None else size)
    return header + data + tar.padding(len(data)) + tar.file("f", b"")


def test_of_several_pax_headers_the_last_counts() -> None:
    ((entry, _),) = read(tar.xattrs([(b"user.a", b"1")]) + tar.xattrs([(b"user.b", b"2")]) + tar.file("f", b""))
    assert entry.xattrs == ((b"user.b", b"2"),)


def patched(place: int, data: bytes) -> bytes:
    """A file whose header has other bytes somewhere, and the right checksum."""
    header = bytearray(tar.file("f", b"x"))
    header[place : place + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"x" * 100, "cut short"),
        (b"x" * 512, "the checksum in a header is not a number"),
        (tar.file("f", b"x")[:600], "cut short"),
        (tar.file("f", b"x" * 600)[:1024], "cut short"),
        (tar.entry("f", tar.REGULAR, mode=0, size=1 << 40), "cut short"),
        (b"g" + tar.file("f", b"x")[1:], "does not match its checksum"),
        (patched(124, b"0000000000x\0"), "the size in a header is not a number"),
        (patched(124, b"+000000001\0\0"), "the size in a header is not a number"),
        (patched(124, b"\xff" * 12), "the size in a header is negative"),
        (patched(108, b"\x80" + b"\xff" * 7), "has the owner"),
        (patched(156, b"S"), "a GNU sparse file"),
        (patched(156, b"Z"), "of type b'Z'"),
        (patched(0, b"\xff"), "not UTF-8"),
        (pax(b"13 size=hello\n"), "a malformed record"),
        (pax(b"14 size=hello\n"), "the size in a header is not a number"),
        (pax(b"99 path=x\n"), "a malformed record"),
        (pax(b"0 path=x\n"), "a malformed record"),
        (pax(b"path=x\n"), "a malformed record"),
        (pax(b"9 path=x!"), "a malformed record"),
        (pax(b"8 path x\n"), "a malformed record"),
        (pax(b"9 path=\xff\n"), "not UTF-8"),
        (pax(b"22 GNU.sparse.major=1\n"), "a GNU sparse file"),
        (pax(b"", size=1 << 40), "exceeds the limit"),
        (pax(b"9 path=x\n")[:1024], "ends after an extended header"),
    ],
)
def test_damage(stream: bytes, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(stream)
    assert said in caught.value.message
    assert caught.value.message.startswith("x: ")


@given(st.binary(max_size=1500), st.integers(0, 1500))
def test_whatever_it_is(data: bytes, at: int) -> None:
    good = tar.xattrs([(b"user.a", b"b")]) + tar.file("f", b"x")
    for stream in (data, good[:at] + data + good[at:]):
        with contextlib.suppress(ImageError):
            read(stream)

"""Headers as an installation leaves them, beside what librpm makes of the same."""

from __future__ import annotations

import stat

import pytest
import rpm

from compose.errors import AssembleError
from compose.events import Reporter
from compose.rpm import brought
from compose.rpm.database import FileState, installed_header
from compose.rpm.header import load_header, text_of
from compose.rpm.manifest import FileFlag, ManifestFile, PackageManifest
from compose.rpm.nevra import Nevra
from tests.support.rpmmaker import INT16, INT32, Member, RpmMaker

EPOCH = 1700000000
# not sorted, as other builders write them
FILES = [("/usr/share/b/", "x"), ("/usr/share/a/", "ü"), ("/usr/share/b/", "a"), ("/", "top")]


def manifest(files: list[tuple[str, str]]) -> PackageManifest:
    header = rpm.hdr()
    header["name"] = "odd"
    if files:
        directories = sorted({directory for directory, _ in files})
        header["dirnames"] = directories
        header["basenames"] = [name for _, name in files]
        header["dirindexes"] = [directories.index(directory) for directory, _ in files]
    rows = [
        ManifestFile(
            path=f"{directory}{name}"[1:], mode=stat.S_IFREG, user="root", group="root", mtime=0, flags=FileFlag(0)
        )
        for directory, name in files
    ]
    return PackageManifest(
        nevra=Nevra(name="odd", epoch=0, version="1", release="1", arch="noarch"),
        sha256="0" * 64,
        source_rpm="",
        build_time=0,
        size=0,
        header=header.unload(),
        files=tuple(sorted(rows, key=lambda row: row.path)),
        scriptlets=(),
        triggers=(),
    )


@pytest.mark.parametrize("files", [[], FILES])
def test_librpm_reads_what_it_would_have_written(files):
    odd = manifest(files)
    expected = rpm.hdr(odd.header)
    for tag, value in (("installtime", EPOCH), ("installtid", EPOCH), ("installcolor", 3)):
        expected[tag] = value
    found = rpm.hdr(installed_header(odd, {}, EPOCH))
    assert {tag: found[tag] for tag in expected.keys()} == {tag: expected[tag] for tag in expected.keys()}  # noqa: SIM118
    assert list(found["filestates"]) == [0] * len(files)


def test_what_was_left_out_is_said_so():
    unusual = {
        "usr/share/a/ü": FileState.NOT_INSTALLED,
        "usr/share/b/a": FileState.WRONG_COLOR,
        "elsewhere": FileState.NOT_INSTALLED,
    }
    found = rpm.hdr(installed_header(manifest(FILES), unusual, EPOCH))
    names = [f"{directory}{name}" for directory, name in FILES]
    assert found["filenames"] == names
    assert list(found["filestates"]) == [0, 2, 4, 0]


def test_a_time_that_a_header_cannot_hold():
    assert rpm.hdr(installed_header(manifest([]), {}, 1 << 40))["installtime"] == (1 << 32) - 1


@pytest.mark.parametrize(
    ("written", "read"),
    [(None, ""), ("Ünïcode", "Ünïcode"), (b"Caf\xe9".decode(errors="surrogateescape"), "Caf\ufffd")],
)
def test_texts_can_be_written_whatever_their_encoding_was(written, read):
    assert text_of(written) == read
    read.encode()


@pytest.mark.parametrize("tags", [{1030: (INT16, [stat.S_IFREG])}, {1037: None}, {1118: None}, {1116: (INT32, [0, 9])}])
def test_file_lists_that_lie_are_damage(tmp_path, monkeypatch, tags):
    path = tmp_path / "some.rpm"
    path.write_bytes(RpmMaker([Member("/usr/a"), Member("/usr/b")], tags=tags).build())
    with path.open("rb") as file:
        header = load_header(file.fileno())
    monkeypatch.setattr(brought, "headers_in", lambda _: [header])
    with pytest.raises(AssembleError, match=r"database is damaged: the files of nasty-1\.0-1\.noarch cannot be read"):
        brought._list_files("", Reporter())

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import PackageError, StorageError
from compose.importer.unpack import unpack_rpm
from tests.support.rpmmaker import INT32, STRINGS, Member, RpmMaker, directory, newc_entry, symlink

FILE = stat.S_IFREG | 0o644


@pytest.fixture
def store(tmp_path):
    return BlobStore(str(tmp_path / "blobs"))


@pytest.fixture
def unpack(tmp_path, store):
    def run(maker):
        path = tmp_path / "some.rpm"
        path.write_bytes(maker.build())
        return unpack_rpm(str(path), "5" * 64, store)

    return run


def files(manifest):
    return {file.path: file for file in manifest.files}


@pytest.mark.parametrize("stripped", [False, True], ids=["newc", "stripped"])
def test_a_package(unpack, store, stripped):
    big = os.urandom(2_500_001)
    manifest = unpack(
        RpmMaker(
            [
                directory("/usr"),
                Member("/usr/big", big, mode=stat.S_IFREG | 0o755, mtime=17),
                Member("/usr/empty"),
                Member("/usr/bin/su", b"su", mode=stat.S_IFREG | 0o4755, caps="cap_setuid=ep"),
                symlink("/usr/bin/l", "../big"),
                Member("/etc/ghost", flags=64, in_archive=False),
                Member("/usr/dev", mode=stat.S_IFCHR | 0o666),
            ],
            stripped=stripped,
        )
    )
    found = files(manifest)
    assert list(found) == sorted(found)
    blob = found["usr/big"].blob
    assert store.read(blob) == big
    assert (blob.mode, blob.mtime) == (0o755, 17)
    assert store.read(found["usr/empty"].blob) == b""
    assert (found["usr/bin/su"].blob.mode, stat.S_IMODE(found["usr/bin/su"].mode)) == (0o600, 0o4755)
    assert found["usr/bin/l"].target == "../big"
    assert [found[path].blob for path in ("usr", "etc/ghost", "usr/bin/l", "usr/dev")] == [None] * 4
    assert (manifest.sha256, manifest.size) == ("5" * 64, len(big) + 2)


@pytest.mark.parametrize("prefix", [b"./", b"/", b""])
def test_names_as_builders_write_them(unpack, prefix):
    unpack(RpmMaker([directory("/", archive_name=prefix), Member("/a", archive_name=prefix + b"a")]))


# RPMSIGTAG_FILESIGNATURES of rpm's rpmtag.h
FILESIGNATURES = 274


def test_signatures_for_ima(unpack):
    """As rpmsign --signfiles writes them: one per file in the header's order, zeros where there is none."""
    signature = "0302" + "04" + "0badcafe" + "0002" + "ffff"
    members = [directory("/usr"), Member("/usr/a", b"a"), Member("/usr/b", b"b"), symlink("/usr/l", "a")]
    tags = {FILESIGNATURES: (STRINGS, [signature, signature, "00" * 9, signature])}
    found = files(unpack(RpmMaker(members, signature_tags=tags)))
    assert {path: file.ima.hex() for path, file in found.items()} == {
        "usr": "", "usr/a": signature, "usr/b": "", "usr/l": "",
    }  # fmt: skip


@pytest.mark.parametrize(("text", "complaint"), [("xyz", "is not hexadecimal"), ("aa" * 70000, "longer than 65536")])
def test_signatures_for_ima_that_are_none(unpack, text, complaint):
    maker = RpmMaker([Member("/usr/a", b"a")], signature_tags={FILESIGNATURES: (STRINGS, [text])})
    with pytest.raises(PackageError, match=complaint):
        unpack(maker)


def test_an_empty_package(unpack):
    assert unpack(RpmMaker()).files == ()


@pytest.mark.parametrize(("number", "name"), [(1, "md5"), (2, "sha1"), (10, "sha512")])
def test_other_file_digests(unpack, number, name):
    maker = RpmMaker([Member("/a", b"content")], digest_number=number, digest_name=name)
    unpack(maker)
    maker.members[0].digest = hashlib.new(name, b"other").hexdigest()
    with pytest.raises(PackageError, match=f"{name} digest"):
        unpack(maker)


class TestHardLinks:
    @pytest.mark.parametrize("carrier", [0, 1, 2])
    def test_content_comes_with_any_of_the_names(self, unpack, store, carrier):
        members = [
            Member(f"/usr/{name}", b"shared", inode=9, archive_content=None if place == carrier else b"")
            for place, name in enumerate("abc")
        ]
        found = files(unpack(RpmMaker([*members, Member("/usr/d", b"shared")])))
        assert {found[f"usr/{name}"].blob for name in "abcd"} == {found["usr/a"].blob}
        assert store.read(found["usr/a"].blob) == b"shared"
        assert found["usr/a"].link == found["usr/b"].link == found["usr/c"].link != 0
        assert found["usr/d"].link == 0

    def test_in_a_stripped_archive_the_last_has_it(self, unpack, store):
        members = [Member("/usr/a", b"shared", inode=9, archive_content=b""), Member("/usr/b", b"shared", inode=9)]
        found = files(unpack(RpmMaker(members, stripped=True)))
        assert store.read(found["usr/a"].blob) == b"shared"

    def test_groups_are_told_apart(self, unpack):
        members = [Member(f"/{name}", inode=7 + place // 2) for place, name in enumerate("abcd")]
        found = files(unpack(RpmMaker(members)))
        assert found["a"].link == found["b"].link != found["c"].link == found["d"].link

    def test_the_same_inode_on_another_device_is_another_file(self, unpack):
        members = [Member("/a", b"1", inode=7), Member("/b", b"2", inode=7)]
        found = files(unpack(RpmMaker(members, tags={1095: (INT32, [1, 2])})))
        assert (found["a"].link, found["b"].link) == (0, 0)

    def test_names_that_differ_in_what_an_inode_holds_are_no_links(self, unpack, store):
        members = [
            Member("/a", b"shared", inode=7, archive_content=b""),
            Member("/b", b"shared", inode=7, archive_content=b"", mode=stat.S_IFREG | 0o755),
            Member("/c", b"shared", inode=7, mtime=5),
        ]
        found = files(unpack(RpmMaker(members)))
        assert [found[name].link for name in "abc"] == [0, 0, 0]
        assert [(found[name].blob.mode, found[name].blob.mtime) for name in "abc"] == [
            (0o644, 1_700_000_000),
            (0o755, 1_700_000_000),
            (0o644, 5),
        ]
        assert all(store.read(found[name].blob) == b"shared" for name in "abc")

    def test_content_that_never_comes_is_named(self, unpack):
        members = [Member(f"/{name}", b"shared", inode=7, archive_content=b"") for name in "ab"]
        with pytest.raises(PackageError, match="'/a': the payload has no content for any of its hard links"):
            unpack(RpmMaker(members))

    def test_a_link_to_content_of_another_digest_is_refused(self, unpack):
        members = [
            Member("/a", b"nice", inode=7, archive_content=b""),
            Member("/b", b"evil", inode=7),
        ]
        with pytest.raises(PackageError, match="its size or digest in the header differs"):
            unpack(RpmMaker(members))

    def test_many_files_without_inode_numbers_are_no_links(self, unpack):
        found = files(unpack(RpmMaker([Member("/a", b"1", inode=0), Member("/b", b"2", inode=0)])))
        assert found["a"].link == found["b"].link == 0


def zeros(size):
    return Member("/usr/a", size=1, archive_content=bytes(size))


HOSTILE = {
    "dot-dot": (RpmMaker([Member("/usr/../etc/passwd")]), "/usr/../etc/passwd", "'..'"),
    "dot-dot first": (RpmMaker([Member("/../../etc/passwd")]), "/../../etc/passwd", "'..'"),
    "double slash": (RpmMaker([Member("/usr//a")]), "/usr//a", "''"),
    "relative": (RpmMaker([Member("/a")], tags={1118: (STRINGS, ["usr/"])}), "usr/a", "not absolute"),
    "newline": (RpmMaker([Member("/usr/a\nb")]), "/usr/a\\nb", "newline"),
    "not utf-8": (RpmMaker([Member("/usr/caf\udce9")]), "/usr/caf\\udce9", "UTF-8"),
    "long component": (RpmMaker([Member("/usr/" + "x" * 256)]), "/usr/xxx", "255"),
    "long path": (RpmMaker([Member("/" + "x/" * 2100)]), "/x/x", "4095"),
    "root as a symlink": (RpmMaker([symlink("/", "etc")]), "/", "the root must be a directory"),
    "through its own symlink": (
        RpmMaker([symlink("/usr/x", "/etc"), Member("/usr/x/passwd")]),
        "/usr/x",
        "a symlink of the same package",
    ),
    "deep through its own symlink": (
        RpmMaker([Member("/usr/x/y/z/passwd"), symlink("/usr/x", "/etc")]),
        "/usr/x",
        "a symlink of the same package",
    ),
    "through its own file": (RpmMaker([Member("/usr/x"), Member("/usr/x/y")]), "/usr/x", "a file of the same"),
    "directory and symlink": (RpmMaker([directory("/usr/x"), symlink("/usr/x", "/etc")]), "/usr/x", "listed twice"),
    "listed twice": (RpmMaker([Member("/usr/a"), Member("/usr/a")]), "/usr/a", "listed twice"),
    "fifo": (RpmMaker([Member("/usr/p", mode=stat.S_IFIFO | 0o644)]), "/usr/p", "a fifo"),
    "socket": (RpmMaker([Member("/usr/s", mode=stat.S_IFSOCK | 0o644)]), "/usr/s", "a socket"),
    "no type": (RpmMaker([Member("/usr/s", mode=0o644)]), "/usr/s", "no known type"),
    "symlink to nothing": (RpmMaker([symlink("/usr/l", "")]), "/usr/l", "without a target"),
    "symlink not utf-8": (RpmMaker([symlink("/usr/l", "\udce9")]), "/usr/l", "UTF-8"),
    "symlink too long": (RpmMaker([symlink("/usr/l", "x" * 4096)]), "/usr/l", "4095"),
    "other target in the payload": (
        RpmMaker([symlink("/l", "a", archive_content=b"b")]),
        "/l",
        "its symlink target in the payload differs",
    ),
    "longer target in the payload": (
        RpmMaker([symlink("/l", "a", archive_content=bytes(1 << 20))]),
        "/l",
        "its symlink target in the payload differs",
    ),
    "twice in the payload": (
        RpmMaker([Member("/a"), Member("/b", in_header=False, archive_name=b"./a")]),
        "/a",
        "in the payload twice",
    ),
    "not in the header": (RpmMaker([Member("/a"), Member("/b", in_header=False)]), "./b", "which its header lacks"),
    "escaping in the payload": (
        RpmMaker([Member("/a"), Member("/b", in_header=False, archive_name=b"./../../etc/passwd")]),
        "./../../etc/passwd",
        "which its header lacks",
    ),
    "no name in the payload": (
        RpmMaker([Member("/a"), Member("/b", in_header=False, archive_name=b"")]),
        "''",
        "which its header lacks",
    ),
    "hidden by a dot": (
        RpmMaker([Member("/a", archive_name=b".a")]),
        ".a",
        "which its header lacks",
    ),
    "not in the payload": (RpmMaker([Member("/a"), Member("/b", in_archive=False)]), "/b", "not in the payload"),
    "index out of range": (
        RpmMaker([Member("/a"), Member("/b", in_header=False)], stripped=True),
        "file 1",
        "which its header lacks",
    ),
    "ghost in the payload": (RpmMaker([Member("/a", flags=64)]), "/a", "%ghost"),
    "larger than it says": (RpmMaker([zeros(2)]), "/usr/a", "2 bytes in the payload, 1 in the header"),
    "bomb": (RpmMaker([zeros(8 << 20)]), "/usr/a", "bytes in the payload, 1 in the header"),
    "smaller than it says": (RpmMaker([Member("/a", b"abc", archive_content=b"ab")]), "/a", "2 bytes in the payload"),
    "other content": (RpmMaker([Member("/a", b"abc", archive_content=b"xyz")]), "/a", "sha256 digest"),
    "digest of another kind": (RpmMaker([Member("/a", b"abc", digest="900150983cd24fb0")]), "/a", "sha256 digest"),
    "digest that is none": (RpmMaker([Member("/a", b"abc", digest="../../x")]), "/a", "not hexadecimal"),
    "directory with content": (RpmMaker([directory("/d", archive_content=b"x")]), "/d", "not a regular file"),
    "device with content": (
        RpmMaker([Member("/d", mode=stat.S_IFBLK | 0o600, archive_content=b"x")]),
        "/d",
        "not a regular file",
    ),
    "symlink that is a file in the payload": (
        RpmMaker([symlink("/l", "a", archive_mode=FILE)]),
        "/l",
        "its type in the payload",
    ),
    "file that is a device in the payload": (
        RpmMaker([Member("/a", archive_mode=stat.S_IFCHR | 0o666)]),
        "/a",
        "its type in the payload",
    ),
    "garbage behind the archive": (
        RpmMaker(
            [Member("/a")], change_archive=lambda archive: archive + newc_entry(b"./etc/passwd", FILE, b"root::0:0")
        ),
        "nasty-1.0-1.noarch",
        "continues after the end",
    ),
    "cut archive": (
        RpmMaker([Member("/a", b"abc" * 99)], change_archive=lambda archive: archive[:200]),
        "nasty-1.0-1.noarch",
        "truncated",
    ),
    "cut file": (
        RpmMaker([Member("/a", os.urandom(9999))], change_file=lambda file: file[:-4000]),
        "nasty-1.0-1.noarch",
        "its payload",
    ),
    "nothing": (RpmMaker([Member("/a")], change_file=lambda file: b""), "some.rpm", "not an RPM"),
    "header only": (
        RpmMaker([Member("/a")], change_payload=lambda payload: b"", tags={5092: None, 5093: None}),
        "nasty-1.0-1.noarch",
        "truncated",
    ),
    # where its files vouch for the payload, fetch alone looks at its digest
    "payload of another package, weak digests": (
        RpmMaker([Member("/a")], tags={5092: (STRINGS, ["0" * 64])}, digest_number=1, digest_name="md5"),
        "nasty-1.0-1.noarch",
        "digest",
    ),
    "payload of another package, a file without digest": (
        RpmMaker([Member("/a"), Member("/b", digest="")], tags={5092: (STRINGS, ["0" * 64])}),
        "nasty-1.0-1.noarch",
        "digest",
    ),
}


@pytest.mark.parametrize(("maker", "place", "fault"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_packages_are_refused_and_named(unpack, maker, place, fault):
    with pytest.raises(PackageError) as caught:
        unpack(maker)
    message = caught.value.message
    assert message.startswith(("some.rpm: ", "nasty-1.0-1.noarch: "))
    assert place in message
    assert fault in message


def test_nothing_of_a_refused_package_is_left_half_written(unpack, store):
    for maker, _, _ in HOSTILE.values():
        with pytest.raises(PackageError):
            unpack(maker)
    assert os.listdir(f"{store.root}/tmp") == []
    for path in Path(store.root).glob("??/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.name.partition(".")[0]


def test_ghosts_may_be_anything(unpack):
    ghosts = [
        Member("/run/p", mode=stat.S_IFIFO | 0o600, flags=64, in_archive=False),
        symlink("/usr/x", "/etc", flags=64, in_archive=False),
        Member("/usr/x/y"),
        symlink("/usr/empty", "", flags=64, in_archive=False),
    ]
    assert all(file.blob is None for path, file in files(unpack(RpmMaker(ghosts))).items() if path != "usr/x/y")


def test_a_file_that_cannot_be_read_is_a_storage_error(store, tmp_path):
    with pytest.raises(StorageError, match=r"missing\.rpm"):
        unpack_rpm(str(tmp_path / "missing.rpm"), "5" * 64, store)

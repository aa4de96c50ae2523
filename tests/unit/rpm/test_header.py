from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import PackageError
from compose.rpm.header import path_fault, read_header
from compose.rpm.manifest import FileFlag, ScriptKind, TriggerCondition, TriggerKind
from compose.rpm.nevra import Nevra
from tests.support.rpmmaker import INT16, INT32, INT64, STRING, STRINGS, Member, RpmMaker, directory, symlink

IN, UN, POSTUN, PREIN = 1 << 16, 1 << 17, 1 << 18, 1 << 25


@pytest.fixture
def header_of(tmp_path):
    def read(maker):
        path = tmp_path / "some.rpm"
        path.write_bytes(maker.build())
        fd = os.open(path, os.O_RDONLY)
        try:
            return read_header(fd, "some.rpm")
        finally:
            os.close(fd)

    return read


def test_files(header_of):
    header = header_of(
        RpmMaker(
            [
                directory("/"),
                Member("/usr/ünï", b"four", user="u", group="g", flags=1 | 16, lang="de", color=2, inode=7),
                symlink("/usr/l", "ünï"),
                Member("/usr/ping", caps="cap_net_raw=ep", mtime=4_000_000_000),
                Member("/usr/ghost", flags=64, in_archive=False),
            ]
        )
    )
    root, plain, link, ping, ghost = header.files
    assert (root.path, root.mode) == ("", stat.S_IFDIR | 0o755)
    assert (plain.path, plain.user, plain.group, plain.size) == ("usr/ünï", "u", "g", 4)
    assert (plain.lang, plain.color, plain.inode) == ("de", 2, (1, 7))
    assert plain.flags == FileFlag.CONFIG | FileFlag.NOREPLACE
    assert (link.target, plain.target) == ("ünï", None)
    assert (len(ping.caps), ping.mtime) == (20, 4_000_000_000)
    assert ghost.is_ghost


def test_the_package(header_of):
    maker = RpmMaker(tags={1003: (INT32, [3])}, release="4.fc42", arch="x86_64")
    header = header_of(maker)
    assert header.nevra == Nevra(name="nasty", epoch=3, version="1.0", release="4.fc42", arch="x86_64")
    assert header.source_rpm == "nasty-1.0-4.fc42.src.rpm"
    assert header.build_time == 1_700_000_001
    assert header.files == ()
    assert header.compressor == "zstd"
    assert maker.build()[header.payload_offset :].startswith(b"\x28\xb5\x2f\xfd")


def test_the_file_list_of_old_packages(header_of):
    tags = {1117: None, 1116: None, 1118: None, 1027: (STRINGS, ["/a", "/usr/b"])}
    header = header_of(RpmMaker([Member("/a"), Member("/usr/b")], tags=tags))
    assert [file.path for file in header.files] == ["a", "usr/b"]


def test_sizes_above_4_gib(header_of):
    maker = RpmMaker(
        [Member("/big")], tags={5008: (INT64, [5 << 30]), 5009: (INT64, [5 << 30]), 1028: None, 1009: None}
    )
    header = header_of(maker)
    assert header.files[0].size == 5 << 30
    assert header.size == 5 << 30


def test_scriptlets(header_of):
    tags = {
        1023: (STRING, "echo pre"),
        1085: (STRINGS, ["/bin/sh", "-x"]),
        1086: (STRING, "/sbin/ldconfig"),
        1152: (STRING, 'print("x")'),
        1154: (STRINGS, ["<lua>"]),
        5025: (INT32, [3]),
    }
    scripts = {each.kind: each.script for each in header_of(RpmMaker(tags=tags)).scriptlets}
    assert set(scripts) == {ScriptKind.PRE, ScriptKind.POST, ScriptKind.POSTTRANS}
    assert (scripts[ScriptKind.PRE].interpreter, scripts[ScriptKind.PRE].body) == (("/bin/sh", "-x"), "echo pre")
    assert (scripts[ScriptKind.POST].interpreter, scripts[ScriptKind.POST].body) == (("/sbin/ldconfig",), "")
    assert (scripts[ScriptKind.POSTTRANS].expand, scripts[ScriptKind.POSTTRANS].qformat) == (True, True)
    assert (scripts[ScriptKind.PRE].expand, scripts[ScriptKind.PRE].qformat) == (False, False)


@pytest.mark.parametrize(
    ("first", "name", "sense", "kind"),
    [
        (1065, "bash", IN, TriggerKind.IN),
        (1065, "bash", UN, TriggerKind.UN),
        (1065, "bash", POSTUN, TriggerKind.POSTUN),
        (1065, "bash", PREIN, TriggerKind.PREIN),
        (5066, "/usr/lib", IN, TriggerKind.FILE_IN),
        (5066, "/usr/lib", UN, TriggerKind.FILE_UN),
        (5066, "/usr/lib", POSTUN, TriggerKind.FILE_POSTUN),
        (5076, "/usr/lib", IN, TriggerKind.TRANS_FILE_IN),
        (5076, "/usr/lib", UN, TriggerKind.TRANS_FILE_UN),
        (5076, "/usr/lib", POSTUN, TriggerKind.TRANS_FILE_POSTUN),
    ],
)
def test_triggers(header_of, first, name, sense, kind):
    # scripts, programs, names, indices, versions, flags, priorities
    numbers = {
        1065: (1065, 1092, 1066, 1069, 1067, 1068, None),
        5066: (5066, 5067, 5069, 5070, 5071, 5072, 5084),
        5076: (5076, 5077, 5079, 5080, 5081, 5082, 5085),
    }[first]
    scripts, programs, names, indices, versions, flags, priorities = numbers
    tags = {
        scripts: (STRINGS, ["first", "second"]),
        programs: (STRINGS, ["/bin/sh", "<lua>"]),
        names: (STRINGS, [name, "other", name]),
        indices: (INT32, [0, 1, 1]),
        versions: (STRINGS, ["", "1.5", ""]),
        flags: (INT32, [sense, sense | 4, sense]),
    }
    if priorities:
        tags[priorities] = (INT32, [100, 2_000_000])
    one, two = header_of(RpmMaker(tags=tags)).triggers
    assert (one.kind, two.kind) == (kind, kind)
    assert one.conditions == (TriggerCondition(name=name, flags=sense, version=""),)
    assert [each.name for each in two.conditions] == ["other", name]
    assert two.conditions[0] == TriggerCondition(name="other", flags=sense | 4, version="1.5")
    assert (one.script.interpreter, one.script.body) == (("/bin/sh",), "first")
    assert (two.script.interpreter, two.script.body) == (("<lua>",), "second")
    assert (one.priority, two.priority) == ((100, 2_000_000) if priorities else (1_000_000, 1_000_000))


TRIGGER = {
    1065: (STRINGS, ["echo"]),
    1092: (STRINGS, ["/bin/sh"]),
    1066: (STRINGS, ["bash"]),
    1069: (INT32, [0]),
    1067: (STRINGS, [""]),
    1068: (INT32, [IN]),
}
FILES = [Member("/usr/a"), Member("/usr/b")]


@pytest.mark.parametrize(
    ("maker", "fault"),
    [
        (RpmMaker(tags={1000: (STRING, "../evil")}), "'../evil'"),
        (RpmMaker(tags={1001: (STRING, "1\n2")}), "invalid name, version"),
        (RpmMaker(tags={1124: (STRING, "drpm")}), "unknown format 'drpm'"),
        (RpmMaker(tags={1044: None, 1106: (INT32, [1])}), "source package"),
        (RpmMaker(FILES, digest_number=99), "digest algorithm 99"),
        (RpmMaker(FILES, tags={1030: (INT16, [0o100644])}), "2 files but 1 entries of FILEMODES"),
        (RpmMaker(FILES, tags={1116: (INT32, [0, 9])}), "directory that its header does not list"),
        (RpmMaker(FILES, tags={1116: None}), "does not say in which directories its files are"),
        (RpmMaker(FILES, tags={1039: (INT32, [0, 0])}), "its header is damaged"),
        (RpmMaker(tags={1000: None}), "or architecture ''"),
        (RpmMaker([Member("/usr/a", caps="cap_everything=ep")]), "'/usr/a': there is no capability"),
        (RpmMaker(tags=TRIGGER | {1069: (INT32, [5])}), "TRIGGERINDEX"),
        (RpmMaker(tags=TRIGGER | {1068: (INT32, [0])}), "does not say when it runs"),
        (RpmMaker(tags=TRIGGER | {1067: (STRINGS, ["", ""])}), "differ in length"),
        (RpmMaker(tags=TRIGGER | {1092: (STRINGS, ["/bin/sh", "x"])}), "differ in length"),
    ],
)
def test_headers_that_lie_are_refused(header_of, maker, fault):
    with pytest.raises(PackageError) as caught:
        header_of(maker)
    assert fault in caught.value.message
    assert caught.value.message.startswith("some.rpm: ")


@pytest.mark.parametrize("damage", [lambda file: b"", lambda file: file[:200], lambda file: b"x" * len(file)])
def test_what_is_no_rpm_is_refused(header_of, damage):
    with pytest.raises(PackageError, match=r"some\.rpm: not an RPM"):
        header_of(RpmMaker(FILES, change_file=damage))


def test_a_header_changed_after_it_was_made_is_refused(header_of):
    maker = RpmMaker(FILES, change_file=lambda file: file.replace(b"/usr/\0", b"/etc/\0"))
    with pytest.raises(PackageError, match="damaged"):
        header_of(maker)


@pytest.mark.parametrize(
    "tags",
    [
        {1000: (STRING, "sudo")},
        {1024: (STRING, "echo hostile"), 1086: (STRING, "/bin/sh")},
        {1030: (INT16, [0o104755, 0o104755])},
        {1039: (STRINGS, ["mallory", "mallory"])},
        {5010: (STRINGS, ["cap_sys_admin=ep", ""])},
        {5092: (STRINGS, ["0" * 64])},
    ],
    ids=str,
)
def test_no_signature_covers_the_signature_section(header_of, tags):
    """What is in it says nothing of the package (CVE-2021-3421): it is refused, or not looked at."""
    with suppress(PackageError):
        forged = header_of(RpmMaker(FILES, signature_tags=tags))
        plain = header_of(RpmMaker(FILES))
        assert forged == replace(plain, payload_offset=forged.payload_offset)


@pytest.mark.parametrize("path", ["", "usr", "usr/bin/[", "usr/...", "a" * 255, "/".join(["a" * 255] * 16)], ids=len)
def test_paths_a_tree_can_hold(path):
    assert path_fault(path) is None


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("usr/../etc", "'..'"),
        ("..", "'..'"),
        ("usr/./a", "'.'"),
        ("usr//a", "''"),
        ("/usr", "''"),
        ("usr/", "''"),
        ("a\nb", "newline"),
        ("a\0b", "NUL"),
        ("caf\udce9", "UTF-8"),
        ("é" * 128, "255 bytes"),
        ("/".join(["a" * 255] * 17), "4095 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_paths_a_tree_cannot_hold(path, fault):
    assert fault in (path_fault(path) or "")


@given(st.text("ab./\0\né", max_size=12))
def test_a_path_is_at_fault_for_one_of_its_components_or_characters(path):
    bad = "\0" in path or "\n" in path or any(each in ("", ".", "..") for each in path.split("/"))
    assert (path_fault(path) is not None) == (path != "" and bad)

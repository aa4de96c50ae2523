"""The lockfile of compose: what is written is read back, and what is not a lockfile is told."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compose.errors import TreefileError
from compose.lock.model import ArchLock, Change, Lock, LockedPackage, compare_locks, resolution_of
from compose.lock.own import format_lock, parse_lock
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, Reason, Reference, RepoSnapshot, Resolution, ResolvedPackage


def locked(
    name: str, version: str = "1", arch: str = "x86_64", epoch: int = 0, key: str = "ab" * 20, base: str = ""
) -> LockedPackage:
    return LockedPackage(
        package=ResolvedPackage(
            nevra=Nevra(name=name, epoch=epoch, version=version, release="2.fc43", arch=arch),
            repo="fedora",
            location=f"Packages/{name[0]}/{name}-{version}-2.fc43.{arch}.rpm",
            checksum=("sha256", "cd" * 32),
            download_size=10,
            install_size=20,
            source_rpm=f"{name}-{version}-2.fc43.src.rpm",
            reason=Reason.REQUESTED,
            specs=(name,),
            base=base,
        ),
        key=key,
    )


def arch_lock(*packages: LockedPackage, advisories: tuple[Advisory, ...] | None = None) -> ArchLock:
    return ArchLock(
        request="ef" * 32,
        specs=("bash", "glibc >= 2", "größe-\U00010000"),
        repos=(("fedora", 1_700_000_000),),
        packages=packages,
        advisories=advisories,
    )


FIXED = Advisory(
    id="FEDORA-2026-2",
    severity="important",
    packages=("bash-1:1-2.fc43.x86_64", "glibc-1-2.fc43.i686"),
    references=(
        Reference(url="https://b", title="CVE-2026-2"),
        # in the order of the updateinfo, not by name
        Reference(url="https://a", title="CVE-2026-1"),
    ),
)
BARE = Advisory(id="FEDORA-2026-1", severity="", packages=("glibc-1-2.fc43.x86_64",), references=())
GLIBC32 = locked("glibc", arch="i686")
LOCK = Lock(
    arches={
        "x86_64": arch_lock(
            locked("bash", epoch=1, key="", base="https://elsewhere/x/"),
            GLIBC32,
            locked("glibc"),
            advisories=(BARE, FIXED),
        ),
        "aarch64": arch_lock(locked("bash", arch="aarch64")),
        "s390x": arch_lock(advisories=()),
    }
)


def test_what_is_written_is_read_back() -> None:
    text = format_lock(LOCK)
    assert parse_lock(text.encode(), "x.lock") == LOCK
    assert format_lock(parse_lock(text.encode(), "x.lock")) == text


def test_a_line_per_package_both_of_two_architectures_too() -> None:
    """What rpm-ostree's format cannot hold: glibc.i686 beside glibc.x86_64."""
    lines = [line for line in format_lock(LOCK).splitlines() if '"nevra"' in line]
    assert [re.findall(r'"nevra": "([^"]*)"', line) for line in lines] == [
        ["bash-0:1-2.fc43.aarch64"],
        ["bash-1:1-2.fc43.x86_64"],
        ["glibc-0:1-2.fc43.i686"],
        ["glibc-0:1-2.fc43.x86_64"],
    ]


def test_a_base_is_told_of_the_package_that_has_one() -> None:
    text = format_lock(LOCK)
    (line,) = [line for line in text.splitlines() if "base" in line.split('"')]
    assert '.x86_64.rpm", "base": "https://elsewhere/x/", "checksum": ' in line
    with pytest.raises(TreefileError, match="base must be a string"):
        parse_lock(text.replace('"https://elsewhere/x/"', "7").encode(), "x.lock")


def test_a_line_per_advisory() -> None:
    lines = [line for line in format_lock(LOCK).splitlines() if "FEDORA" in line]
    assert lines == [
        '      - {"id": "FEDORA-2026-1", "packages": ["glibc-1-2.fc43.x86_64"]}',
        '      - {"id": "FEDORA-2026-2", "severity": "important", '
        '"packages": ["bash-1:1-2.fc43.x86_64", "glibc-1-2.fc43.i686"], '
        '"references": [{"url": "https://b", "title": "CVE-2026-2"}, {"url": "https://a", "title": "CVE-2026-1"}]}',
    ]


def test_without_advisories_is_not_the_same_as_with_none() -> None:
    text = format_lock(Lock(arches={"x86_64": arch_lock(locked("bash"), advisories=())}))
    assert text.endswith("    advisories: []\n")
    older = text.replace("compose-lock: 2", "compose-lock: 1").replace("    advisories: []\n", "")
    assert parse_lock(older.encode(), "x.lock").arches["x86_64"] == arch_lock(locked("bash"))


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, {*range(32)} - {9, 10, 13}))))
)
@example("\x7f\x85\x9f\u2028\u2029\ufeff\ufffe\uffff\t\r\n \\u0000 \"'")
def test_any_text_of_an_updateinfo_is_read_back(text: str) -> None:
    found = replace(FIXED, id=text, severity=text, references=(Reference(url=text, title=text),))
    lock = Lock(arches={"x86_64": arch_lock(locked("bash"), advisories=(found,))})
    assert parse_lock(format_lock(lock).encode(), "x.lock") == lock


GOOD = format_lock(Lock(arches={"x86_64": arch_lock(locked("bash"), advisories=(BARE, FIXED))}))
ROW = next(line for line in GOOD.splitlines(keepends=True) if '"nevra"' in line)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("compose-lock: 2", "compose-lock: 3", "x.lock:2:1: compose-lock: version 3 is not supported, only up to 2"),
        ("compose-lock: 2", "compose-lock: 0", "x.lock:2:1: compose-lock: version 0 is not supported, only up to 2"),
        ("compose-lock: 2", "compose-lock: true", "x.lock:2:1: compose-lock must be a number"),
        ("arches:", "arch:", "x.lock:3:1: arch: unknown key"),
        ("request: efef", "request: xyz", "x.lock:4:3: request must be 64 hexadecimal digits"),
        ('"size": 10', '"size": -1', "size must be a number of bytes"),
        ('"size": 10', '"size": "10"', "size must be a number of bytes"),
        ('"size": 10', f'"size": {1 << 63}', "size must be a number of bytes"),
        ('"size": 10, ', "", "size is missing"),
        (": 1700000000", ": -1", "x.lock:8:7: the time of a repository must be a number of seconds, below 2^32"),
        (": 1700000000", f": {1 << 32}", "x.lock:8:7: the time of a repository must be a number"),
        (": 1700000000", ": true", "x.lock:8:7: the time of a repository must be a number"),
        ('"sha256:cd', '"sha256 cd', "is not algorithm:digest"),
        ('"bash-0:1-2', '"bash-1-2', "is not name-epoch:version-release.arch"),
        ('"Packages/b', '"../b', "is outside of the repository"),
        ('"Packages/b', '"/b', "is outside of the repository"),
        ('"requested"', '"wanted"', "'wanted' is not one of requested, dependency, weak-dependency"),
        ('"repo": "fedora"', '"repo": "other"', "the repository 'other' of bash-1-2.fc43.x86_64 is not under repos"),
        ('"specs": ["bash"]}', '"specs": "bash"}', "specs must be a list of strings"),
        ("packages:", "packages: [", "not YAML"),
        ('      - {"nevra"', '      - 7\n      - {"nevra"', "nevra is missing"),
        (ROW, ROW + ROW, "x.lock:11:9: bash-1-2.fc43.x86_64 is given twice"),
        ("    advisories:", "    advisories: x\n    y:", "x.lock:11:5: advisories must be a list"),
        ('      - {"id"', '      - 7\n      - {"id"', "x.lock:12:9: id is missing"),
        ('"id": "FEDORA-2026-1"', '"id": 1', "x.lock:12:10: id must be a string"),
        ('"id": "FEDORA-2026-1"', '"id": "FEDORA-2026-2"', "x.lock:13:9: the advisory 'FEDORA-2026-2' is listed twice"),
        ('"id": "FEDORA-2026-1"', '"id": "\\e[2J"', "x.lock:12:10: id must not contain control characters"),
        ('{"id"', '{"kind": "x", "id"', "x.lock:12:10: kind: unknown key"),
        ('["glibc-1-2.fc43.x86_64"]', "[]", "x.lock:12:9: an advisory must list packages"),
        ('["glibc-1-2.fc43.x86_64"]', "[7]", "packages must be a list of strings"),
        ('["glibc-1-2.fc43.x86_64"]', '["\\a"]', "packages must not contain control characters"),
        ('"severity": "important"', '"severity": 3', "severity must be a string"),
        ('"references": [', '"references": [7, ', "x.lock:13:136: url is missing"),
        ('"references": [', '"references": 7, "x": [', "references must be a list"),
        (', "title": "CVE-2026-2"', "", "title is missing"),
        ('"CVE-2026-2"', '"\\a"', "title must not contain control characters"),
    ],
)
def test_faults_are_told_with_their_place(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(TreefileError) as caught:
        parse_lock(GOOD.replace(old, new, 1).encode(), "x.lock")
    told = "\n".join((caught.value.message, *caught.value.details))
    assert complaint in told
    assert re.match(r"x\.lock[: ]", told)


def test_a_fault_after_a_faulty_package_has_its_own_place() -> None:
    text = format_lock(Lock(arches={"x86_64": arch_lock(locked("bash"), locked("glibc"))}))
    number = next(number for number, line in enumerate(text.splitlines(), 1) if "glibc-" in line)
    text = text.replace('"size": 10', '"size": -1', 1)
    head, glibc = text.split('"glibc-', 1)
    text = head + '"glibc-' + glibc.replace('"repo": "fedora"', '"repo": "other"')
    with pytest.raises(TreefileError) as caught:
        parse_lock(text.encode(), "x.lock")
    (fault,) = [fault for fault in caught.value.details if "'other'" in fault]
    assert fault.startswith(f"x.lock:{number}:")


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=8)))
def test_never_a_traceback(change: bytes | tuple[int, bytes]) -> None:
    data = GOOD.encode()
    if isinstance(change, bytes):
        data = change
    else:
        place, inserted = change
        data = data[:place] + inserted + data[place + len(inserted) :]
    try:
        lock = parse_lock(data, "x.lock")
    except TreefileError as error:
        assert error.message
    else:
        assert parse_lock(format_lock(lock).encode(), "y") == lock


def test_changes() -> None:
    before = arch_lock(locked("bash"), locked("gone"), locked("glibc"), GLIBC32)
    after = arch_lock(locked("bash", "2"), locked("new"), locked("glibc"), GLIBC32)
    assert compare_locks(before, after).packages == (
        Change(
            name="bash", arch="x86_64", before=before.packages[0].package.nevra, after=after.packages[0].package.nevra
        ),
        Change(name="gone", arch="x86_64", before=before.packages[1].package.nevra, after=None),
        Change(name="new", arch="x86_64", before=None, after=after.packages[1].package.nevra),
    )
    assert not compare_locks(after, after)
    assert len(compare_locks(None, after).packages) == 4


def test_changes_of_advisories() -> None:
    old, new = (
        Advisory(id=name, severity="", packages=("bash-5.1-1.x86_64",), references=()) for name in ("OLD", "NEW")
    )
    lock = arch_lock(locked("bash"))
    before, after = replace(lock, advisories=(old,)), replace(lock, advisories=(new,))
    found = compare_locks(before, after)
    assert (found.packages, found.advisories_added, found.advisories_gone) == ((), (new,), (old,))
    assert compare_locks(None, after).advisories_added == (new,)
    # a lock of version 1 does not record them: they need not be new
    assert not compare_locks(replace(lock, advisories=None), after)


def test_changes_of_builds_that_are_installed_side_by_side() -> None:
    kernels = [locked("kernel", version) for version in ("6.8", "6.9", "6.10", "6.11")]
    nevras = [each.package.nevra for each in kernels]

    def sides(before: list[int], after: list[int]) -> list[tuple[Nevra | None, Nevra | None]]:
        found = compare_locks(*(arch_lock(*(kernels[number] for number in side)) for side in (before, after))).packages
        assert {(each.name, each.arch) for each in found} <= {("kernel", "x86_64")}
        return [(each.before, each.after) for each in found]

    assert sides([0, 1], [0, 1]) == []
    assert sides([0, 1], [1]) == [(nevras[0], None)]
    assert sides([0, 1], [1, 2]) == [(nevras[0], nevras[2])]
    assert sides([1], [1, 2, 3]) == [(None, nevras[3]), (None, nevras[2])]
    assert sides([1, 2], [3]) == [(nevras[2], nevras[3]), (nevras[1], None)]


def test_of_a_repository_only_the_time_is_locked() -> None:
    now = RepoSnapshot(id="fedora", timestamp=0, gpgcheck=True, gpgkeys=("file:///key",), priority=10)
    found = resolution_of(arch_lock(locked("bash")), Resolution(packages=(), repos=(now,)))
    assert found.repos == (replace(now, timestamp=1_700_000_000),)

"""The order of installation, beside librpm's own.

librpm 6 and later; those before take the members of a loop in the reverse order.
"""

from __future__ import annotations

import tempfile

import pytest
import rpm
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.errors import PackageError
from compose.rpm.order import order
from tests.e2e.whole import UNIVERSE
from tests.support.rpmmaker import INT32, STRINGS, Member, RpmMaker, Tag

pytestmark = pytest.mark.skipif(int(rpm.__version_info__[0]) < 6, reason="librpm before 6.0 orders loops otherwise")

# family of tags, name, flags, version
Need = tuple[str, str, int, str]
NAMES = [f"p{number:02}" for number in range(9)]
FLAGS = [
    0, rpm.RPMSENSE_SCRIPT_PRE, rpm.RPMSENSE_SCRIPT_POST, rpm.RPMSENSE_SCRIPT_PREUN, rpm.RPMSENSE_PRETRANS,
    rpm.RPMSENSE_POSTTRANS | rpm.RPMSENSE_SCRIPT_POSTUN, rpm.RPMSENSE_MISSINGOK, 1 << 29, rpm.RPMSENSE_CONFIG,
]  # fmt: skip
ORDERING, OTHERS = ["REQUIRE", "REQUIRE", "ORDER"], ["RECOMMEND", "SUGGEST", "SUPPLEMENT", "ENHANCE"]
VERSIONED = [rpm.RPMSENSE_EQUAL, rpm.RPMSENSE_GREATER | rpm.RPMSENSE_SCRIPT_PRE, rpm.RPMSENSE_LESS]


def librpm(headers: list[bytes]) -> list[int]:
    transaction = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    for position, header in enumerate(headers):
        transaction.addInstall(rpm.hdr(header), position, "i")
    transaction.order()
    return [element.Key() for element in transaction]


def header(name: str, needs: list[Need], color: int) -> bytes:
    tags: dict[int, Tag] = {}
    for family in ("PROVIDE", *{*ORDERING, *OTHERS}):
        rows = [row[1:] for row in needs if row[0] == family]
        if family == "PROVIDE":
            rows = [(name, rpm.RPMSENSE_EQUAL, "1-1")]
        if rows:
            names, flags, versions = zip(*rows, strict=True)
            for column, kind, values in (
                ("NAME", STRINGS, names),
                ("FLAGS", INT32, flags),
                ("VERSION", STRINGS, versions),
            ):
                tags[getattr(rpm, f"RPMTAG_{family}{column}")] = (kind, list(values))
    # one file, of which are all that it provides and requires
    requires = [number for number, row in enumerate(row for row in needs if row[0] == "REQUIRE")]
    entries = [ord("P") << 24, *(ord("R") << 24 | number for number in requires)]
    tags |= {1143: (INT32, [0]), 1144: (INT32, [len(entries)]), 1145: (INT32, entries)}
    return read(RpmMaker([Member(f"/usr/share/{name}", color=color)], name=name, version="1", tags=dict(tags)).build())


def read(package: bytes) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(package)
        file.seek(0)
        transaction = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
        return bytes(transaction.hdrFromFdno(file).unload())


@st.composite
def packages(draw: st.DrawFn) -> dict[str, tuple[list[Need], int]]:
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    single = st.sampled_from([*names, *(f"/usr/share/{name}" for name in names)])
    color = st.sampled_from([0, 0, 1, 2, 3])
    rich = st.builds("({} {} {})".format, single, st.sampled_from(["or", "and", "if", "unless", "with"]), single)
    needs = st.one_of(
        st.tuples(st.sampled_from(ORDERING), st.one_of(single, rich), st.sampled_from(FLAGS), st.just("")),
        st.tuples(st.sampled_from(ORDERING), single, st.sampled_from(VERSIONED), st.just("1-1")),
        st.tuples(st.sampled_from(OTHERS), single, st.just(0), st.just("")),
    )
    return {name: (draw(st.lists(needs, max_size=4)), draw(color)) for name in names}


@settings(max_examples=300, deadline=None)
@given(packages())
def test_any_packages(declared: dict[str, tuple[list[Need], int]]) -> None:
    headers = [header(name, needs, color) for name, (needs, color) in declared.items()]
    assert order([rpm.hdr(each) for each in headers]) == librpm(headers)


@pytest.mark.universe
@pytest.mark.parametrize("name", ["min", "big"])
def test_real_packages(name: str) -> None:
    directory = UNIVERSE.with_name(name)
    if not (directory / "universe.repo").exists():
        pytest.skip("make universe first")
    transaction = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    found = []
    for path in sorted(directory.rglob("*.rpm")):
        with path.open() as file:
            found.append(transaction.hdrFromFdno(file))
    headers = [each.unload() for each in sorted(found, key=lambda each: (each["name"], each["evr"], each["arch"]))]
    assert len(headers) > 200
    assert order([rpm.hdr(each) for each in headers]) == librpm(headers)


def test_dependencies_that_are_damaged() -> None:
    made = read(RpmMaker(name="bad", tags={rpm.RPMTAG_REQUIRENAME: (STRINGS, ["a", "b"])}).build())
    with pytest.raises(PackageError, match=r"^bad-1.0-1.noarch: its REQUIRE tags differ in length"):
        order([rpm.hdr(made)])

"""Which package must be there before which."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from compose.rpm.relations import Candidate, Dependency, relations_of
from compose.rpm.sorting import Relation

POST, PREUN, POSTTRANS, META = 1 << 10, 1 << 11, 1 << 5, 1 << 29
EQUAL, AT_LEAST = 8, 12


def package(
    name: str,
    *needs: str | Dependency,
    provides: tuple[Dependency, ...] = (),
    files: tuple[str, ...] = (),
    links: Mapping[str, str] | None = None,
    color: int = 0,
) -> Candidate:
    mine = Dependency(name=name, flags=EQUAL, version="1-1")
    declared = tuple(each if isinstance(each, Dependency) else need(each) for each in needs)
    return Candidate(provides=(mine, *provides), needs=declared, files=files, links=links or {}, color=color)


def need(name: str, flags: int = 0, version: str = "", *, weak: bool = False) -> Dependency:
    return Dependency(name=name, flags=flags, version=version, weak=weak)


def found(*packages: Candidate) -> list[tuple[int, int]]:
    return [(each.before, each.after) for each in relations_of(packages)]


def test_each_two_once_and_none_with_itself() -> None:
    rows = relations_of([package("a", "b", need("b", POST), "a", "nowhere"), package("b")])
    assert rows == [Relation(before=1, after=0, strong=True)]


@pytest.mark.parametrize("flags", [POSTTRANS, META, 1 << 24, 1 << 28])
def test_what_does_not_order(flags: int) -> None:
    assert not found(package("a", need("b", flags)), package("b"))
    assert found(package("a", need("b", flags | PREUN)), package("b")) == [(1, 0)]


def test_weak_ones_order_when_they_are_of_scriptlets_and_are_never_strong() -> None:
    assert not found(package("a", need("b", weak=True)), package("b"))
    rows = relations_of([package("a", need("b", POST, weak=True)), package("b")])
    assert rows == [Relation(before=1, after=0, strong=False)]


def test_versions_choose_between_providers() -> None:
    old, new = (Dependency(name="x", flags=EQUAL, version=version) for version in ("1", "2"))
    providers = (package("old", provides=(old,)), package("new", provides=(new,)))
    assert found(package("a", need("x", AT_LEAST, "2")), *providers) == [(2, 0)]
    assert found(package("a", need("x")), *providers) == [(1, 0)]
    assert not found(package("a", need("x", AT_LEAST, "3")), *providers)


@pytest.mark.parametrize("name", ["x", "x\udcff"])
@pytest.mark.parametrize("version", ["1", "\udcff1"])
def test_texts_of_old_packages_need_not_be_utf_8(name: str, version: str) -> None:
    provider = package("b", provides=(Dependency(name=name, flags=EQUAL, version=version),))
    assert found(package("a", need(name, AT_LEAST, "1")), provider) == [(1, 0)]
    assert not found(package("a", need(name, AT_LEAST, "2")), provider)


def test_a_package_that_provides_it_itself_needs_no_other_unless_that_is_of_64_bits() -> None:
    x = Dependency(name="x", flags=0, version="")
    mine = package("b", "x", provides=(x,))
    assert not found(package("a", provides=(x,)), mine)
    assert found(package("a", provides=(x,), color=2), mine) == [(0, 1)]


def test_what_32_bit_files_need_is_of_32_bits() -> None:
    x = Dependency(name="x", flags=0, version="")
    providers = (package("x64", provides=(x,), color=2), package("x32", provides=(x,), color=1))
    assert found(package("a", "x"), *providers) == [(1, 0)]
    assert found(package("a", Dependency(name="x", flags=0, version="", color=1)), *providers) == [(2, 0)]


@pytest.mark.parametrize("path", ["/usr/bin/sh", "/bin/sh"])
def test_files_are_found_by_the_links_of_packages_and_not_of_this_machine(path: str) -> None:
    shell = package("shell", files=("/usr/bin/sh",))
    linked = package("filesystem", files=("/bin",), links={"/bin": "usr/bin"})
    assert found(package("a", path), shell) == ([(1, 0)] if path == "/usr/bin/sh" else [])
    assert found(package("a", path), shell, linked) == [(1, 0)]
    assert found(package("a", "/usr/bin/sh"), package("shell", files=("/bin/sh",)), linked) == [(1, 0)]


def test_links_that_never_end() -> None:
    looped = package("looped", files=("/a", "/b"), links={"/a": "b", "/b": "/a/x"})
    assert not found(package("a", "/a/sh"), looped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(b and c)", [(1, 0), (2, 0)]),
        ("(b or nowhere)", [(1, 0)]),
        ("(b >= 1 if c)", [(1, 0)]),
        ("(b if nowhere else c)", [(1, 0), (2, 0)]),
        ("(b unless c)", [(1, 0)]),
        ("(b with c)", [(1, 0)]),
        ("((b or nowhere) if (c and b))", [(1, 0)]),
        ("(b >= 2 or c)", [(2, 0)]),
        ("(c if b else (b or c))", [(2, 0), (1, 0)]),
        ("(b", []),
        ("()) b and c)", []),
        ("(" * 100_000 + "b)", [(1, 0)]),
    ],
)
def test_rich_ones(text: str, expected: list[tuple[int, int]]) -> None:
    assert found(package("a", text), package("b"), package("c")) == expected

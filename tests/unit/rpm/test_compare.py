"""Differences between two sets of packages."""

from __future__ import annotations

import pytest

from compose.rpm.compare import Change, package_changes
from compose.rpm.nevra import Nevra


def nevras(text: str) -> list[Nevra]:
    """Parse words such as kernel-6.9 or glibc-2/i686."""
    found = []
    for word in text.split():
        name, _, rest = word.partition("-")
        version, _, arch = rest.partition("/")
        found.append(Nevra(name=name, epoch=0, version=version, release="1", arch=arch or "x86_64"))
    return found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("b-1 a-1 c-1", "a-2 b-1 d-1", "added -> d-1; removed c-1 ->; upgraded a-1 -> a-2"),
        ("a-1.10", "a-1.9", "downgraded a-1.10 -> a-1.9"),
        ("a-1.0", "a-1_0", ""),
        ("a-1 a-1/i686", "a-1 a-2/i686", "upgraded a-1/i686 -> a-2/i686"),
        # several builds of one name
        ("k-1 k-2", "k-2 k-1", ""),
        ("k-1 k-2", "k-2", "removed k-1 ->"),
        ("k-1", "k-1 k-2", "added -> k-2"),
        ("k-9 k-10", "k-11 k-10", "upgraded k-9 -> k-11"),
        ("k-9 k-10", "k-11", "removed k-9 ->; upgraded k-10 -> k-11"),
        ("k-9", "k-10 k-11", "added -> k-10; upgraded k-9 -> k-11"),
        # versions that only a broken or hostile commit has
        ("a- b-1", "a-0 b-", "upgraded a- -> a-0; downgraded b-1 -> b-"),
        ("a-\udcff1", "a-2", "upgraded a-\udcff1 -> a-2"),
    ],
)
def test_package_changes(before: str, after: str, expected: str) -> None:
    def word(nevra: Nevra | None) -> str:
        if nevra is None:
            return ""
        return f"{nevra.name}-{nevra.version}" + ("" if nevra.arch == "x86_64" else f"/{nevra.arch}")

    found = package_changes(nevras(before), nevras(after))
    described = [f"{Change(change).name.lower()} {word(old)} -> {word(new)}" for change, old, new in found]
    assert "; ".join(" ".join(each.split()) for each in described) == expected

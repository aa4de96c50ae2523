"""Text of `compose diff`, from the differences of two commits."""

from __future__ import annotations

from compose.cli.diff import text_lines
from compose.diff import CommitDiff, changed_packages
from compose.rpm.nevra import Nevra
from compose.systemdiff import PackageSize, SystemDiff


def kernel(version: str) -> Nevra:
    return Nevra(name="kernel", epoch=0, version=version, release="1", arch="x86_64")


def size(version: str, before: int | None, after: int | None) -> PackageSize:
    return PackageSize(name="kernel", arch="x86_64", evr=f"{version}-1", before=before, after=after)


def test_builds_that_are_installed_side_by_side_have_their_own_sizes() -> None:
    packages = changed_packages([kernel("6.8"), kernel("6.9")], [kernel("6.10")])
    found = SystemDiff(
        commits=CommitDiff(before="a", after="b", versions=(None, None), packages=packages, paths=()),
        installed=(None, None),
        files=0,
        sizes=(size("6.8", 1000, None), size("6.10", 1000, 3000)),
        units=(),
        accounts=(),
        privileges=(),
        changelogs=(),
        advisories_added=None,
        advisories_gone=None,
    )
    assert list(text_lines(found))[:2] == [
        "removed: kernel.x86_64 6.8-1 (-1.0 kB)",
        "upgraded: kernel.x86_64 6.9-1 -> 6.10-1 (+2.0 kB)",
    ]

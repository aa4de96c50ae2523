"""Packages made to be nasty (tests/specs/nasty), beside `dnf5 --installroot`: the same tree, or both refuse.

Triggers have tests of their own beside this one.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compose.errors import AssembleError
from tests.compat.assemble.test_dnf5 import RULES
from tests.e2e import tiny
from tests.support.differential import assembled, differences, explain, installed_by_dnf5
from tests.support.rpmrepo import run

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000
MACROS = (
    *("__os_install_post %{nil}", "debug_package %{nil}", "_build_name_fmt %{NAME}.rpm", "_binary_payload w1.zstdio"),
    *("_invalid_encoding_terminates_build 0", "use_source_date_epoch_as_buildtime 1"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("base") / "rpms"
    tiny.build_packages(directory, "tiny-filesystem", "tiny-shell")
    return sorted(directory.glob("*.rpm"))


def build(specs: Path, where: Path) -> list[Path]:
    """RPMs of all specs of a directory; a comment "target: ARCH" chooses one."""
    where.mkdir()

    def one(spec: Path) -> Path:
        target = re.search(r"^# target: (\S+)$", spec.read_text(), re.MULTILINE)
        macros = (*MACROS, f"_topdir {where}/{spec.stem}", f"_rpmdir {where}/rpms")
        words = (word for each in macros for word in ("--define", each))
        arch = target[1] if target else "noarch"
        run("rpmbuild", "-bb", "--quiet", "--target", f"{arch}-linux", *words, str(spec), SOURCE_DATE_EPOCH=str(EPOCH))
        return where / "rpms" / f"{spec.stem}.rpm"

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, sorted(specs.glob("*.spec"))))


def test_installs_as_dnf5_installs(base: list[Path], tmp_path: Path) -> None:
    rpms = [*base, *build(tiny.SPECS / "nasty", tmp_path / "nasty")]
    ours = assembled(rpms, tmp_path, EPOCH)
    theirs, _ = installed_by_dnf5(rpms, tmp_path, EPOCH)
    unexplained, explained = explain(list(differences(ours, theirs)), RULES, ours, theirs)
    print(f"{len(ours.tree.entries)} paths of {len(rpms)} packages; explained: {dict(explained)}")
    assert not unexplained, "\n".join(
        f"{each}\n  ours: {ours.read(each.path)[:300]!r}\n  rpm's: {theirs.read(each.path)[:300]!r}"
        for each in unexplained
    )


@pytest.mark.parametrize("case", sorted(path.name for path in (tiny.SPECS / "refused").iterdir()))
def test_refuses_what_dnf5_refuses(case: str, base: list[Path], tmp_path: Path) -> None:
    rpms = [*base, *build(tiny.SPECS / "refused" / case, tmp_path / "nasty")]
    with pytest.raises(AssertionError, match="conflict"):
        installed_by_dnf5(rpms, tmp_path, EPOCH)
    with pytest.raises(AssembleError, match=r"(?s)left-1-1.*right-1-1") as caught:
        assembled(rpms, tmp_path, EPOCH)
    assert "/usr/share/clash" in str(caught.value)

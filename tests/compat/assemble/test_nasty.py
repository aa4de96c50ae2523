"""Packages made to be nasty (tests/specs/nasty), beside `dnf5 --installroot`: the same tree, or both refuse.

Triggers have tests of their own beside this one.
"""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.assemble import stage
from compose.assemble.scripts import Plan, plan
from compose.errors import AssembleError, ScriptError
from compose.events import Reporter
from compose.rootfs import write_rootfs
from tests.compat.assemble.test_dnf5 import RULES
from tests.e2e import tiny
from tests.support.differential import (
    Rule,
    assembled,
    differences,
    exactly,
    explain,
    headers,
    installed_by_dnf5,
    verified,
)
from tests.support.rpmrepo import run

pytestmark = pytest.mark.root
EPOCH = 1_700_000_000
MACROS = (
    *("__os_install_post %{nil}", "debug_package %{nil}", "_build_name_fmt %{NAME}.rpm", "_binary_payload w1.zstdio"),
    *("_invalid_encoding_terminates_build 0", "use_source_date_epoch_as_buildtime 1"),
)


BACKUPS = Rule(
    "backups of account files",
    "rpm makes accounts package by package, and each run keeps what the one before it left",
    exactly("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"),
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
    theirs, their_root = installed_by_dnf5(rpms, tmp_path, EPOCH)
    unexplained, explained = explain(list(differences(ours, theirs)), RULES, ours, theirs)
    print(f"{len(ours.tree.entries)} paths of {len(rpms)} packages; explained: {dict(explained)}")
    assert not unexplained, "\n".join(
        f"{each}\n  ours: {ours.read(each.path)[:300]!r}\n  rpm's: {theirs.read(each.path)[:300]!r}"
        for each in unexplained
    )
    our_root = tmp_path / "ours"
    write_rootfs(ours.tree, ours.store, str(our_root), Reporter())
    assert headers(our_root, "/usr/share/rpm") == headers(their_root, "/var/lib/rpm")
    assert verified(our_root, "/usr/share/rpm") == verified(their_root, "/var/lib/rpm")


def _built(name: str, spec: str, tmp_path: Path) -> list[Path]:
    """The RPM of one spec. name: of the package."""
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / f"{name}.spec").write_text(spec)
    return build(specs, tmp_path / "built")


_LEFT_OUT = """
Name: left-out
Version: 1
Release: 1
Summary: x
License: MIT
BuildArch: noarch
%description
x
%install
mkdir -p %{buildroot}/usr/share/doc/left-out %{buildroot}/usr/share/left-out
for each in doc/left-out/README doc/left-out/COPYING left-out/plain left-out/de left-out/fr left-out/LICENCE.fr; do
    echo $each >%{buildroot}/usr/share/$each
done
%files
/usr/share/left-out/plain
/usr/share/doc/left-out/README
%license /usr/share/doc/left-out/COPYING
%lang(de) /usr/share/left-out/de
%lang(fr) /usr/share/left-out/fr
%lang(fr) %license /usr/share/left-out/LICENCE.fr
"""


def test_leaves_out_what_rpm_leaves_out(base: list[Path], tmp_path: Path) -> None:
    """Documentation and languages, but no licenses."""
    rpms = [*base, *_built("left-out", _LEFT_OUT, tmp_path)]
    ours = assembled(rpms, tmp_path, EPOCH, documentation=False, install_langs=("de",))
    theirs, root = installed_by_dnf5(rpms, tmp_path, EPOCH, macros="%_excludedocs 1\n%_install_langs de\n")
    kept = [sorted(path for path in side.tree.entries if "left-out/" in path) for side in (ours, theirs)]
    assert kept[0] == kept[1]
    our_root = tmp_path / "ours"
    write_rootfs(ours.tree, ours.store, str(our_root), Reporter())
    assert headers(our_root, "/usr/share/rpm") == headers(root, "/var/lib/rpm")


FORGER = """Name: forger
Version: 1
Release: 1
Summary: x
License: MIT
BuildArch: noarch
%description
x
%post -p <lua>
local file = io.open("/usr/share/rpm/rpmdb.sqlite{}", "w") file:write("nothing") file:close()
%files
"""


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_scriptlet_cannot_hide_its_package_from_bills_of_materials(
    base: list[Path], tmp_path: Path, suffix: str
) -> None:
    ours = assembled([*base, *_built("forger", FORGER.replace("{}", suffix), tmp_path)], tmp_path, EPOCH)
    assert b"forger" in ours.read("usr/share/rpm/rpmdb.sqlite")
    assert ours.tree["usr/share/rpm/rpmdb.sqlite"].writer == "step:rpmdb"
    assert "usr/share/rpm/rpmdb.sqlite-wal" not in ours.tree


def test_accounts_that_packages_declare(base: list[Path], tmp_path: Path) -> None:
    """Fixed ids, dynamic ids, members: rpm creates them from each package's header, before it is unpacked."""
    program = shutil.which("systemd-sysusers")
    assert program, (
        "tests/toolbox/toolbox.sh need systemd-sysusers systemd-standalone-sysusers systemd-standalone-sysusers"
    )
    rpms = [*base, *build(tiny.SPECS / "sysusers", tmp_path / "sysusers")]
    ours = assembled(rpms, tmp_path, EPOCH)
    theirs, _ = installed_by_dnf5(rpms, tmp_path, EPOCH, macros=f"%__systemd_sysusers {program}\n")
    unexplained, explained = explain(list(differences(ours, theirs)), (BACKUPS, *RULES), ours, theirs)
    assert not unexplained, "\n".join(
        f"{each}\n  ours: {ours.read(each.path)!r}\n  rpm's: {theirs.read(each.path)!r}" for each in unexplained
    )
    # the differences are by name; what is a number in a package is that number
    for side in (ours, theirs):
        users, groups = ({name: number for number, name in side.names(each).items()} for each in ("passwd", "group"))
        assert (users["fixed"], users["joined"], groups["fixed"], groups["fixed-group"]) == (777, 778, 777, 888)
        assert 100 < users["floating"] < 1000
        members = [line for line in side.read("etc/group").decode().splitlines() if line.endswith(":floating")]
        assert [line.split(":")[0] for line in sorted(members)] == ["fixed-group", "floating-group"]
        owner = side.tree["usr/share/floating/user"]
        assert (owner.uid, owner.permissions) == (users["floating"], 0o4755)
    print(f"explained: {dict(explained)}")


def test_a_scriptlet_that_hangs_is_stopped(base: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes; here after two seconds."""

    def hurried(*arguments: Any, **options: Any) -> Plan:
        whole = plan(*arguments, **options)
        return replace(whole, after=tuple(replace(each, timeout=2.0) for each in whole.after))

    monkeypatch.setattr(stage, "plan", hurried)
    # when all else has ended nothing of it is left, or the workroot could not be removed
    with pytest.raises(ScriptError, match=r"%post of hangs-1-1\.noarch was stopped after 2 s") as caught:
        assembled([*base, *build(tiny.SPECS / "hangs", tmp_path / "hangs")], tmp_path, EPOCH)
    assert caught.value.details == ("waiting for nobody",)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("case", sorted(path.name for path in (tiny.SPECS / "refused").iterdir()))
def test_refuses_what_dnf5_refuses(case: str, base: list[Path], tmp_path: Path) -> None:
    rpms = [*base, *build(tiny.SPECS / "refused" / case, tmp_path / "nasty")]
    with pytest.raises(AssertionError, match="conflict"):
        installed_by_dnf5(rpms, tmp_path, EPOCH)
    with pytest.raises(AssembleError, match=r"(?s)left-1-1.*right-1-1") as caught:
        assembled(rpms, tmp_path, EPOCH)
    assert "/usr/share/clash" in str(caught.value)


def test_a_symlink_that_nothing_can_be_unpacked_through(base: list[Path], tmp_path: Path) -> None:
    rpms = [*base, *build(tiny.SPECS / "relinked", tmp_path / "relinked")]
    with pytest.raises(AssertionError, match="failed to open dir relinked of /usr/share/relinked/"):
        installed_by_dnf5(rpms, tmp_path, EPOCH)
    with pytest.raises(AssembleError) as caught:
        assembled(rpms, tmp_path, EPOCH)
    assert caught.value.message == (
        "relinked-1-1.noarch: /usr/share/relinked/a cannot be unpacked: %post of relinks-1-1.noarch replaced the directory "
        "/usr/share/relinked by a symlink to nowhere, which does not lead to a directory"
    )


_RELINKS = """
Name: relinks
Version: 1
Release: 1
Summary: Nasty
License: MIT
BuildArch: noarch
AutoReqProv: no
%description
%{{summary}}.
%install
mkdir -p %{{buildroot}}/usr/share/relinked
echo a >%{{buildroot}}/usr/share/relinked/first
%post -p <lua>
local top = "/usr/share/relinked"
for _, each in ipairs({{"sub/x/b", "sub/b"}}) do os.remove(top .. "/d/" .. each) end
for _, each in ipairs({{"/sub/x", "/sub", ""}}) do posix.rmdir(top .. "/d" .. each) end
posix.mkdir(top .. "/target")
{made}
posix.symlink("target", top .. "/d")
%files
/usr/share/relinked/first
"""
_RELINKED = """
Name: relinked
Version: 1
Release: 1
Summary: Nasty
License: MIT
BuildArch: noarch
AutoReqProv: no
Requires(pre): relinks
%description
%{{summary}}.
%install
mkdir -p %{{buildroot}}/usr/share/relinked/d/sub/x
echo b >%{{buildroot}}/usr/share/relinked/d/{file}
%files
{own}
/usr/share/relinked/d/{file}
"""
_FILE = 'io.open(top .. "/target/sub", "w"):close()'
_OWN = "%dir /usr/share/relinked/d/sub"


@pytest.mark.parametrize(
    ("made", "own", "file", "complaint"),
    [
        ("", "", "sub/x/b", None),
        ('posix.mkdir(top .. "/other") posix.symlink("../other", top .. "/target/sub")', "", "sub/x/b", None),
        ('posix.symlink("nowhere", top .. "/target/sub")', _OWN, "sub/b", None),
        (_FILE, _OWN, "sub/b", None),
        ('posix.symlink("nowhere", top .. "/target/sub")', "", "sub/b", "target/sub is not a directory"),
        (_FILE, "", "sub/x/b", "target/sub is not a directory"),
        ('posix.symlink("sub", top .. "/target/sub")', _OWN, "sub/b", "too many levels of symlinks"),
        (
            'posix.mkdir(top .. "/target/sub") posix.mkdir(top .. "/target/sub/b")',
            _OWN,
            "sub/b",
            "sub/b is a directory",
        ),
    ],
)
def test_what_is_in_the_way_behind_a_symlink(
    made: str, own: str, file: str, complaint: str | None, base: list[Path], tmp_path: Path
) -> None:
    """A scriptlet replaced /usr/share/relinked/d by a symlink to `target`, in which it created something."""
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / "relinks.spec").write_text(_RELINKS.format(made=made))
    (specs / "relinked.spec").write_text(_RELINKED.format(own=own, file=file))
    rpms = [*base, *build(specs, tmp_path / "built")]
    if complaint is None:
        ours = assembled(rpms, tmp_path, EPOCH)
        theirs, _ = installed_by_dnf5(rpms, tmp_path, EPOCH)
        for path in {*ours.tree.entries, *theirs.tree.entries}:
            if path.startswith("usr/share/relinked"):
                one, other = ours.tree.get(path), theirs.tree.get(path)
                assert one is not None and other is not None, path
                assert (one.mode, one.target) == (other.mode, other.target), path
        return
    with pytest.raises(AssertionError, match="install failed"):
        installed_by_dnf5(rpms, tmp_path, EPOCH)
    with pytest.raises(AssembleError, match=r"relinked-1-1\.noarch: /usr/share/relinked/d/sub") as caught:
        assembled(rpms, tmp_path, EPOCH)
    assert complaint in caught.value.message

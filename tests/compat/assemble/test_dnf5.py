"""Assembly beside `dnf5 --installroot` of the same packages: every path compared, each difference explained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.rootfs import write_rootfs
from tests.support.differential import (
    Difference,
    Rule,
    Side,
    assembled,
    differences,
    exactly,
    explain,
    headers,
    installed_by_dnf5,
    verified,
)

pytestmark = [pytest.mark.root, pytest.mark.universe]
UNIVERSE = Path(os.environ.get("COMPOSE_UNIVERSE", Path(__file__).parents[3] / "build/universe"))
EPOCH = 1_760_000_000
DATABASE_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-shm", "rpmdb.sqlite-wal", ".rpm.lock", ".keyring.lock")
DNF_STATE = "usr/lib/sysimage/libdnf5"


def same_accounts(difference: Difference, ours: Side, theirs: Side) -> bool:
    """The same names, each with the same home and shell, and the same members; and no day after dnf5's."""
    path = difference.path
    if path not in ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow") or difference.aspect != "content":
        return False
    kept = {"etc/passwd": (0, 5, 6), "etc/group": (0, 1, 3), "etc/shadow": (0,), "etc/gshadow": (0, 2, 3)}[path]

    def rows(side: Side) -> set[tuple[str, ...]]:
        lines = (line.split(":") for line in side.read(path).decode().splitlines())
        return {tuple(fields[index] for index in kept) for fields in lines}

    return rows(ours) == rows(theirs) and (
        path != "etc/shadow" or all(day <= days(theirs)[name] for name, day in days(ours).items())
    )


def days(side: Side) -> dict[str, int]:
    """User -> day of the last password change."""
    lines = (line.split(":") for line in side.read("etc/shadow").decode().splitlines())
    return {fields[0]: int(fields[2] or 0) for fields in lines}


RULES = (
    Rule(
        "account numbers",
        "sysusers makes what packages declare before any %pre adds it, so numbers, comments, the day of expiry and what"
        " stands for no password differ, and a scriptlet sees the time of its package's build, so that a day may be earlier;"
        " names, homes, shells and members must not",
        same_accounts,
    ),
    Rule(
        "accounts before the last change",
        "the backup that the last useradd or groupadd made",
        exactly("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", aspect="content"),
    ),
    Rule(
        "ldconfig's memory of files",
        "holds inode numbers and times of change",
        exactly("var/cache/ldconfig/aux-cache", aspect="content"),
    ),
    Rule(
        "place of rpm's database",
        "in an OSTree it is below /usr; the headers are compared",
        exactly(
            *("usr/share/rpm", "usr/share/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm", "var/lib/rpm"),
            *(f"var/lib/rpm/{name}" for name in DATABASE_FILES),
        ),
    ),
    Rule(
        "dnf's records",
        "what dnf5 itself writes: its history, its log, its lock",
        exactly(
            *("var/log/dnf5.log", "var/lib/dnf", "var/lib/dnf/system-repo.lock", "run/dnf", DNF_STATE),
            *(f"{DNF_STATE}/comps_groups{each}" for each in ("", "/environments", "/groups")),
            *(
                f"{DNF_STATE}/{name}.toml"
                for name in ("environments", "groups", "modules", "nevras", "packages", "system")
            ),
            *(f"{DNF_STATE}/transaction_history.sqlite{each}" for each in ("", "-shm", "-wal")),
            aspect="missing",
        ),
    ),
)


@pytest.mark.parametrize(("name", "paths"), [("min", 12_000), pytest.param("big", 50_000, marks=pytest.mark.slow)])
def test_real_packages(name: str, paths: int, tmp_path: Path) -> None:
    rpms = sorted((UNIVERSE / name / "Packages").glob("*.rpm"))
    if not rpms:
        pytest.skip(f"make universe SET={name} first")
    ours = assembled(rpms, tmp_path, EPOCH)
    theirs, their_root = installed_by_dnf5(rpms, tmp_path, EPOCH)

    unexplained, explained = explain(list(differences(ours, theirs)), RULES, ours, theirs)
    print(f"{len(ours.tree.entries)} paths of {len(rpms)} packages; explained: {dict(explained)}")
    assert not unexplained, f"{len(unexplained)} differ:\n" + "\n".join(map(str, unexplained[:40]))
    assert set(explained) == {rule.name for rule in RULES}, "a rule explains nothing"
    assert len(ours.tree.entries) > paths

    our_root = tmp_path / "ours"
    write_rootfs(ours.tree, ours.store, str(our_root), Reporter())
    # our database is in the root's /usr/share/rpm
    assert headers(our_root, "/usr/share/rpm") == headers(their_root, "/var/lib/rpm")
    assert verified(our_root, "/usr/share/rpm") == verified(their_root, "/var/lib/rpm")

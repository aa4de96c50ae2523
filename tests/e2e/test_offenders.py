"""What is known to differ from one compose to the next, written by the real programs, years apart.

Each program runs as a script of the treefile, in a tree whose clock (tests/specs/clock) is three years ahead the second time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.diff import PathChange, diff_commits
from compose.ostree.repo import Repo
from tests.e2e.test_reproducible import CLOCK, compose
from tests.e2e.tiny import build_packages
from tests.e2e.whole import PROJECT, UNIVERSE
from tests.support import rpmrepo

pytestmark = [pytest.mark.root, pytest.mark.universe, pytest.mark.slow]

PYTHON = "usr/lib/python3/dist-packages"


@dataclass(frozen=True)
class Offender:
    """script: what writes it. kept, gone: paths that the commit has, and has not."""

    script: str
    kept: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


OFFENDERS = {
    # the one that is meant to differ, or all others prove nothing
    "clock": Offender("date +%s >/usr/share/clock", kept=("usr/share/clock",)),
    "rpm database": Offender(
        "rpm --dbpath=/usr/share/rpm -qa >/dev/null; rpm --dbpath=/usr/share/rpm --import /etc/key.asc",
        kept=("usr/share/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite"),
        gone=("usr/share/rpm/rpmdb.sqlite-shm", "usr/share/rpm/rpmdb.sqlite-wal", "usr/share/rpm/.rpm.lock"),
    ),
    "ld.so.cache and aux-cache": Offender(
        "ldconfig", kept=("usr/etc/ld.so.cache",), gone=("var/cache/ldconfig/aux-cache",)
    ),
    "__pycache__": Offender(
        f"mkdir /{PYTHON}/fresh; echo 'import json' >/{PYTHON}/fresh/__init__.py; python3 -c 'import fresh'",
        kept=(f"{PYTHON}/fresh/__pycache__/__init__.cpython-313.pyc",),
    ),
    "hwdb": Offender("systemd-hwdb update --usr", kept=("usr/lib/udev/hwdb.bin",)),
    "certificates": Offender("update-ca-certificates --fresh", kept=("usr/etc/ssl/certs/ca-certificates.crt",)),
    "accounts": Offender(
        "useradd --system --password '$6$x$y' robot; echo 'root:$6$x$z' | chpasswd -e",
        kept=("usr/etc/shadow", "usr/etc/gshadow", "usr/lib/passwd"),
        gone=tuple(f"usr/etc/{name}" for name in ("passwd-", "group-", "shadow-", "gshadow-", "subuid-", ".pwd.lock")),
    ),
    "machine-id": Offender("rm -f /etc/machine-id; systemd-machine-id-setup", kept=("usr/etc/machine-id",)),
    "random seed": Offender(
        "head -c 512 /dev/urandom >/var/lib/systemd/random-seed", gone=("var/lib/systemd/random-seed",)
    ),
    "locale archive": Offender(
        "localedef -i de_DE -f UTF-8 de_DE.UTF-8; localedef -i fr_FR -f UTF-8 fr_FR.UTF-8",
        kept=("usr/lib/locale/locale-archive",),
    ),
    "gconv cache": Offender("iconvconfig", kept=("usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",)),
    "man-db": Offender("mandb --quiet --create", gone=("var/cache/man/index.db",)),
    "SELinux module store": Offender("semodule -n -s default -B", kept=("usr/etc/selinux/default/policy/policy.34",)),
    "journal and its catalog": Offender(
        "journalctl --update-catalog; echo started >/var/log/boot.log",
        gone=("var/lib/systemd/catalog/database", "var/log/boot.log"),
    ),
    "keys of sshd": Offender(
        "ssh-keygen -A", gone=("usr/etc/ssh/ssh_host_rsa_key", "usr/etc/ssh/ssh_host_ed25519_key.pub")
    ),
}


@dataclass(frozen=True)
class Pair:
    """The repository of the first of two composes, what differs between them, and the seconds since 1970 that both saw."""

    repo: Path
    paths: dict[str, PathChange]
    clocks: tuple[int, int]

    def has(self, path: str) -> bool:
        done = subprocess.run(
            ["ostree", f"--repo={self.repo}", "ls", "demo/x86_64/min", f"/{path}"], capture_output=True, check=False
        )
        return done.returncode == 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two composes of a treefile with all of these."""
    universe = UNIVERSE.with_name("big")
    if not (universe / "universe.repo").exists():
        pytest.skip("make e2e makes the set")
    top = tmp_path_factory.mktemp("offenders")
    packages = top / "packages"
    build_packages(packages, "clock/another-clock")
    rpmrepo.index(packages)
    place = top / "treefile"
    place.mkdir()
    (place / "clock.repo").write_text(f"[clock]\nbaseurl={packages.as_uri()}\ngpgcheck=0\n")
    (place / "universe.repo").write_bytes((universe / "universe.repo").read_bytes())
    (place / "min.yaml").write_bytes((PROJECT / "treefiles/demo/min.yaml").read_bytes())
    (place / "key.asc").write_bytes((universe / "RPM-GPG-KEY-universe").read_bytes())
    treefile = place / "offenders.yaml"
    treefile.write_text(json.dumps({
        "include": "min.yaml", "repos": ["clock"], "packages": ["another-clock", "python3", "locales", "man-db"],
        "no-initramfs": True, "mutate-os-release": "13", "add-files": [["key.asc", "/usr/etc/key.asc"]],
        "postprocess": [f"#!/bin/sh\n# {name}\nset -eu\n{each.script}\n" for name, each in OFFENDERS.items()],
    }))  # fmt: skip
    first = compose(treefile, top / "now", top / "cache")
    # each program is to run again, not to be remembered
    shutil.rmtree(top / "cache/programs", ignore_errors=True)
    second = compose(treefile, top / "then", top / "cache", [CLOCK])
    ostree = ["ostree", f"--repo={top}/now/repo", "refs", "--create=demo/x86_64/min", first]
    subprocess.run(ostree, check=True)
    with Repo.open(str(top / "now/repo")) as repo, Repo.open(str(top / "then/repo")) as other:
        found = diff_commits(repo, first, second, other_repo=other)
        seen = (repo.read_file(first, "usr/share/clock"), other.read_file(second, "usr/share/clock"))
    return Pair(
        repo=top / "now/repo",
        paths={each.path: each for each in found.paths},
        clocks=(int(seen[0] or b""), int(seen[1] or b"")),
    )


def test_nothing_differs_but_the_clock(pair: Pair) -> None:
    assert list(pair.paths) == ["usr/share/clock"]
    assert pair.clocks[1] - pair.clocks[0] > 3 * 365 * 86_400


@pytest.mark.parametrize("name", OFFENDERS)
def test_offender(pair: Pair, name: str) -> None:
    offender = OFFENDERS[name]
    assert {path: pair.has(path) for path in offender.kept} == dict.fromkeys(offender.kept, True)
    assert {path: pair.has(path) for path in offender.gone} == dict.fromkeys(offender.gone, False)

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
from tests.universe import deb
from tests.universe.archive import Archive, Lock

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
    # in /var on Debian, in /usr on Fedora's image-based systems
    "fontconfig": Offender(
        "fc-cache -s -f; echo '<fontconfig><dir>/usr/share/fonts</dir><cachedir>/usr/lib/fontconfig/cache</cachedir>"
        "</fontconfig>' >/tmp/fonts.conf; FONTCONFIG_FILE=/tmp/fonts.conf fc-cache -s -f",
        kept=("usr/lib/fontconfig/cache/CACHEDIR.TAG",),
        gone=("var/cache/fontconfig/CACHEDIR.TAG",),
    ),
    "dconf": Offender(
        "mkdir -p /etc/dconf/db/local.d; "
        "printf '[org/x]\\none=1\\ntwo=true\\n[org/y]\\na=\"b\"\\n' >/etc/dconf/db/local.d/00-x; "
        "dconf update",
        kept=("usr/etc/dconf/db/local",),
    ),
    "mime caches": Offender(
        "update-mime-database /usr/share/mime; update-desktop-database /usr/share/applications",
        kept=("usr/share/mime/mime.cache", "usr/share/applications/mimeinfo.cache"),
    ),
    "settings schemas": Offender(
        'cd /usr/share/glib-2.0; mkdir -p schemas; echo \'<schemalist><schema id="org.x" path="/org/x/">'
        '<key name="a" type="b"><default>true</default></key></schema></schemalist>\' >schemas/x.gschema.xml; '
        "glib-compile-schemas schemas",
        kept=("usr/share/glib-2.0/schemas/gschemas.compiled",),
    ),
    "icon cache": Offender(
        "gtk-update-icon-cache --force /usr/share/icons/hicolor", kept=("usr/share/icons/hicolor/icon-theme.cache",)
    ),
    "Java's key store": Offender(
        "find /etc/ssl/certs -name '*.pem' | sort | sed s/^/+/ | "
        "/usr/lib/jvm/java-21-openjdk-amd64/bin/java -Xmx64m -jar "
        "/usr/share/ca-certificates-java/ca-certificates-java.jar -storepass changeit",
        kept=("usr/etc/ssl/certs/java/cacerts",),
    ),
}
LAST = Offender(
    "rpm --dbpath=/usr/share/rpm -qa >/dev/null; ldconfig; ssh-keygen -A; useradd --system last; systemd-machine-id-setup",
    kept=("usr/etc/machine-id",),
    gone=("usr/share/rpm/rpmdb.sqlite-shm", "usr/etc/ssh/ssh_host_rsa_key", "usr/etc/passwd-", "var/cache/ldconfig"),
)
"""In finalize.d, after all that."""


# programs that no set has
TOOLS = (
    *("fontconfig", "dconf-cli", "shared-mime-info", "libglib2.0-bin", "gtk-update-icon-cache", "desktop-file-utils"),
    *("hicolor-icon-theme",),
)
_SPEC = """Name: tools
Version: 1
Release: 1
Summary: Programs that write caches
License: various
AutoReqProv: no
%description
x
%install
cp -a {root}/. %{{buildroot}}/
%files -f {files}
"""


def build_tools(cache: Path, into: Path) -> list[str]:
    """An RPM of TOOLS and of what they need that no package of `big` is; returns the packages of `big` that they need too.

    cache: of the universe; what the archive is asked for stays there.
    """
    archive, kept = Archive(cache / "apt-offenders"), cache / "lock-offenders.json"
    lock = Lock.load(kept)
    if lock is None or lock.roots != TOOLS:
        lock = archive.resolve(TOOLS)
        lock.save(kept)
    big, small = (Lock.load(cache / f"lock-{name}.json") for name in ("big", "min"))
    assert big is not None and small is not None
    known, there = ({deb.name for deb in each.debs} for each in (big, small))
    new = tuple(deb for deb in lock.debs if deb.name not in known)
    archive.fetch(new, cache / "debs-offenders")
    root = into.with_name("root")
    for each in new:
        deb.unpack(cache / "debs-offenders" / each.file, root)
    paths = sorted(path for path in root.rglob("*") if path.is_symlink() or path.is_file())
    files, spec = into.with_name("tools.files"), into.with_name("tools.spec")
    files.write_text("".join(f'%attr(-, root, root) "/{path.relative_to(root)}"\n' for path in paths))
    spec.write_text(_SPEC.format(root=root, files=files))
    rpmrepo.run("rpmbuild", "-bb", "--quiet", "--nodeps", "--define", f"_topdir {into.with_name('top')}",
                "--define", f"_rpmdir {into}", "--define", "debug_package %{nil}",
                "--define", "__os_install_post %{nil}", str(spec))  # fmt: skip
    return sorted({each.name for each in lock.debs} & (known - there))


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
    needed = build_tools(universe.with_name("cache"), packages)
    rpmrepo.index(packages)
    place = top / "treefile"
    place.mkdir()
    (place / "clock.repo").write_text(f"[clock]\nbaseurl={packages.as_uri()}\ngpgcheck=0\n")
    (place / "universe.repo").write_bytes((universe / "universe.repo").read_bytes())
    (place / "min.yaml").write_bytes((PROJECT / "treefiles/demo/min.yaml").read_bytes())
    (place / "key.asc").write_bytes((universe / "RPM-GPG-KEY-universe").read_bytes())
    treefile = place / "offenders.yaml"
    finalize = place / "finalize.d/10-last"
    finalize.parent.mkdir()
    finalize.write_text(f"#!/bin/sh\nset -eu\n{LAST.script}\n")
    finalize.chmod(0o755)
    treefile.write_text(json.dumps({
        "include": "min.yaml", "repos": ["clock"], "packages": [
            *("another-clock", "python3", "locales", "man-db", "tools", "fonts-dejavu", *needed),
            *("openjdk-21-jre-headless", "ca-certificates-java"),
        ],
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


@pytest.mark.parametrize("name", [*OFFENDERS, "finalize.d"])
def test_offender(pair: Pair, name: str) -> None:
    offender = OFFENDERS.get(name, LAST)
    assert {path: pair.has(path) for path in offender.kept} == dict.fromkeys(offender.kept, True)
    assert {path: pair.has(path) for path in offender.gone} == dict.fromkeys(offender.gone, False)

"""Builds it: two signed repositories, and a root whose /etc/yum.repos.d tells of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fedora.table import GROUPS, PLAIN, UPDATES, Plain
from tests.support.rpmrepo import Keys, run

HERE = Path(__file__).parent
EPOCH = 1_760_000_000
# Programs that the builder lends, with the libraries that they load.
COREUTILS = (
    "basename cat chgrp chmod chown cp cut date dirname head id install ln ls mkdir mktemp mv readlink rm rmdir sha256sum"
    " sha512sum sleep sort stat tail touch tr true uname wc"
)
SYSTEMD_POST = r"""
if [ $1 -eq 1 ] && [ -x "/usr/lib/systemd/systemd-update-helper" ]; then \
    # the first installation \
    /usr/lib/systemd/systemd-update-helper install-system-units %* || : \
fi"""
MACROS = (
    *("debug_package %{nil}", "__os_install_post %{nil}", "_buildshell /usr/bin/bash", "_binary_payload w3.zstdio"),
    *("_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", "_buildhost fedora.example.com"),
    *("use_source_date_epoch_as_buildtime 1", "dist .fc43", "_build_id_links none"),
    *(f"coreutils {COREUTILS}", f"programs bash sed grep find cpio gzip awk {COREUTILS}"),
    f"systemd_post() {SYSTEMD_POST.strip()}",
)
_REPO = """\
[{id}]
name=Fedora $releasever - $basearch - {id}
baseurl={url}
enabled=1
countme=1
metadata_expire=7d
repo_gpgcheck=0
type=rpm
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-$releasever-$basearch
skip_if_unavailable=False

[{id}-source]
name=Fedora $releasever - {id} - source
baseurl=https://fedora.example/source
enabled=0
gpgcheck=1
"""


@dataclass(frozen=True, slots=True)
class Fedora:
    """root: for --source-root. packages: of each repository, by id."""

    root: Path
    packages: dict[str, list[Path]]


def build(top: Path, keys: Keys, signer: str, basearch: str) -> Fedora:
    """Everything, below an absent directory. signer: a key of keys."""
    top.mkdir()
    specs = sorted((HERE / "specs").glob("*.spec"))
    for name, rows in (("plain", PLAIN), ("updates", UPDATES)):
        specs.append(top / f"{name}.spec")
        specs[-1].write_text("\n".join(plain_spec(name, rows)) + "\n")

    def one(spec: Path) -> None:
        repo = "updates" if spec.stem == "updates" else "fedora"
        places = (f"_topdir {top}/rpmbuild/{spec.stem}", f"_rpmdir {top}/{repo}", f"_sourcedir {HERE}/programs")
        words = (word for each in (*MACROS, *places) for word in ("--define", each))
        run("rpmbuild", "-bb", "--quiet", *words, str(spec), SOURCE_DATE_EPOCH=str(EPOCH))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(one, specs))
    root = top / "root"
    for name in ("etc/yum.repos.d", "etc/pki/rpm-gpg"):
        (root / name).mkdir(parents=True)
    (root / f"etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-43-{basearch}").write_bytes(keys.export(signer))
    packages = {}
    for repo, groups in (("fedora", GROUPS), ("updates", {})):
        packages[repo] = sorted((top / repo).glob("*.rpm"))
        keys.sign_all(packages[repo], signer)
        (top / "comps.xml").write_text("\n".join(comps(groups)) + "\n")
        run("createrepo_c", "--quiet", "--groupfile", str(top / "comps.xml"), str(top / repo))
        name = "fedora-updates" if repo == "updates" else repo
        (root / f"etc/yum.repos.d/{name}.repo").write_text(_REPO.format(id=repo, url=(top / repo).as_uri()))
    return Fedora(root, packages)


def plain_spec(name: str, rows: Iterable[Plain]) -> Iterator[str]:
    """Lines of one spec file for all of them."""
    yield f"Name: {name}\nVersion: 1\nRelease: 1%{{?dist}}\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%description\nx"
    for row in rows:
        yield from row.section()
    yield "%install\ncd %{buildroot}\nmkdir -p usr/lib/systemd/system usr/lib/sysusers.d"
    for row in rows:
        yield from row.install()
    for row in rows:
        yield from row.sections()


def comps(groups: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Lines of comps.xml."""
    yield "<comps>"
    for group, packages in groups.items():
        yield f"<group><id>{group}</id><name>{group}</name><default>true</default><uservisible>true</uservisible>"
        yield "<packagelist>"
        yield from (f'<packagereq type="mandatory">{name}</packagereq>' for name in packages)
        yield "</packagelist></group>"
    yield "</comps>"

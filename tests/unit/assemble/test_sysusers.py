"""Which systemd-sysusers runs create users and groups, and from which lines."""

from __future__ import annotations

import base64
from dataclasses import replace

import rpm

from compose.assemble.sysusers import programs
from compose.rpm.manifest import ManifestFile, PackageManifest
from tests.support.manifests import file, package
from tests.support.treetext import MemoryStore, parse

SYSTEMD = 'f usr/bin/systemd-sysusers 0755 ""\n'


def declaring(name: str, line: str, *files: ManifestFile) -> PackageManifest:
    """A package with a header as rpmbuild writes it: the line in base64, padded with zero bytes. files: declare it too."""
    header = rpm.hdr()
    header[rpm.RPMTAG_NAME] = name
    header[rpm.RPMTAG_PROVIDENAME] = [f"user({name})", f"group({name})"]
    header[rpm.RPMTAG_PROVIDEVERSION] = [base64.b64encode(f"{line}\0".encode()).decode(), ""]
    header[rpm.RPMTAG_PROVIDEFLAGS] = [rpm.RPMSENSE_EQUAL, 0]
    if files:
        header[rpm.RPMTAG_DEPENDSDICT] = [ord("P") << 24 | 0, ord("R") << 24 | 1]
    return replace(package(name, *files), header=header.unload())


def test_files_first_then_what_only_headers_say() -> None:
    tree = parse(SYSTEMD + 'f usr/lib/sysusers.d/one.conf 0644 "u one -"', MemoryStore())
    packages = [
        declaring("one", "u one -", file("usr/lib/sysusers.d/one.conf")),
        declaring("two", 'u two 77 "Of %add_sysuser" / -'),
        package("three"),
    ]
    found = programs(tree, packages, 0)
    assert [(each.argv, each.stdin) for each in found] == [
        (("/usr/bin/systemd-sysusers",), b""),
        (("/usr/bin/systemd-sysusers", "-"), b'u two 77 "Of %add_sysuser" / -\n'),
    ]
    assert {each.owner for each in found} == {"step:sysusers"}


def test_a_provide_that_declares_nothing() -> None:
    header = rpm.hdr()
    header[rpm.RPMTAG_PROVIDENAME] = ["user(one)", "user(two)", "user(three)"]
    header[rpm.RPMTAG_PROVIDEVERSION] = ["1.0-1", "", base64.b64encode(b"u three -").decode()]
    header[rpm.RPMTAG_PROVIDEFLAGS] = [rpm.RPMSENSE_EQUAL, 0, rpm.RPMSENSE_GREATER]
    found = programs(parse(SYSTEMD, MemoryStore()), [replace(package("one"), header=header.unload())], 0)
    assert found == ()


def test_nothing_declared_or_nobody_to_make_it() -> None:
    assert programs(parse(SYSTEMD, MemoryStore()), [package("one")], 0) == ()
    tree = parse('f usr/lib/sysusers.d/one.conf 0644 "u one -"', MemoryStore())
    assert programs(tree, [declaring("one", "u one -")], 0) == ()

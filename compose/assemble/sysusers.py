"""Creates the users and groups that packages declare, with the tree's own systemd-sysusers, before any scriptlet needs them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress

import rpm

from compose.process import Program, dated
from compose.rpm.manifest import PackageManifest
from compose.tree import Tree

_PROGRAM = "usr/bin/systemd-sysusers"
_CONFIGURATION = "usr/lib/sysusers.d"
_KINDS = ("user(", "group(", "groupmember(")
"""What Provides that declare accounts begin with."""
_POSITION = 0xFFFFFF
"""Bits of RPMTAG_DEPENDSDICT that are the position of a dependency."""


def programs(tree: Tree, ordered: Sequence[PackageManifest], epoch: int) -> tuple[Program, ...]:
    """The sysusers runs: one for all files in sysusers.d, then one for users and groups that packages declare only in their
    header. epoch: of the compose.

    rpm creates each package's from its header, where rpmbuild puts the lines of sysusers.d files and of %add_sysuser. The files
    declare the same, and in a single run ids do not depend on the install order.
    """
    program = tree.get(_PROGRAM)
    if program is None:
        return ()
    environment = dated(min(epoch, program.mtime))
    found = []
    if tree.children(_CONFIGURATION):
        found.append(Program(owner="step:sysusers", phase="sysusers", argv=(f"/{_PROGRAM}",), environment=environment))
    lines = [line for manifest in ordered for line in _declared(manifest)]
    if lines:
        stdin = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
        argv = (f"/{_PROGRAM}", "-")
        found.append(Program(owner="step:sysusers", phase="sysusers", argv=argv, environment=environment, stdin=stdin))
    return tuple(found)


def _declared(manifest: PackageManifest) -> Iterator[str]:
    """The sysusers.d(5) lines that are only in a header: versions, in base64, of Provides that come from none of its files."""
    # most headers have none; parsing those again is not worth the time
    if not any(kind.encode() in manifest.header for kind in _KINDS):
        return
    header = rpm.hdr(manifest.header)
    of_files = {entry & _POSITION for entry in header["dependsdict"] if entry >> 24 == ord("P")}
    provides = zip(header["providename"], header["provideflags"], header["provideversion"], strict=False)
    for position, (name, flags, version) in enumerate(provides):
        if position not in of_files and flags & rpm.RPMSENSE_EQUAL and name.startswith(_KINDS):
            # not every such version is a line: packagers write such Provides too
            with suppress(ValueError):
                yield base64.b64decode(version, validate=True).rstrip(b"\0").decode(errors="surrogateescape")

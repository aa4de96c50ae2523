"""Creates the users and groups that packages declare, with the tree's own systemd-sysusers, before any scriptlet needs them."""

from __future__ import annotations

from collections.abc import Sequence

import rpm

from compose.process import Program, dated
from compose.rpm.manifest import PackageManifest
from compose.tree import Tree

_PROGRAM = "usr/bin/systemd-sysusers"
_CONFIGURATION = "usr/lib/sysusers.d"


def programs(tree: Tree, ordered: Sequence[PackageManifest], epoch: int) -> tuple[Program, ...]:
    """The sysusers runs: one for all files in sysusers.d, then one for packages that declare users or groups only in their
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
    lines = [
        line
        for manifest in ordered
        if not any(file.path.startswith(f"{_CONFIGURATION}/") for file in manifest.files)
        for line in _declared(manifest)
    ]
    if lines:
        stdin = "".join(f"{line}\n" for line in lines).encode()
        argv = (f"/{_PROGRAM}", "-")
        found.append(Program(owner="step:sysusers", phase="sysusers", argv=argv, environment=environment, stdin=stdin))
    return tuple(found)


def _declared(manifest: PackageManifest) -> list[str]:
    """The sysusers.d(5) lines in a header. rpm gets them from the versions of Provides: user(NAME), group(NAME) and
    groupmember(NAME/GROUP)."""
    # most headers have none; parsing those again is not worth the time
    if not any(kind in manifest.header for kind in (b"user(", b"group(", b"groupmember(")):
        return []
    return [str(line) for line in rpm.hdr(manifest.header)["sysusers"]]

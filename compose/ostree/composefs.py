"""The composefs digest of a commit: the fs-verity digest of the image that a client generates from it.

A client whose prepare-root.conf says `[composefs] enabled = signed` mounts only the image whose digest is in the signed commit.
libostree has libcomposefs write that image in format 0 (ostree-repo-composefs.c). Here no image is written: `mkcomposefs`, the
program of the same project, reads a listing of the tree, composefs-dump(5), and prints the digest that the image would have.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from functools import lru_cache

from compose import fs
from compose.errors import RepositoryError, UsageError
from compose.ostree.objects import Xattrs, object_name
from compose.values import value

PROGRAM = "mkcomposefs"
# without --max-version it would choose a newer format for some trees
_COMMAND = (PROGRAM, "--min-version=0", "--max-version=0", "--from-file", "--print-digest-only", "-")
_MOUNT_POINTS = ("usr", "etc", "boot", "var", "sysroot")
"""Directories of the root that libostree adds where they are missing."""
_SPECIAL = re.compile(rb"[^!-<>-\[\]-~]")
"""All but printable ASCII; and space, = and backslash, which mean something in a listing."""


@value
class Node:
    """One path of a tree.

    path: relative to the root, "" for the root itself. mode: st_mode. size, payload, verity: of a regular file that is not
    empty the size of its contents, where a client has them beneath objects/, and their fs-verity digest (32 bytes); payload and
    size of a symlink are its target and the length of that.
    """

    path: str
    uid: int
    gid: int
    mode: int
    xattrs: Xattrs = ()
    size: int = 0
    payload: str = ""
    verity: bytes = b""


_LABEL = (b"security.selinux", b"system_u:object_r:usr_t:s0\0")
_SAMPLE = (
    Node(path="", uid=0, gid=0, mode=stat.S_IFDIR | 0o755, xattrs=(_LABEL,)),
    Node(path="lib", uid=0, gid=0, mode=stat.S_IFLNK | 0o777, xattrs=(_LABEL,), size=7, payload="usr/lib"),
    Node(path="usr", uid=0, gid=0, mode=stat.S_IFDIR | 0o755, xattrs=((b"trusted.overlay.opaque", b"x"),)),
    Node(path="usr/empty", uid=70_000, gid=0, mode=stat.S_IFREG | 0o644, xattrs=(_LABEL,)),
    Node(
        path="usr/su",
        uid=0,
        gid=5,
        mode=stat.S_IFREG | 0o4755,
        xattrs=((b"user.only", b"here"),),
        size=9000,
        payload=f"00/{'0' * 62}.file",
        verity=bytes(32),
    ),
)
_SAMPLE_DIGEST = "912ddeb05f2cc25738d5d8ee03a7b37df2b96ebd81eccdbfacc5bd51597c5609"
"""What libcomposefs computes for it. A program of the same name that lays images out otherwise is recognized by it."""


def file_payload(checksum: bytes) -> str:
    """Where a client's repository has the contents of a file, beneath objects/. checksum: of the content object."""
    return object_name(checksum.hex(), "file")


def require_program() -> None:
    """Raises UsageError when the program that image_digest() runs is missing, or lays images out differently than libostree."""
    if shutil.which(PROGRAM) is None:
        raise _missing()
    details: tuple[str, ...] = ()
    try:
        if image_digest(_SAMPLE).hex() == _SAMPLE_DIGEST:
            return
    except RepositoryError as error:
        details = error.details
    raise UsageError(
        f"{shutil.which(PROGRAM)} does not lay out composefs images as libostree does: clients would refuse its digests",
        hint="install the package composefs of github.com/composefs/composefs, 1.0.3 or later",
        details=details,
    )


def image_digest(nodes: Iterable[Node]) -> bytes:
    """The 32 bytes for a tree in which each directory comes before its contents.

    Raises UsageError without the program, RepositoryError with its own words for what an image cannot hold (a symlink or xattrs
    that are too long).
    """
    with fs.memory_file("composefs-dump") as listing:
        listing.writelines(dump(nodes))
        listing.seek(0)
        try:
            # an interrupt from the terminal is for the compose, which then kills it
            done = subprocess.run(_COMMAND, stdin=listing, capture_output=True, check=False, process_group=0)
        except FileNotFoundError:
            raise _missing() from None
    answer = done.stdout.decode("ascii", "replace").strip()
    if done.returncode or not re.fullmatch("[0-9a-f]{64}", answer):
        raise RepositoryError(
            f"{PROGRAM} cannot compute the composefs digest of this tree",
            details=done.stderr.decode(errors="replace").splitlines()[-10:] or [f"exit status {done.returncode}"],
            hint="fix what it reports, or set ex-integrity.composefs=no in the repository's config",
        )
    return bytes.fromhex(answer)


def _missing() -> UsageError:
    return UsageError(
        f"a composefs digest is asked for (ex-integrity.composefs), and {PROGRAM} is not installed",
        hint="install the package composefs",
    )


def dump(nodes: Iterable[Node]) -> Iterator[bytes]:
    """The lines of composefs-dump(5) for such a tree, and for the directories that libostree adds to it."""
    missing = {*_MOUNT_POINTS}
    for node in nodes:
        missing.discard(node.path)
        yield _line(node)
    for name in sorted(missing):
        yield _line(Node(path=name, uid=0, gid=0, mode=stat.S_IFDIR | 0o755))


def _line(node: Node) -> bytes:
    """Path, size, mode, links, owner, group, device, mtime, payload, inline content, digest, xattrs.

    OSTree has no times and no hard links; the program counts the links of directories itself.
    """
    path, verity = _escaped(os.fsencode(f"/{node.path}")), node.verity.hex().encode() or b"-"
    numbers = b"%d %o 1 %d %d 0 0.0" % (node.size, node.mode, node.uid, node.gid)
    return b"%s %s %s - %s%s\n" % (path, numbers, _payload(node.payload), verity, _xattrs(node.xattrs))


def _payload(path: str) -> bytes:
    """A dash where there is none, and so a path that is a dash must be escaped."""
    return rb"\x2d" if path == "-" else _escaped(path.encode()) or b"-"


@lru_cache(maxsize=1024)
def _xattrs(xattrs: Xattrs) -> bytes:
    # many nodes have the same
    return b"".join([b" %s=%s" % (_escaped(name), _escaped(content)) for name, content in xattrs])


def _escaped(text: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: b"\\x%02x" % found[0][0], text)

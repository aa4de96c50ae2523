"""The composefs digest of a commit: the fs-verity digest of the image that a client makes of it, without making the image.

A client whose prepare-root.conf says `[composefs] enabled = signed` mounts no other image than the one that the signed commit
names. The image is that of libcomposefs, in its format 0, as libostree has it made (ostree-repo-composefs.c); here the program
of the same project makes it of a text that lists the tree (composefs-dump(5)), and prints its digest.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress

from compose.errors import RepositoryError, UsageError
from compose.ostree.objects import Xattrs
from compose.values import value

PROGRAM = "mkcomposefs"
# above all not the newest format that the program has: libostree has it made in the first
_COMMAND = (PROGRAM, "--min-version=0", "--max-version=0", "--from-file", "--print-digest-only", "-")
_MOUNT_POINTS = ("usr", "etc", "boot", "var", "sysroot")
"""Directories of the root that libostree adds where they are missing."""
_NONE = b"-"
_SPECIAL = re.compile(rb"[^!-<>-\[\]-~]")
"""All but printable ASCII, and the two characters with a meaning."""
_BUFFER = 1 << 20


@value
class Node:
    """One path of a tree.

    path: from the root, "" for it. mode: full st_mode. size, payload: of a file that is not empty its bytes, and where they
    are beneath objects/; of a symlink those of its target, and that. verity: of such a file, 32 bytes.
    """

    path: str
    uid: int
    gid: int
    mode: int
    xattrs: Xattrs = ()
    size: int = 0
    payload: str = ""
    verity: bytes = b""


def file_payload(checksum: bytes) -> str:
    """Where the bytes of a file are, in the kind of repository that clients have. checksum: of the content object."""
    name = checksum.hex()
    return f"{name[:2]}/{name[2:]}.file"


def require_program() -> None:
    """Raises UsageError when the program that image_digest() runs is not there."""
    if shutil.which(PROGRAM) is None:
        raise _missing()


def image_digest(nodes: Iterable[Node]) -> bytes:
    """The 32 bytes of a tree whose directories come before what is in them.

    Raises UsageError without the program, RepositoryError for what no image can hold (a symlink or xattrs that are too long),
    as it says itself.
    """
    try:
        process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=_BUFFER
        )
    except FileNotFoundError:
        raise _missing() from None
    assert process.stdin is not None
    with process:
        try:
            # when it has ended it says why
            with suppress(BrokenPipeError):
                process.stdin.writelines(dump(nodes))
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            # what is in the buffer has no reader any more
            with suppress(BrokenPipeError):
                process.stdin.close()
            raise
    answer = output.decode("ascii", "replace").strip()
    if process.returncode or not re.fullmatch("[0-9a-f]{64}", answer):
        raise RepositoryError(
            f"{PROGRAM} cannot tell the composefs digest of this tree",
            details=errors.decode(errors="replace").splitlines()[-10:] or [f"exit status {process.returncode}"],
            hint="mend what it says, or set ex-integrity.composefs=no in the repository's config",
        )
    return bytes.fromhex(answer)


def _missing() -> UsageError:
    return UsageError(
        f"a composefs digest is asked for (ex-integrity.composefs), and {PROGRAM} is not installed",
        hint="install the package composefs",
    )


def dump(nodes: Iterable[Node]) -> Iterator[bytes]:
    """The lines of composefs-dump(5) of such a tree, with what libostree adds."""
    missing = {*_MOUNT_POINTS}
    for node in nodes:
        missing.discard(node.path)
        yield _line(node)
    for name in sorted(missing):
        yield _line(Node(path=name, uid=0, gid=0, mode=stat.S_IFDIR | 0o755))


def _line(node: Node) -> bytes:
    """Path, size, mode, links, owner, group, device, time, payload, content, digest, xattrs. Times are all zero, as OSTree
    has them. The links of a directory are counted by the program."""
    payload, verity = _escaped(node.payload.encode()) or _NONE, node.verity.hex().encode() or _NONE
    if payload == _NONE and node.payload:
        payload = rb"\x2d"
    numbers = b"%d %o 1 %d %d 0 0.0" % (node.size, node.mode, node.uid, node.gid)
    xattrs = [b"%s=%s" % (_escaped(name), _escaped(content)) for name, content in node.xattrs]
    fields = (_escaped(os.fsencode(f"/{node.path}")), numbers, payload, _NONE, verity, *xattrs)
    return b" ".join(fields) + b"\n"


def _escaped(text: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: b"\\x%02x" % found[0][0], text)

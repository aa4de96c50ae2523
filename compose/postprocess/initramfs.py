"""The initramfs: generic, built by the tree's own dracut, and able to boot an OSTree deployment."""

from __future__ import annotations

import re
import stat

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents
from compose.postprocess.kernel import MODULES
from compose.process import Program, dated
from compose.tree import Tree

WRITER = "step:initramfs"
_DRACUT = "usr/bin/dracut"
_DRACUT_MODULES = "usr/lib/dracut/modules.d"
# Character devices (name, major, minor), missing until devtmpfs is mounted; owned by root, mode 0666.
_DEVICES = (("null", 1, 3), ("random", 1, 8), ("urandom", 1, 9))
_DRACUT_TIMEOUT = 1800.0


def path_of(kver: str) -> str:
    """Path of a kernel's initramfs, where clients look for it."""
    return f"{MODULES}/{kver}/initramfs.img"


def dracut(tree: Tree, kver: str, arguments: tuple[str, ...], epoch: int) -> Program:
    """The program that writes the initramfs to path_of(kver).

    epoch: of the compose. Timestamps are the kernel's if that is older, so that other, newer packages do not change the image.
    Nothing of the build host gets in: no host-only mode unless the treefile asks for it, no device nodes, no xattrs, fixed
    times. Raises PostprocessError if the tree lacks dracut or its ostree module.
    """
    if _DRACUT not in tree:
        raise PostprocessError(
            "the tree has no /usr/bin/dracut to build an initramfs with",
            hint="add the package dracut, or set `no-initramfs: true`",
        )
    if not any(re.fullmatch(r"\d+ostree", name) for name in tree.children(_DRACUT_MODULES)):
        raise PostprocessError(
            f"dracut's module `ostree` is not in /{_DRACUT_MODULES}: an initramfs without it cannot boot an OSTree system",
            hint="add the package ostree (on Debian ostree-boot)",
        )
    kernel = tree[f"{MODULES}/{kver}/vmlinuz"]
    return Program(
        owner=WRITER,
        phase="dracut",
        argv=(
            f"/{_DRACUT}",
            "--reproducible",
            "--add",
            "ostree",
            "--tmpdir",
            "/tmp",
            "--force",
            *arguments,
            "--kver",
            kver,
            f"/{path_of(kver)}",
        ),
        environment=(("DRACUT_NO_MKNOD", "1"), ("DRACUT_NO_XATTR", "1"), *dated(min(epoch, kernel.mtime))),
        timeout=_DRACUT_TIMEOUT,
    )


def finish(tree: Tree, store: Contents, kver: str) -> Tree:
    """Add the device nodes that dracut was not allowed to create, and set the mode that clients expect.

    Raises PostprocessError if dracut wrote nothing.
    """
    path = path_of(kver)
    entry = tree.get(path)
    if entry is None or entry.blob is None or not entry.blob.size:
        raise PostprocessError(f"dracut succeeded, but /{path} is not there")
    # the kernel expects concatenated archives to be aligned to four bytes, padded with zeros
    padding = bytes(4 + -entry.blob.size % 4)
    editor = tree.edit()
    blob = store.append(entry.blob, padding + device_nodes())
    editor.replace(path, mode=stat.S_IFREG | 0o644, uid=0, gid=0, blob=blob, link="", writer=WRITER)
    return editor.build()


def device_nodes() -> bytes:
    """A cpio archive of /dev with null, random and urandom.

    In newc format, see the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    members = [_member("dev", stat.S_IFDIR | 0o755, inode=1, links=2)]
    members += [
        _member(f"dev/{name}", stat.S_IFCHR | 0o666, inode=index, device=(major, minor))
        for index, (name, major, minor) in enumerate(_DEVICES, start=2)
    ]
    members.append(_member("TRAILER!!!", 0, inode=0))
    return b"".join(members)


def _member(name: str, mode: int, *, inode: int, links: int = 1, device: tuple[int, int] = (0, 0)) -> bytes:
    encoded = name.encode() + b"\0"
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = (inode, mode, 0, 0, links, 0, 0, 0, 0, *device, len(encoded), 0)
    record = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return record + bytes(-len(record) % 4)

"""Root directories: trees on disk that users can inspect, change and commit.

For `compose install`, `postprocess`, `commit` and `rootfs`. Owners, modes, capabilities and user xattrs are as in the tree,
which requires root, perhaps of a user namespace. Labels are not written, because they are computed when the directory is
committed.

A root may hold layers of containers. An overlayfs whiteout, the character device 0:0 (kernel documentation,
filesystems/overlayfs.rst), becomes the empty file .ostree-wh.NAME in the tree; deployments turn that into the device again
(ostree-checkout(1), --process-passthrough-whiteouts). The xattr of an opaque directory is kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compose import fs, memory
from compose.blobs import BlobStore, plain_mode
from compose.errors import SandboxError, UsageError
from compose.events import Reporter
from compose.ostree.hasher import Hashed
from compose.ostree.workers import hash_regular, reader_memory
from compose.tree import BlobRef, Entry, Tree, is_utf8, join, name_of, parent_of

_LABEL = b"security.selinux"
# the xattrs that rpm-ostree commits, and those that overlayfs has in the layers of containers; `ostree commit` keeps all; it
# ignores those without a value, and its fsck too, so that an object with one is damaged to it
_KEPT = (b"security.capability", b"security.ima", b"trusted.overlay.opaque", b"trusted.overlay.whiteout")
_KEPT_PREFIX = b"user."
_OF_OTHERS = "run it as root, or, if an ordinary user made the root directory: compose unshare compose ..."
_NAME_MAX = 255
_LARGE = 1 << 20  # bytes
_WHITEOUT = ".ostree-wh."
_DEVICE = "a device"
_KINDS = {stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket", stat.S_IFCHR: _DEVICE, stat.S_IFBLK: _DEVICE}


_Inode = tuple[int, int]
"""st_dev, st_ino."""


@dataclass(frozen=True, slots=True)
class _File:
    """A regular file of a root directory. path: in the tree. place: on disk. content: equal for hard links only. mode: full
    st_mode. size: bytes. mtime: seconds since 1970. link: as tree.Entry.link."""

    path: str
    place: str
    # not the inode's number of every file: some network filesystems use one for several
    content: _Inode | str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """Content of a root directory. devices: paths of device nodes, which are not in the tree. whiteouts: paths of whiteouts as
    in the directory; the tree has them as .ostree-wh.NAME. Both sorted."""

    tree: Tree
    devices: tuple[str, ...] = ()
    whiteouts: tuple[str, ...] = ()


def check_root() -> None:
    """Raise SandboxError if the user is not root, and so cannot write a root directory."""
    if os.geteuid() != 0:
        raise SandboxError(
            "only root can set the owners and capabilities in a root directory",
            hint="run it as root, or use compose tree, which needs no root directory",
        )


def check_no_mounts(directory: str) -> None:
    """Raise UsageError if something is mounted on a directory or below it. Mounted files are not part of the directory, but
    would be removed when it is replaced."""
    top = os.fsencode(os.path.realpath(directory))
    with open("/proc/self/mountinfo", "rb") as file:
        places = [re.sub(rb"\\([0-7]{3})", lambda each: bytes([int(each[1], 8)]), line.split()[4]) for line in file]
    found = sorted(os.fsdecode(place) for place in places if place == top or place.startswith(top + b"/"))
    if found:
        raise UsageError(
            f"{found[0]} is a mount point: {directory} cannot be replaced in place",
            details=found if len(found) > 1 else (),
            hint="unmount it, or give a directory below the mount point",
        )


def write_rootfs(tree: Tree, store: BlobStore, directory: str, reporter: Reporter) -> None:
    """Write a tree to a directory, which must not exist. Raises SandboxError without root, StorageError, UsageError."""
    check_root()
    if os.path.lexists(directory):
        raise UsageError(f"{directory} already exists", hint="choose another name")
    total = len(tree.entries)
    with reporter.task("Writing files", total=total, unit="files") as task, fs.storage_errors(directory):
        os.mkdir(directory, 0o700)
        try:
            top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _write_entries(top, tree, store, task.advance)
            finally:
                os.close(top)
        except BaseException:
            fs.remove_tree(directory)
            raise


def read_rootfs(
    directory: str,
    store: BlobStore,
    reporter: Reporter,
    *,
    writer: str,
    jobs: int,
    ignore_devices: bool = True,
    without: Container[str] = (),
    hashed: bool = True,
) -> Root:
    """Read a root directory. The store borrows its files, so that nobody should write to them before the tree is done with.

    writer: as tree.Entry.writer. jobs: number of processes. ignore_devices: leave device nodes out instead of failing. without:
    directories whose content is left out. hashed: False for a tree that is only looked at: no file is read, and digests are
    equal for hard links only. Raises UsageError if it is not a root directory or has files that a commit cannot hold,
    StorageError.
    """
    if not os.path.isdir(os.path.join(directory, "usr")):
        raise UsageError(f"{directory} is not a root directory: there is no usr in it")
    walked = _Walked(store, writer, ignore_devices=ignore_devices, hashed=hashed)
    faults: list[str] = []
    with reporter.task("Reading files", unit="files") as task, fs.read_errors(directory, denied=_OF_OTHERS):
        for path, full, status in _walk(directory, without):
            if fault := walked.take(path, full, status):
                faults.append(fault)
            elif path in walked.entries:
                task.advance()
        if not faults:
            files = walked.files
            found = _hashed(files, jobs, reporter, task.advance) if hashed else _named(files, task.advance)
            walked.entries.update(_borrow(files, found, store, writer))
    faults += place_whiteouts(walked.entries, walked.whiteouts)
    if faults:
        raise UsageError.of(
            faults,
            f"{directory}: {len(faults)} files cannot be committed",
            hint="remove them" if ignore_devices else "remove them; ignore-devices: true leaves devices out",
        )
    return Root(
        tree=Tree(walked.entries), devices=tuple(sorted(walked.devices)), whiteouts=tuple(sorted(walked.whiteouts))
    )


def is_kept(xattr: bytes) -> bool:
    """Is an xattr of a file in a root directory kept in the tree?"""
    return xattr in _KEPT or xattr.startswith(_KEPT_PREFIX)


def whiteout_file(permissions: int, uid: int, gid: int, mtime: int, store: BlobStore, writer: str) -> Entry:
    """Return the file that represents a whiteout; deployments give the device its owner and mode. permissions: 0..0o7777."""
    return Entry(
        mode=stat.S_IFREG | permissions,
        uid=uid,
        gid=gid,
        blob=store.add_bytes(b"", permissions),
        mtime=mtime,
        writer=writer,
    )


def place_whiteouts(entries: dict[str, Entry], whiteouts: Mapping[str, Entry]) -> list[str]:
    """Add whiteouts to entries as .ostree-wh.NAME. whiteouts: whiteout_file() by path in the root. Returns faults, one per
    line."""
    faults = []
    for path, entry in whiteouts.items():
        stored = join(parent_of(path), f"{_WHITEOUT}{name_of(path)}")
        if stored in entries:
            faults.append(f"/{path} is a whiteout, which a commit holds as /{stored}, but that already exists")
        if len(os.fsencode(name_of(stored))) > _NAME_MAX:
            faults.append(f"/{path} is a whiteout, which a commit holds as /{stored}, but that name is too long")
        entries[stored] = entry
    return faults


def _write_entries(top: int, tree: Tree, store: BlobStore, on_progress: Callable[[], None]) -> None:
    """Write a tree below an open directory, which is empty. Raises OSError, StorageError."""
    links: dict[str, str] = {}
    directories: list[tuple[str, Entry]] = []
    for path, entry in tree.walk():
        if entry.is_dir:
            directories.append((path or ".", entry))
            if path:
                os.mkdir(path, 0o700, dir_fd=top)
        elif entry.is_symlink:
            assert entry.target is not None
            os.symlink(entry.target, path, dir_fd=top)
            os.chown(path, entry.uid, entry.gid, dir_fd=top, follow_symlinks=False)
            os.utime(path, (entry.mtime, entry.mtime), dir_fd=top, follow_symlinks=False)
        elif entry.link and (first := links.setdefault(entry.link, path)) != path:
            os.link(first, path, src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
        else:
            _write_file(top, path, entry, store)
        on_progress()
    # after their content: writing it changes the mtime, and the mode may forbid it
    for path, entry in reversed(directories):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            _set_attributes(fd, entry)
        finally:
            os.close(fd)


def _write_file(top: int, path: str, entry: Entry, store: BlobStore) -> None:
    assert entry.blob is not None
    source = store.open(entry.blob)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=top)
        try:
            fs.clone_or_copy(source, fd)
            _set_attributes(fd, entry)
        finally:
            os.close(fd)
    finally:
        os.close(source)


def _set_attributes(fd: int, entry: Entry) -> None:
    """Set the owner first, because chown clears setuid and capabilities; then mode, xattrs and times."""
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.permissions)
    for name, value in entry.xattrs:
        if name != _LABEL:
            os.setxattr(fd, name, value)
    os.utime(fd, (entry.mtime, entry.mtime))


def _walk(directory: str, without: Container[str]) -> Iterator[tuple[str, str, os.stat_result]]:
    yield "", directory, os.stat(directory)
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(os.path.join(directory, above)) as found:
            rows = sorted(found, key=lambda each: each.name)
        for each in rows:
            path = join(above, each.name)
            status = each.stat(follow_symlinks=False)
            yield path, each.path, status
            if stat.S_ISDIR(status.st_mode) and path not in without:
                pending.append(path)


class _Walked:
    """What a walk through a root directory finds.

    entries: directories and symlinks, by path. files: regular files, which are yet to be read. devices: paths of those that are
    left out. whiteouts: whiteout_file() by path.
    """

    def __init__(self, store: BlobStore, writer: str, *, ignore_devices: bool, hashed: bool) -> None:
        """Arguments as of read_rootfs()."""
        self._store = store
        self._writer = writer
        self._ignore_devices = ignore_devices
        self._hashed = hashed
        self._links: dict[_Inode, str] = {}
        self.entries: dict[str, Entry] = {}
        self.files: list[_File] = []
        self.devices: list[str] = []
        self.whiteouts: dict[str, Entry] = {}

    def take(self, path: str, full: str, status: os.stat_result) -> str | None:
        """Take note of a path. full: where it is on disk. Returns why a commit cannot hold it, None if one can. Raises OSError,
        StorageError."""
        kind = stat.S_IFMT(status.st_mode)
        whiteout = kind == stat.S_IFCHR and status.st_rdev == 0
        special = None if whiteout else _KINDS.get(kind)
        if special == _DEVICE and self._ignore_devices:
            self.devices.append(path)
            return None
        if special is not None:
            return f"/{path} is {special}, which a commit cannot hold"
        if not is_utf8(path):
            return f"{os.fsencode(path)!r} is not UTF-8, as commits require"
        if whiteout:
            permissions, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            self.whiteouts[path] = whiteout_file(
                permissions, status.st_uid, status.st_gid, mtime, self._store, self._writer
            )
            return None
        if kind == stat.S_IFREG:
            if self._hashed and not self._store.has_room_for(status):
                return f"/{path} has {status.st_size} bytes with its holes, which a commit fills; there is no space for them"
            self.files.append(_file(path, full, status, self._links))
            return None
        entry = _entry(full, status, self._writer)
        if entry.target is not None and not is_utf8(entry.target):
            return f"/{path} has the target {os.fsencode(entry.target)!r}, which is not UTF-8, as commits require"
        self.entries[path] = entry
        return None


def _entry(full: str, status: os.stat_result, writer: str) -> Entry:
    """The entry of a directory or symlink."""
    symlink = stat.S_ISLNK(status.st_mode)
    return Entry(
        mode=stat.S_IFLNK | 0o777 if symlink else status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        xattrs=() if symlink else tuple(_xattrs(full)),
        target=os.readlink(full) if symlink else None,
        mtime=int(status.st_mtime),
        writer=writer,
    )


def _xattrs(full: str) -> list[tuple[bytes, bytes]]:
    """The xattrs that are kept and have a value, sorted."""
    names = sorted(filter(is_kept, map(os.fsencode, os.listxattr(full, follow_symlinks=False))))
    return [(name, value) for name in names if (value := os.getxattr(full, name, follow_symlinks=False))]


def _file(path: str, place: str, status: os.stat_result, links: dict[_Inode, str]) -> _File:
    """links: of each inode with several names, the first path."""
    content: _Inode | str = path
    link = ""
    if status.st_nlink > 1:
        content = status.st_dev, status.st_ino
        link = f"rootfs:{links.setdefault(content, path)}"
    return _File(
        path=path,
        place=place,
        content=content,
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        mtime=int(status.st_mtime),
        link=link,
    )


def _hashed(
    files: Sequence[_File], jobs: int, reporter: Reporter, on_progress: Callable[[int], None]
) -> Iterator[Hashed]:
    """Hash each file. Raises OSError, StorageError."""
    # of hard links, one is read
    first = {file.content: file for file in reversed(files)}
    # large files first, so that no core is left alone with one at the end
    asked = sorted(first.values(), key=lambda file: file.size // _LARGE, reverse=True)
    found: dict[_Inode | str, Hashed] = {}

    def take(places: range, answers: list[Hashed]) -> None:
        found.update((asked[place].content, answer) for place, answer in zip(places, answers, strict=True))
        on_progress(len(answers))

    hash_regular(
        [(file.size, file.place) for file in asked],
        (list(_KEPT), [_KEPT_PREFIX]),
        memory.fitting(jobs, reader_memory(), "Reading files", reporter),
        take,
    )
    return (found[file.content] for file in files)


def _named(files: Iterable[_File], on_progress: Callable[[int], None]) -> Iterator[Hashed]:
    """Give each file something unique in place of the digest, without reading it. Raises OSError, also for a file that may not
    be read: the owners in that root directory are not those of a commit."""
    for file in files:
        if not os.access(file.place, os.R_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file.place)
        yield hashlib.sha256(repr(file.content).encode()).digest(), file.size, _xattrs(file.place)
        on_progress(1)


def _borrow(
    files: Sequence[_File], found: Iterable[Hashed], store: BlobStore, writer: str
) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of regular files, which the store borrows. found: of each file. Raises StorageError."""
    for file, (digest, size, xattrs) in zip(files, found, strict=True):
        if size != file.size:
            raise fs.changed(file.place)
        permissions = plain_mode(stat.S_IMODE(file.mode))
        blob = BlobRef(digest=digest.hex(), size=size, mode=permissions, mtime=file.mtime)
        store.borrow(blob, file.place)
        yield (
            file.path,
            Entry(
                mode=file.mode,
                uid=file.uid,
                gid=file.gid,
                xattrs=tuple(xattrs),
                blob=blob,
                mtime=file.mtime,
                link=file.link,
                writer=writer,
            ),
        )

"""Imports one RPM into a manifest and blobs, matching its payload against its header entry by entry.

The signed header describes the payload, so the header is right, and a payload that differs from it is damaged or an
attack: it is refused with an error that names the package, the path and the fault. Nothing is ever written under a name
that the package chose.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict

from compose.blobs import BlobStore, plain_mode
from compose.errors import PackageError, StorageError
from compose.rpm.cpio import CpioEntry, CpioReader
from compose.rpm.header import HeaderFile, PackageHeader, read_header
from compose.rpm.manifest import ManifestFile, PackageManifest
from compose.rpm.payload import PayloadReader
from compose.tree import BlobRef

_STRONG = frozenset({"sha256", "sha384", "sha512", "sha3_256", "sha3_512"})
"""Digest algorithms for the files of a header that are safe from collisions."""

_Links = dict[tuple[int, int], list[int]]
"""Hard links: indices into the header's files, by inode, for each inode that has several."""


def unpack_rpm(path: str, sha256: str, blobs: BlobStore) -> PackageManifest:
    """Import one RPM file. sha256: of the file, checked by whoever fetched it.

    Raises PackageError if the package is damaged or hostile, StorageError if it cannot be read or stored.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = read_header(fd, os.path.basename(path))
        payload = PayloadReader(fd, header, str(header.nevra), hashed=not _all_digested(header))
        links = _link_groups(header.files)
        contents = _Unpacker(header, payload, links, blobs).unpack()
        payload.finish()
    finally:
        os.close(fd)
    return PackageManifest(
        nevra=header.nevra,
        sha256=sha256,
        source_rpm=header.source_rpm,
        build_time=header.build_time,
        size=header.size,
        header=header.raw,
        files=_manifest_files(header.files, links, contents),
        scriptlets=header.scriptlets,
        triggers=header.triggers,
    )


def _all_digested(header: PackageHeader) -> bool:
    """Whether every file in the payload has a strong digest.

    The payload's own digest was checked when the RPM was fetched, and need not be computed again then: damage on disk
    since shows in the files.
    """
    return header.digest in _STRONG and all(
        file.digest for file in header.files if file.is_regular and not file.is_ghost
    )


class _Unpacker:
    def __init__(self, header: PackageHeader, payload: PayloadReader, links: _Links, blobs: BlobStore) -> None:
        self._package = str(header.nevra)
        self._files = header.files
        self._digest = header.digest
        self._archive = CpioReader(payload, self._package)
        self._blobs = blobs
        self._indices = {file.path: index for index, file in enumerate(header.files)}
        self._links = links
        self._seen = [False] * len(header.files)
        self._contents: list[BlobRef | None] = [None] * len(header.files)

    def unpack(self) -> list[BlobRef | None]:
        """Return the content of each file of the header, None for those without."""
        while (entry := self._archive.next_entry()) is not None:
            index = self._index_of(entry)
            file = self._files[index]
            if self._seen[index]:
                raise self._fault(file, "it is in the payload twice")
            if file.is_ghost:
                raise self._fault(file, "it is %ghost in the header, but is in the payload")
            self._seen[index] = True
            if entry.mode is not None and stat.S_IFMT(entry.mode) != stat.S_IFMT(file.mode):
                raise self._fault(file, "its type in the payload differs from that in the header")
            size = self._expected_size(index) if entry.size is None else entry.size
            if file.is_regular:
                self._take_file(index, size)
            elif file.target is not None:
                self._check_target(file, file.target.encode(), size)
            elif size:
                raise self._fault(file, "it has content in the payload, but is not a regular file")
        for file, seen in zip(self._files, self._seen, strict=True):
            if not seen and not file.is_ghost:
                raise self._fault(file, "it is in the header, but not in the payload")
        for members in self._links.values():
            self._share_content(members)
        return self._contents

    def _index_of(self, entry: CpioEntry) -> int:
        """Find the file of the header that an entry belongs to."""
        if entry.name is None:
            assert entry.index is not None
            if entry.index >= len(self._files):
                raise PackageError(f"{self._package}: its payload has file {entry.index}, which its header lacks")
            return entry.index
        # rpm writes "./usr/bin/x", other builders "/usr/bin/x" or "usr/bin/x"
        name = entry.name.decode("utf-8", "surrogateescape")
        index = self._indices.get(name[2:] if name.startswith("./") else name.removeprefix("/"))
        if index is None:
            raise PackageError(f"{self._package}: its payload has {name!r}, which its header lacks")
        return index

    def _expected_size(self, index: int) -> int:
        """Return the size of a stripped entry's content: among hard links, the last one has it."""
        file = self._files[index]
        if file.target is not None:
            return len(file.target.encode())
        members = self._links.get(file.inode, [index])
        return file.size if file.is_regular and index == members[-1] else 0

    def _take_file(self, index: int, size: int) -> None:
        file = self._files[index]
        if size == 0 and file.size and index in self._links.get(file.inode, ()):
            # the content comes with another hard link
            return
        if size != file.size:
            raise self._fault(file, f"it has {size} bytes in the payload, {file.size} in the header")
        other = None if self._digest == "sha256" else hashlib.new(self._digest, usedforsecurity=False)
        with self._blobs.writer(stat.S_IMODE(file.mode), file.mtime) as writer:
            for piece in self._archive.content(size):
                writer.write(piece)
                if other is not None:
                    other.update(piece)
            blob = writer.commit()
        digest = blob.digest if other is None else other.hexdigest()
        if file.digest and digest != file.digest:
            raise self._fault(file, f"its content does not have the {self._digest} digest that the header records")
        self._contents[index] = blob

    def _check_target(self, file: HeaderFile, target: bytes, size: int) -> None:
        written = b"".join(self._archive.content(size)) if size == len(target) else None
        if written != target:
            raise self._fault(file, "its symlink target in the payload differs from that in the header")

    def _share_content(self, members: list[int]) -> None:
        """Give all hard links the content that came with one of them."""
        source = next((index for index in members if self._contents[index] is not None), None)
        if source is None:
            raise self._fault(self._files[members[0]], "the payload has no content for any of its hard links")
        blob = self._contents[source]
        assert blob is not None
        for index in members:
            file = self._files[index]
            if (file.size, file.digest) != (self._files[source].size, self._files[source].digest):
                raise self._fault(file, "its size or digest in the header differs from that of its hard links")
            if self._contents[index] is None:
                self._contents[index] = self._same_content(blob, file)

    def _same_content(self, blob: BlobRef, file: HeaderFile) -> BlobRef:
        if (blob.mode, blob.mtime) == (plain_mode(stat.S_IMODE(file.mode)), file.mtime):
            return blob
        fd = self._blobs.open(blob)
        try:
            return self._blobs.add_fd(fd, stat.S_IMODE(file.mode), file.mtime)
        finally:
            os.close(fd)

    def _fault(self, file: HeaderFile, fault: str) -> PackageError:
        return PackageError(f"{self._package}: {'/' + file.path!r}: {fault}")


def _link_groups(files: tuple[HeaderFile, ...]) -> _Links:
    """Group hard links by inode, each group in header order.

    Like rpm's rpmfilesBuildNLink(), considers regular files that are in the payload and have an inode number.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if file.is_regular and not file.is_ghost and file.inode[1]:
            groups[file.inode].append(index)
    return {inode: members for inode, members in groups.items() if len(members) > 1}


def _manifest_files(
    files: tuple[HeaderFile, ...], links: _Links, contents: list[BlobRef | None]
) -> tuple[ManifestFile, ...]:
    # only names that agree in everything an inode holds can share one
    names: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for members in links.values():
        for index in members:
            file = files[index]
            names[(file.inode, file.mode, file.user, file.group, file.mtime, file.caps, file.ima)].append(index)
    groups = {index: 1 + members[0] for members in names.values() if len(members) > 1 for index in members}
    found = [
        ManifestFile(
            path=file.path,
            mode=file.mode,
            user=file.user,
            group=file.group,
            mtime=file.mtime,
            flags=file.flags,
            caps=file.caps,
            target=file.target,
            blob=contents[index],
            link=groups.get(index, 0),
            color=file.color,
            lang=file.lang,
            ima=file.ima,
        )
        for index, file in enumerate(files)
    ]
    return tuple(sorted(found, key=lambda file: file.path))

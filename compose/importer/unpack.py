"""One RPM into a manifest and blobs: the payload is matched against the header, entry by entry.

The header was signed and the payload is only described by it, so the header is right and whatever differs from it is
an attack or damage: refused, naming the package, the path and the fault. Nothing of a package is ever written under a
name that the package chose.
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
"""Of the digests that a header may have for its files: those that nobody makes two files for."""

_Links = dict[tuple[int, int], list[int]]
"""Places of the files that have more than one name, by inode."""


def unpack_rpm(path: str, sha256: str, blobs: BlobStore) -> PackageManifest:
    """Import one RPM file. sha256: of the file, checked by whoever fetched it.

    Raises PackageError when the package is damaged or hostile, StorageError when it cannot be read or stored.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        header = read_header(fd, os.path.basename(path))
        payload = PayloadReader(fd, header, str(header.nevra), hashed=not _vouches(header))
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


def _vouches(header: PackageHeader) -> bool:
    """Do the digests of its files say all about the payload? Then its own, which was checked when the RPM was fetched, is not
    worked out again: what a disk has done to it since shows in the files."""
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
        self._places = {file.path: place for place, file in enumerate(header.files)}
        self._links = links
        self._seen = [False] * len(header.files)
        self._contents: list[BlobRef | None] = [None] * len(header.files)

    def unpack(self) -> list[BlobRef | None]:
        """Content of each file of the header, None for what has none."""
        while (entry := self._archive.next_entry()) is not None:
            place = self._place(entry)
            file = self._files[place]
            if self._seen[place]:
                raise self._fault(file, "it is in the payload twice")
            if file.is_ghost:
                raise self._fault(file, "it is %ghost in the header, yet in the payload")
            self._seen[place] = True
            if entry.mode is not None and stat.S_IFMT(entry.mode) != stat.S_IFMT(file.mode):
                raise self._fault(file, "its type in the payload is not that in the header")
            size = self._expected_size(place) if entry.size is None else entry.size
            if file.is_regular:
                self._take_file(place, size)
            elif file.target is not None:
                self._check_target(file, file.target.encode(), size)
            elif size:
                raise self._fault(file, "it has content in the payload, but is no regular file")
        for file, seen in zip(self._files, self._seen, strict=True):
            if not seen and not file.is_ghost:
                raise self._fault(file, "it is in the header, but not in the payload")
        for members in self._links.values():
            self._share_content(members)
        return self._contents

    def _place(self, entry: CpioEntry) -> int:
        """Which file of the header an entry is."""
        if entry.name is None:
            assert entry.index is not None
            if entry.index >= len(self._files):
                raise PackageError(f"{self._package}: its payload has file {entry.index}, its header has no such")
            return entry.index
        # rpm writes "./usr/bin/x", other builders "/usr/bin/x" or "usr/bin/x"
        name = entry.name.decode("utf-8", "surrogateescape")
        place = self._places.get(name[2:] if name.startswith("./") else name.removeprefix("/"))
        if place is None:
            raise PackageError(f"{self._package}: its payload has {name!r}, its header has not")
        return place

    def _expected_size(self, place: int) -> int:
        """Size of the content of a stripped entry: of hard links the last has it."""
        file = self._files[place]
        if file.target is not None:
            return len(file.target.encode())
        members = self._links.get(file.inode, [place])
        return file.size if file.is_regular and place == members[-1] else 0

    def _take_file(self, place: int, size: int) -> None:
        file = self._files[place]
        if size == 0 and file.size and place in self._links.get(file.inode, ()):
            # the content comes with another name of the file
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
            raise self._fault(file, f"its content has not the {self._digest} digest that the header says")
        self._contents[place] = blob

    def _check_target(self, file: HeaderFile, target: bytes, size: int) -> None:
        written = b"".join(self._archive.content(size)) if size == len(target) else None
        if written != target:
            raise self._fault(file, "the symlink has another target in the payload than in the header")

    def _share_content(self, members: list[int]) -> None:
        """Give all names of a file the content that one of them came with."""
        source = next((place for place in members if self._contents[place] is not None), None)
        if source is None:
            raise self._fault(self._files[members[0]], "the payload has the content of none of its hard links")
        blob = self._contents[source]
        assert blob is not None
        for place in members:
            file = self._files[place]
            if (file.size, file.digest) != (self._files[source].size, self._files[source].digest):
                raise self._fault(file, "the header gives another size or digest for it than for its hard links")
            if self._contents[place] is None:
                self._contents[place] = self._same_content(blob, file)

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
    """Places of the files that have more than one name, by inode, in the header's order.

    As rpmfilesBuildNLink() of rpm has it: regular files that are in the payload and have an inode number.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, file in enumerate(files):
        if file.is_regular and not file.is_ghost and file.inode[1]:
            groups[file.inode].append(place)
    return {inode: members for inode, members in groups.items() if len(members) > 1}


def _manifest_files(
    files: tuple[HeaderFile, ...], links: _Links, contents: list[BlobRef | None]
) -> tuple[ManifestFile, ...]:
    # names are one file only when they agree in all that an inode holds
    names: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for members in links.values():
        for place in members:
            file = files[place]
            names[(file.inode, file.mode, file.user, file.group, file.mtime, file.caps, file.ima)].append(place)
    groups = {place: 1 + members[0] for members in names.values() if len(members) > 1 for place in members}
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
            blob=contents[place],
            link=groups.get(place, 0),
            color=file.color,
            lang=file.lang,
            ima=file.ima,
        )
        for place, file in enumerate(files)
    ]
    return tuple(sorted(found, key=lambda file: file.path))

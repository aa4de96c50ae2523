"""OCI archives: a layout in one tar file, as skopeo and podman have it."""

from __future__ import annotations

import contextlib
import os

from compose import fs
from compose.errors import ImageError
from compose.oci import tar
from compose.oci.layout import BLOBS, INDEX, LAYOUT, check_version, choose, digest_in, parse_index

_MOST_JSON = 16 << 20


def write_archive(layout: str, path: str) -> None:
    """Put a layout's files into one, in order of their names. What is at the path stays until it is whole. Raises
    StorageError."""
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    with fs.storage_errors(path):
        try:
            out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                for name in (*(f"{BLOBS}/{each}" for each in sorted(os.listdir(f"{layout}/{BLOBS}"))), INDEX, LAYOUT):
                    _append(out, f"{layout}/{name}", name)
                fs.write_all(out, tar.END)
                os.fsync(out)
            finally:
                os.close(out)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def _append(out: int, path: str, name: str) -> None:
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        fs.write_all(out, tar.entry(name, tar.REGULAR, mode=0o644, size=size))
        for piece in fs.chunks(source):
            fs.write_all(out, piece)
        fs.write_all(out, tar.padding(size))
    finally:
        os.close(source)


def read_archived_manifest(path: str, tag: str | None) -> bytes:
    """The manifest of an image in an archive. Raises ImageError when there is none such."""
    # late: who writes one has no use for it
    import tarfile

    try:
        with tarfile.open(path) as archive:

            def read(name: str) -> bytes:
                for spelling in (name, f"./{name}"):
                    with contextlib.suppress(KeyError):
                        member = archive.getmember(spelling)
                        file = archive.extractfile(member) if member.size <= _MOST_JSON else None
                        if file is not None:
                            return file.read()
                raise ImageError(f"{path}: is no OCI archive: it has no {name}")

            check_version(path, read(LAYOUT))
            row = choose(parse_index(read(INDEX), path), tag, path)
            return read(f"{BLOBS}/{digest_in(row, path)}")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
    except tarfile.TarError as error:
        raise ImageError(f"{path}: is no OCI archive: {error}") from error

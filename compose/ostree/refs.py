"""Names that point at commits: refs/heads/NAME, 64 hex digits and a newline."""

from __future__ import annotations

import contextlib
import os
import re
import secrets

from compose import fs
from compose.errors import RepositoryError

_COMPONENT = r"[\w\d][-._\w\d]*"
_REF = re.compile(rf"{_COMPONENT}(/{_COMPONENT})*", re.ASCII)
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def is_checksum(text: str) -> bool:
    """Is this a commit's full checksum?"""
    return _CHECKSUM.fullmatch(text) is not None


def validate_ref(name: str) -> None:
    """Raise RepositoryError unless libostree would take name for a ref (ostree_validate_rev); a checksum is none."""
    if not _REF.fullmatch(name) or is_checksum(name):
        raise RepositoryError(
            f"{name!r} is not a valid ref name", hint="components of letters, digits, . _ and -, joined by /"
        )


def read_ref(repo_fd: int, name: str) -> str | None:
    """Checksum that refs/heads/NAME holds, None when there is none. Raises RepositoryError when it holds something else."""
    validate_ref(name)
    try:
        fd = os.open(f"refs/heads/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=repo_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with open(fd, encoding="ascii") as file:
            text = file.read(80).strip()
    except IsADirectoryError:
        return None
    if not is_checksum(text):
        raise RepositoryError(f"refs/heads/{name} does not hold a checksum but {text!r}")
    return text


def list_refs(repo_fd: int) -> dict[str, str]:
    """All of refs/heads, name to checksum, sorted by name as bytes."""
    found: dict[str, str] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        fd = os.open(f"refs/heads/{below}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo_fd)
        try:
            entries = [(entry.name, entry.is_dir()) for entry in os.scandir(fd)]
        finally:
            os.close(fd)
        for name, directory in entries:
            path = below + name
            if directory:
                pending.append(path + "/")
            elif _REF.fullmatch(path) and not name.endswith(".tmp") and (checksum := read_ref(repo_fd, path)):
                found[path] = checksum
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


def write_ref(repo_fd: int, name: str, checksum: str, *, fsync: bool) -> None:
    """Point a ref at a commit, by rename. Then the repository directory is touched: other processes look at its mtime."""
    validate_ref(name)
    assert is_checksum(checksum)
    path = f"refs/heads/{name}"
    with fs.storage_errors(path):
        for cut in range(len("refs/heads/"), len(path)):
            if path[cut] == "/":
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path[:cut], 0o777, dir_fd=repo_fd)
        temporary = f"tmp/ref-{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=repo_fd)
        try:
            try:
                fs.write_all(fd, f"{checksum}\n".encode())
                if fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            try:
                os.rename(temporary, path, src_dir_fd=repo_fd, dst_dir_fd=repo_fd)
            except (IsADirectoryError, NotADirectoryError) as error:
                raise RepositoryError(
                    f"the ref {name} cannot be written beside refs of the same path: {error.strerror}",
                    hint="a ref cannot be the directory of another ref",
                ) from error
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=repo_fd)
            raise
        os.utime(".", dir_fd=repo_fd)

"""Refs: files refs/heads/NAME with the checksum of a commit, 64 hex digits and a newline."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator

from compose import fs
from compose.errors import RepositoryError

_COMPONENT = r"\w[-.\w]*"
_REF = re.compile(rf"{_COMPONENT}(/{_COMPONENT})*")
# without a range up to the last character, for which compiling took longer than any other import of an unchanged compose
_NOT_LISTED = r"\x00-,/:-@\[-^`{-\x9f\ud800-\udfff"
_LISTED = re.compile(rf"[^-.{_NOT_LISTED}][^{_NOT_LISTED}]*")
"""Names of files and directories among refs that may belong to a ref: letters, digits, _, -, . and everything from U+00A0. What
letters beside ASCII's are depends on the version of the library that libostree uses, and a ref that is taken for none would
lose its commits to the next prune."""
TEMPORARY_PREFIX = "compose-"
"""Prefix of the names in the repository's tmp/ that files have until they are complete."""
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def is_checksum(text: str) -> bool:
    """Is this a commit's full checksum?"""
    return _CHECKSUM.fullmatch(text) is not None


def validate_ref(name: str) -> None:
    """Raise RepositoryError unless libostree accepts name as a ref (ostree_validate_rev()), and it is not a checksum."""
    if not _REF.fullmatch(name) or is_checksum(name):
        raise RepositoryError(
            f"{name!r} is not a valid ref name", hint="components of letters, digits, . _ and -, joined by /"
        )


def read_ref(repo_fd: int, name: str) -> str | None:
    """The checksum that a ref points to, None if there is no such ref. "REMOTE:NAME" is refs/remotes/REMOTE/NAME; "NAME" is
    refs/heads/NAME, or else the ref of any remote.

    Raises RepositoryError if the name is not valid, or the file cannot be read or contains something else.
    """
    remote, colon, rest = name.rpartition(":")
    validate_ref(rest)
    if colon:
        validate_ref(remote)
        return _read(repo_fd, f"refs/remotes/{remote}/{rest}")
    found = _read(repo_fd, f"refs/heads/{rest}")
    if found is None:
        # as ostree_repo_resolve_rev() does
        found = next(
            (
                each
                for place in list_directories(repo_fd, "refs/remotes")
                if (each := _read(repo_fd, f"refs/remotes/{place}/{rest}"))
            ),
            None,
        )
    return found


def _read(repo_fd: int, path: str) -> str | None:
    try:
        with fs.open_regular(path, dir_fd=repo_fd) as file:
            text = file.read(80).decode("ascii", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(repo_fd, path, error) from error
    if not is_checksum(text):
        raise RepositoryError(f"{path} contains {text!r} instead of a checksum")
    return text


def list_refs(repo_fd: int, top: str = "refs/heads") -> dict[str, str]:
    """The checksums of all refs below a directory of the repository, by name, sorted by name as bytes.

    Aliases, which are symlinks to refs, are included. Refs that another process removes meanwhile are not. Raises
    RepositoryError.
    """
    found: dict[str, str] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        for name, is_directory in _entries(repo_fd, f"{top}/{below}".rstrip("/")):
            path = below + name
            if not _LISTED.fullmatch(name):
                continue
            if is_directory:
                pending.append(path + "/")
            elif checksum := _read(repo_fd, f"{top}/{path}"):
                found[path] = checksum
    return dict(sorted(found.items(), key=lambda item: item[0].encode()))


def list_directories(repo_fd: int, path: str) -> list[str]:
    """Names of the directories in a directory of the repository, sorted; none if it is missing. Raises RepositoryError."""
    return sorted(name for name, is_directory in _entries(repo_fd, path) if is_directory)


def _entries(repo_fd: int, path: str) -> list[tuple[str, bool]]:
    """Name, and whether it is a directory, of everything in a directory."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo_fd)
        try:
            with os.scandir(fd) as entries:
                return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        finally:
            os.close(fd)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(repo_fd, path, error) from error


def _unreadable(repo_fd: int, path: str, error: OSError) -> RepositoryError:
    return RepositoryError(f"cannot read {fs.full_path(path, repo_fd)}: {error.strerror}")


def write_ref(repo_fd: int, name: str, checksum: str, *, fsync: bool) -> None:
    """Point a ref to a commit, by rename, and touch() the repository. Raises as prepared_ref() does."""
    with prepared_ref(repo_fd, name, checksum, fsync=fsync) as rename:
        rename()
    touch(repo_fd)


def touch(repo_fd: int) -> None:
    """Update the mtime of the repository's directory, by which other processes notice that refs have moved. Raises
    StorageError."""
    with fs.storage_errors(fs.full_path("refs", repo_fd)):
        os.utime(".", dir_fd=repo_fd)


@contextlib.contextmanager
def prepared_ref(repo_fd: int, name: str, checksum: str, *, fsync: bool) -> Iterator[Callable[[], None]]:
    """Write a ref to a temporary file. Gives a function that moves it into place; without a call nothing changes.

    Both raise StorageError, and RepositoryError if the name is not valid or conflicts with another ref.
    """
    validate_ref(name)
    if not is_checksum(checksum):
        raise ValueError(f"{checksum!r} is not a checksum")
    path = f"refs/heads/{name}"
    with _name_conflicts(name), fs.storage_errors(fs.full_path(path, repo_fd)):
        for cut in range(len("refs/heads/"), len(path)):
            if path[cut] == "/":
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path[:cut], 0o777, dir_fd=repo_fd)
        if stat.S_ISDIR(_mode_of(repo_fd, path)):
            _remove_empty(repo_fd, path)
    with prepared_file(repo_fd, path, f"{checksum}\n".encode(), fsync=fsync) as rename:

        def move() -> None:
            with _name_conflicts(name):
                rename()

        yield move


def _mode_of(repo_fd: int, path: str) -> int:
    """The mode of a file, 0 if it is missing."""
    try:
        return os.stat(path, dir_fd=repo_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _remove_empty(repo_fd: int, path: str) -> None:
    """Remove a directory in which no ref is left: those who remove refs leave their directories. Raises IsADirectoryError if a
    ref is in it."""
    for _, directories, _, fd in os.fwalk(path, topdown=False, dir_fd=repo_fd):
        for each in directories:
            with contextlib.suppress(OSError):
                os.rmdir(each, dir_fd=fd)
    try:
        os.rmdir(path, dir_fd=repo_fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None


@contextlib.contextmanager
def _name_conflicts(name: str) -> Iterator[None]:
    try:
        yield
    except (IsADirectoryError, NotADirectoryError) as error:
        raise RepositoryError(
            f"the ref {name} conflicts with another ref: {error.strerror}",
            hint="a ref cannot also be a directory of other refs",
        ) from error


def replace_file(repo_fd: int, path: str, data: bytes, *, fsync: bool) -> None:
    """Write a file of the repository atomically: by rename from tmp/, where leftovers are cleaned up. Raises StorageError."""
    with prepared_file(repo_fd, path, data, fsync=fsync) as rename:
        rename()


@contextlib.contextmanager
def prepared_file(repo_fd: int, path: str, data: bytes, *, fsync: bool) -> Iterator[Callable[[], None]]:
    """Write a file completely to tmp/. Gives a function that moves it into place; without a call it is removed. Both raise
    StorageError."""
    temporary = f"tmp/{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
    place = fs.full_path(path, repo_fd)
    with fs.storage_errors(place):
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=repo_fd)
    try:
        with fs.storage_errors(place):
            try:
                fs.write_all(fd, data)
                os.fchmod(fd, 0o644)
                if fsync:
                    os.fsync(fd)
            finally:
                os.close(fd)

        def rename() -> None:
            with fs.storage_errors(place):
                os.rename(temporary, path, src_dir_fd=repo_fd, dst_dir_fd=repo_fd)

        yield rename
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=repo_fd)

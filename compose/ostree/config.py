"""The config of a repository, a keyfile: the keys that a writer must honour."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from compose import fs
from compose.errors import RepositoryError


class Mode(enum.StrEnum):
    """How content objects are stored on disk. The value is that of core.mode."""

    ARCHIVE = "archive-z2"
    BARE = "bare"
    BARE_USER = "bare-user"
    BARE_USER_ONLY = "bare-user-only"
    BARE_SPLIT_XATTRS = "bare-split-xattrs"

    @property
    def content_extension(self) -> str:
        """Extension of the files of content objects."""
        return "filez" if self is Mode.ARCHIVE else "file"


_FREE_PERCENT, _FREE_BYTES = 3, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a repository, with libostree's defaults.

    lock_timeout: seconds, negative to wait forever. min_free_percent, min_free_bytes: see least_free(). zlib_level: 1 to 9,
    None if not set. parent: path of a repository with more objects. composefs: do commits contain the digest of their
    composefs image?
    """

    mode: Mode
    fsync: bool = True
    locking: bool = True
    lock_timeout: int = 300
    min_free_percent: int = _FREE_PERCENT
    min_free_bytes: int = _FREE_BYTES
    auto_update_summary: bool = False
    collection_id: str | None = None
    deltas_in_summary: bool = True
    indexed_deltas: bool = False
    tombstones: bool = False
    zlib_level: int | None = None
    parent: str | None = None
    composefs: bool = False

    def least_free(self, total: int) -> int:
        """Bytes to keep free of a disk with this number of bytes: the smaller of the two limits; 0 is none. total: 0 of a
        filesystem that does not tell, such as ramfs, and has no limit."""
        if not total:
            return 0
        return min(filter(None, (self.min_free_bytes, total * self.min_free_percent // 100)), default=0)


_MAX_SIZE = 1 << 20
"""Size of a config in bytes."""
_TRISTATE = {"yes": True, "true": True, "1": True, "maybe": True, "no": False, "false": False, "0": False}
_SIZE = re.compile(r"([0-9]{1,18})(MB|GB|TB)")
_UNITS = {"MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_MAX_PERCENT = 99
"""As libostree has it."""


def read_config(path: str) -> str:
    """Return the text of a config. Raises OSError, and ValueError for a file that is not text or too large."""
    with fs.open_regular(path) as file:
        data = file.read(_MAX_SIZE + 1)
    if len(data) > _MAX_SIZE:
        raise ValueError(f"it has more than {_MAX_SIZE} bytes")
    return data.decode()


def parse_config(text: str, path: str) -> Config:
    """Parse a config. path: of the config, for messages. Raises RepositoryError with the path, and the key or line."""
    groups = _parse_keyfile(text, path)
    if "core" not in groups:
        raise RepositoryError(f"{path}: not a repository configuration: it has no [core]")
    core = groups["core"]

    def number(group: str, key: str) -> int | None:
        value = groups.get(group, {}).get(key)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError:
            raise RepositoryError(f"{path}: {group}.{key} must be a number, not {value!r}") from None

    def flag(key: str, default: bool) -> bool:
        value = core.get(key, "").lower()
        if value in ("", "true", "1", "false", "0"):
            return default if not value else value in ("true", "1")
        raise RepositoryError(f"{path}: core.{key} must be true or false, not {value!r}")

    if core.get("repo_version", "1") != "1":
        raise RepositoryError(f"{path}: repository version {core['repo_version']} is not known", hint="version 1 is")
    name = core.get("mode", "bare")
    try:
        mode = Mode.ARCHIVE if name == "archive" else Mode(name)
    except ValueError:
        raise RepositoryError(f"{path}: core.mode={name} is not known") from None
    percent = number("core", "min-free-space-percent")
    if percent is not None and not 0 <= percent <= _MAX_PERCENT:
        raise RepositoryError(
            f"{path}: core.min-free-space-percent must be a number from 0 to {_MAX_PERCENT}, not {percent}"
        )
    space = _size(core["min-free-space-size"], path) if "min-free-space-size" in core else None
    if percent is None and space is None:
        percent, space = _FREE_PERCENT, _FREE_BYTES
    level = number("archive", "zlib-level")
    return Config(
        mode=mode,
        fsync=flag("fsync", True),
        locking=flag("locking", True),
        lock_timeout=300 if (timeout := number("core", "lock-timeout-secs")) is None else timeout,
        min_free_percent=percent or 0,
        min_free_bytes=space or 0,
        auto_update_summary=flag("auto-update-summary", False) or flag("commit-update-summary", False),
        collection_id=core.get("collection-id") or None,
        deltas_in_summary=not flag("no-deltas-in-summary", False),
        indexed_deltas=flag("indexed-deltas", False),
        tombstones=flag("tombstone-commits", False),
        parent=core.get("parent") or None,
        zlib_level=None if level is None else min(9, max(1, level)),
        composefs=_tristate(groups.get("ex-integrity", {}), "composefs", path),
    )


def _parse_keyfile(text: str, path: str) -> dict[str, dict[str, str]]:
    """Return the keys and values of each group, as GLib's GKeyFile does: the last of several equal keys counts, and equal
    groups are merged."""
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] | None = None
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if not line or line[0] == "#":
            continue
        key, equals, value = line.partition("=")
        if line[0] == "[" and line[-1] == "]":
            group = groups.setdefault(line[1:-1], {})
        elif equals and group is not None:
            group[key.rstrip()] = value.lstrip()
        else:
            fault = f"{line!r} is not key=value" if group is not None else f"{line!r} precedes the first [group]"
            raise RepositoryError(f"{path}:{number}: not a repository configuration: {fault}")
    return groups


def _tristate(group: Mapping[str, str], key: str, path: str) -> bool:
    """Parse a value of libostree's type with the values yes, no and maybe. Maybe means yes, because a commit must not depend on
    what is installed where it is composed."""
    value = group.get(key, "no")
    if value not in _TRISTATE:
        raise RepositoryError(f"{path}: ex-integrity.{key} must be one of {', '.join(_TRISTATE)}, not {value!r}")
    return _TRISTATE[value]


def _size(text: str, path: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RepositoryError(f"{path}: core.min-free-space-size={text} must be a number and MB, GB or TB")
    return int(match[1]) * _UNITS[match[2]]

"""What this machine can do, what is missing, and the line that mends it: each found by trying, not by looking at versions."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from compose import fs
from compose.bindings import require_bindings
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.errors import ComposeError, UsageError
from compose.events import Reporter
from compose.ostree import composefs
from compose.ostree.deflate import codec_name
from compose.sandbox import identity
from compose.workroot.probe import probe
from compose.workroot.server import Form

_GIB = 1 << 30
_SPACE_NEEDED = 2 * _GIB
"""A small system's packages, their contents and its commit; with less, composes end early."""
_SPACE_WANTED = 15 * _GIB
_MODULES = {"yaml": "pyyaml", "jsonschema": "jsonschema", "zstandard": "zstandard", "rich": "rich"}
_INSTALLS = {"debian": "apt-get install", "fedora": "dnf install"}
_LIBDEFLATE = {"debian": "libdeflate0", "fedora": "libdeflate"}
_GNUPG = {"debian": "gpg", "fedora": "gnupg2"}
_COMPOSEFS = {"debian": "composefs", "fedora": "composefs"}


class Verdict(StrEnum):
    OK = "ok"
    WORSE = "worse"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at.

    verdict: WORSE: composes work without it. found: what was found. mend: the line, or what to do, "" for nothing to mend.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def examine(cachedir: str) -> Iterator[Check]:
    """Look at everything, one after the other. cachedir: where composes would work; it is made."""
    yield _python()
    yield _bindings()
    yield _modules()
    try:
        with CacheDir(cachedir).shared(Reporter()) as cache, cache.scratch() as work:
            yield _ok("cachedir", cache.path)
            yield _space(cache.path)
            yield from _features(work)
            yield from _sandbox(work)
    except ComposeError as error:
        yield _from_error("cachedir", error)
        try:
            with fs.temporary_directory("compose-doctor-") as work:
                yield from _sandbox(work)
        except ComposeError as nowhere:
            yield _from_error("sandbox", nowhere)
    yield _library()
    yield _gnupg()
    yield _composefs()


def works(checks: tuple[Check, ...]) -> bool:
    """Can composes be made here?"""
    return all(each.verdict is not Verdict.MISSING for each in checks)


def _ok(name: str, found: str) -> Check:
    return Check(name=name, verdict=Verdict.OK, found=found)


def _from_error(name: str, error: ComposeError) -> Check:
    return Check(name=name, verdict=Verdict.MISSING, found=error.message, mend=error.hint or "")


def _python() -> Check:
    return _ok("python", f"{platform.python_version()}, {sys.executable}")


def _bindings() -> Check:
    try:
        require_bindings()
    except ComposeError as error:
        return _from_error("bindings", error)
    return _ok("bindings", "libdnf5, rpm, selinux")


def _modules() -> Check:
    missing = [package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return _ok("modules", ", ".join(_MODULES))
    mend = f"{os.path.basename(sys.executable)} -m pip install {' '.join(missing)}"
    return Check(name="modules", verdict=Verdict.MISSING, found=f"no {', '.join(missing)}", mend=mend)


def _sandbox(work: str) -> Iterator[Check]:
    """One line for each obstacle, or for the rung of the ladder that holds."""
    obstacles = identity.obstacles()
    if obstacles:
        for error in dict.fromkeys((each.message, each.hint or "") for each in obstacles):
            yield Check(name="sandbox", verdict=Verdict.MISSING, found=error[0], mend=error[1])
        return
    try:
        rung = probe(BlobStore(f"{work}/blobs"), work)
    except ComposeError as error:
        yield _from_error("sandbox", error)
        return
    match rung.form:
        case Form.OVERLAY:
            yield _ok("sandbox", str(rung))
        case Form.OVERLAY_IN_MEMORY:
            mend = "a cachedir on a disk of its own (a volume, in a container)"
            found = f"{rung}: the cachedir cannot hold what programs change"
            yield Check(name="sandbox", verdict=Verdict.WORSE, found=found, mend=mend)
        case Form.COPY:
            mend = (
                "a cachedir on a disk of its own (a volume, in a container); Linux 5.11 or newer for an ordinary user"
            )
            found = f"{rung}: no overlay, and every file is copied for each workroot"
            yield Check(name="sandbox", verdict=Verdict.WORSE, found=found, mend=mend)


def _space(path: str) -> Check:
    status = os.statvfs(path)
    if not status.f_blocks:
        return _ok("space", "as much as there is memory")
    free = status.f_bavail * status.f_frsize
    found = f"{free / _GIB:.1f} GiB free in {path}"
    if free < _SPACE_NEEDED:
        mend = f"make room for {_SPACE_NEEDED // _GIB} GiB there, or give another --cachedir"
        return Check(name="space", verdict=Verdict.MISSING, found=found, mend=mend)
    if free < _SPACE_WANTED:
        mend = f"a desktop's packages, contents and commit take about {_SPACE_WANTED // _GIB} GiB"
        return Check(name="space", verdict=Verdict.WORSE, found=found, mend=mend)
    return _ok("space", found)


def _features(work: str) -> Iterator[Check]:
    """What the cachedir's filesystem can do."""
    lost = {
        "reflink": (_reflink, "copies take time and space; xfs and btrfs share them"),
        "O_TMPFILE": (_unnamed, "a killed compose leaves more to clean"),
        "hard links": (_link, "each workroot holds copies of all files"),
        "user xattrs": (
            _user_xattr,
            "an ordinary user's changes are kept in memory; ext4, xfs, btrfs and Linux 6.6's tmpfs have them",
        ),
    }
    for name, (attempt, loss) in lost.items():
        try:
            attempt(work)
        except OSError as error:
            found = f"no: {error.strerror}"
            yield Check(name=name, verdict=Verdict.WORSE, found=found, mend=loss)
        else:
            yield _ok(name, "yes")


def _reflink(work: str) -> None:
    with open(f"{work}/source", "w+b") as source, open(f"{work}/target", "wb") as target:
        source.write(b"x" * 4096)
        source.flush()
        fs.clone(source.fileno(), target.fileno())


def _unnamed(work: str) -> None:
    os.close(os.open(work, os.O_TMPFILE | os.O_RDWR, 0o600))


def _link(work: str) -> None:
    os.link(f"{work}/source", f"{work}/link")


def _user_xattr(work: str) -> None:
    os.setxattr(f"{work}/source", "user.compose", b"x")


def _library() -> Check:
    if codec_name() == "libdeflate":
        return _ok("libdeflate", "yes")
    return Check(
        name="libdeflate",
        verdict=Verdict.WORSE,
        found="no: zlib writes archives in twice the time",
        mend=_install(_LIBDEFLATE),
    )


def _gnupg() -> Check:
    found = shutil.which("gpg")
    if found:
        return _ok("gpg", found)
    return Check(
        name="gpg", verdict=Verdict.WORSE, found="no: commits cannot be signed (gpg-key)", mend=_install(_GNUPG)
    )


def _composefs() -> Check:
    found = shutil.which(composefs.PROGRAM)
    if found is None:
        lost = "no: commits get no composefs digest (ex-integrity.composefs)"
        return Check(name="composefs", verdict=Verdict.WORSE, found=lost, mend=_install(_COMPOSEFS))
    try:
        composefs.require_program()
    except UsageError as error:
        return Check(name="composefs", verdict=Verdict.WORSE, found=error.message, mend=error.hint or "")
    return _ok("composefs", found)


def _install(packages: dict[str, str]) -> str:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    for family in (system.get("ID", ""), *system.get("ID_LIKE", "").split()):
        if family in _INSTALLS:
            return f"as root: {_INSTALLS[family]} {packages[family]}"
    return f"install {packages['fedora']}"

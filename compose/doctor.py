"""Check by experiment, not by version numbers, what this machine can do, and suggest how to fix what is missing."""

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
from compose.bindings import INSTALL, family_of, require_bindings, this_system
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.errors import ComposeError, UsageError
from compose.events import Reporter
from compose.ostree import composefs
from compose.ostree.deflate import codec_name
from compose.sandbox import emulation, identity
from compose.scratch import temporary_directory
from compose.workroot.probe import probe
from compose.workroot.server import Form

_GIB = 1 << 30
_SPACE_NEEDED = 2 * _GIB
"""For a small system's packages, their contents and the commit; with less, composes fail."""
_SPACE_WANTED = 15 * _GIB
_MODULES = {
    "yaml": {"debian": "python3-yaml", "fedora": "python3-pyyaml"},
    "jsonschema": {"debian": "python3-jsonschema", "fedora": "python3-jsonschema"},
    "zstandard": {"debian": "python3-zstandard", "fedora": "python3-zstandard"},
    "rich": {"debian": "python3-rich", "fedora": "python3-rich"},
}
_LIBDEFLATE = {"debian": "libdeflate0", "fedora": "libdeflate"}
_GNUPG = {"debian": "gpg", "fedora": "gnupg2"}
_COMPOSEFS = {"debian": "composefs", "fedora": "composefs"}


class Verdict(StrEnum):
    """WORSE: composes work, but more slowly or without a feature. MISSING: composes do not work."""

    OK = "ok"
    WORSE = "worse"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of a check. found: what was found. mend: the command or other remedy, "" if there is nothing to fix."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def examine(cachedir: str) -> Iterator[Check]:
    """Run all checks in turn. cachedir: as for a compose; it is created."""
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
            with temporary_directory("compose-doctor-") as work:
                yield from _sandbox(work)
        except ComposeError as no_place:
            yield _from_error("sandbox", no_place)
    yield _library()
    yield _gnupg()
    yield _composefs()


def works(checks: tuple[Check, ...]) -> bool:
    """Do composes work here?"""
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
    return _ok("bindings", "libdnf5, rpm, selinux, rpmdb")


def _modules() -> Check:
    missing = [module for module in _MODULES if importlib.util.find_spec(module) is None]
    if not missing:
        return _ok("modules", ", ".join(_MODULES))
    # not with pip, which Debian keeps out of the system
    packages = {family: " ".join(_MODULES[module][family] for module in missing) for family in INSTALL}
    return Check(name="modules", verdict=Verdict.MISSING, found=f"no {', '.join(missing)}", mend=_install(packages))


def _sandbox(work: str) -> Iterator[Check]:
    """Yield a check for each obstacle, or one for the sandbox that works."""
    obstacles = identity.obstacles()
    if obstacles:
        for message, hint in dict.fromkeys((each.message, each.hint or "") for each in obstacles):
            yield Check(name="sandbox", verdict=Verdict.MISSING, found=message, mend=hint)
        return
    try:
        sandbox = probe(BlobStore(f"{work}/blobs"), work)
    except ComposeError as error:
        yield _from_error("sandbox", error)
        return
    if emulated := emulation.emulated():
        yield _ok("emulators", ", ".join(emulated))
    match sandbox.form:
        case Form.OVERLAY:
            yield _ok("sandbox", str(sandbox))
        case Form.OVERLAY_IN_MEMORY:
            mend = "use a cachedir on its own disk (in a container, a volume)"
            found = f"{sandbox}: changes by programs are kept in memory, because the cachedir cannot hold them"
            yield Check(name="sandbox", verdict=Verdict.WORSE, found=found, mend=mend)
        case Form.COPY:
            mend = (
                "use a cachedir on its own disk (in a container, a volume); an ordinary user needs Linux 5.11 or newer"
            )
            found = f"{sandbox}: without an overlay, every file is copied for each workroot"
            yield Check(name="sandbox", verdict=Verdict.WORSE, found=found, mend=mend)


def _space(path: str) -> Check:
    status = os.statvfs(path)
    if not status.f_blocks:
        return _ok("space", "limited by memory")
    free = status.f_bavail * status.f_frsize
    found = f"{free / _GIB:.1f} GiB free in {path}"
    if free < _SPACE_NEEDED:
        mend = f"free {_SPACE_NEEDED // _GIB} GiB there, or use another --cachedir"
        return Check(name="space", verdict=Verdict.MISSING, found=found, mend=mend)
    if free < _SPACE_WANTED:
        mend = f"the packages, contents and commit of a desktop take about {_SPACE_WANTED // _GIB} GiB"
        return Check(name="space", verdict=Verdict.WORSE, found=found, mend=mend)
    return _ok("space", found)


def _features(work: str) -> Iterator[Check]:
    """Check the cachedir's filesystem."""
    features = {
        "reflink": (_reflink, "copies take time and space; xfs and btrfs have reflinks"),
        "O_TMPFILE": (_unnamed, "a killed compose leaves more files to clean up"),
        "hard links": (_link, "each workroot gets copies of all files"),
        "user xattrs": (
            _user_xattr,
            "changes by programs of an ordinary user's compose are kept in memory; ext4, xfs, btrfs and tmpfs of Linux 6.6 "
            "have user xattrs",
        ),
    }
    for name, (attempt, consequence) in features.items():
        try:
            attempt(work)
        except OSError as error:
            yield Check(name=name, verdict=Verdict.WORSE, found=f"no: {error.strerror}", mend=consequence)
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
        found="no: with zlib, writing archive repositories takes twice as long",
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
        return Check(
            name="composefs",
            verdict=Verdict.WORSE,
            found="no: commits cannot have a composefs digest (ex-integrity.composefs)",
            mend=_install(_COMPOSEFS),
        )
    try:
        composefs.require_program()
    except UsageError as error:
        return Check(name="composefs", verdict=Verdict.WORSE, found=error.message, mend=error.hint or "")
    return _ok("composefs", found)


def _install(packages: dict[str, str]) -> str:
    family = family_of(this_system())
    return f"as root: {INSTALL[family]} {packages[family]}" if family else f"install {packages['fedora']}"

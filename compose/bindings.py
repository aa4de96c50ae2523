"""What distributions package and PyPI does not: the Python bindings libdnf5, rpm and selinux, and the program rpmdb."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping

from compose.errors import UsageError

# module or program -> its package in each family of distributions (ID and ID_LIKE of os-release)
_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "libdnf5": {"fedora": "python3-libdnf5", "debian": "python3-libdnf5"},
    "rpm": {"fedora": "python3-rpm", "debian": "python3-rpm"},
    "selinux": {"fedora": "python3-libselinux", "debian": "python3-selinux"},
    # the bindings do not depend on it
    "rpmdb": {"fedora": "rpm", "debian": "rpm"},
}
INSTALL = {"fedora": "dnf install", "debian": "apt-get install"}
"""The command that installs packages, by family of distributions."""
# releases of Debian whose rpm and libsolv are too old for libdnf5
_TOO_OLD_DEBIAN = frozenset({"buster", "bullseye", "bookworm", "trixie"})
_ELSEWHERE = (
    "they are packaged by Fedora (python3-libdnf5 python3-rpm python3-libselinux rpm) and by Debian forky and later "
    "(python3-libdnf5 python3-rpm python3-selinux rpm): run there, or in a container of one of them"
)


def _find(name: str) -> object | None:
    if name == "rpmdb":
        return name if os.access("/usr/bin/rpmdb", os.X_OK) else None
    return importlib.util.find_spec(name)


def require_bindings(find: Callable[[str], object | None] = _find) -> None:
    """Raise UsageError if modules, or the program rpmdb, are missing; its hint is the command that installs them here.

    find: name of a module or program -> None if there is no such one.
    """
    missing = tuple(name for name in _PACKAGES if find(name) is None)
    if not missing:
        return
    raise UsageError(
        f"this machine lacks {', '.join(missing)}, which compose needs",
        hint=install_hint(missing, this_system()),
    )


def this_system() -> dict[str, str]:
    """The keys and values of this machine's os-release; none if it has no such file."""
    # imported late, because it is rarely needed
    import platform

    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def family_of(system: Mapping[str, str]) -> str | None:
    """Which of INSTALL a system belongs to. system: as from this_system()."""
    return next((each for each in (system.get("ID", ""), *system.get("ID_LIKE", "").split()) if each in INSTALL), None)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that determine a tree, by name; "" for an unknown one."""
    # imported late, because these take 20 ms
    import platform
    import sqlite3
    from importlib import metadata

    import rpm

    try:
        libselinux = metadata.version("selinux")
    except metadata.PackageNotFoundError:
        libselinux = ""
    return {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "libselinux": libselinux,
        "librpm": rpm.__version__,
    }


def install_hint(names: Iterable[str], system: Mapping[str, str]) -> str:
    """Explain how to install modules and programs on a system. system: as from this_system()."""
    family = family_of(system)
    old = family == "debian" and system.get("VERSION_CODENAME", "") in _TOO_OLD_DEBIAN
    derived = family == "debian" and system.get("ID") != family
    if family is None or old or derived:
        name = system.get("PRETTY_NAME") or "this system"
        return f"{name} may not have them; {_ELSEWHERE}"
    packages = " ".join(_PACKAGES[name][family] for name in names)
    # not with those of another Python, or in an environment that hides the distribution's modules
    return f"{INSTALL[family]} {packages}; run compose with /usr/bin/python3, or in a venv of it with --system-site-packages"

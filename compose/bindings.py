"""Python bindings that distributions package and PyPI does not: libdnf5, rpm, selinux."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping

from compose.errors import UsageError

# module -> its package in each family of distributions (ID and ID_LIKE of os-release)
_PACKAGES: Mapping[str, Mapping[str, str]] = {
    "libdnf5": {"fedora": "python3-libdnf5", "debian": "python3-libdnf5"},
    "rpm": {"fedora": "python3-rpm", "debian": "python3-rpm"},
    "selinux": {"fedora": "python3-libselinux", "debian": "python3-selinux"},
}
_INSTALL = {"fedora": "dnf install", "debian": "apt-get install"}
# releases of Debian whose rpm and libsolv are too old for libdnf5
_TOO_OLD_DEBIAN = frozenset({"buster", "bullseye", "bookworm", "trixie"})
_ELSEWHERE = (
    "they are packaged by Fedora (python3-libdnf5 python3-rpm python3-libselinux) and by Debian forky and later "
    "(python3-libdnf5 python3-rpm python3-selinux): run there, or in a container of one of them"
)


def require_bindings(find: Callable[[str], object | None] = importlib.util.find_spec) -> None:
    """Raise UsageError if modules are missing; its hint is the command that installs them here.

    find: module name -> None if there is no such module.
    """
    missing = tuple(module for module in _PACKAGES if find(module) is None)
    if not missing:
        return
    # imported late, because the modules are rarely missing
    import platform

    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    raise UsageError(
        f"this Python lacks {', '.join(missing)}, Python bindings that compose needs",
        hint=install_hint(missing, system),
    )


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


def install_hint(modules: Iterable[str], system: Mapping[str, str]) -> str:
    """Explain how to install modules on a system. system: the keys and values of its os-release."""
    families = (system.get("ID", ""), *system.get("ID_LIKE", "").split())
    family = next((each for each in families if each in _INSTALL), None)
    old = family == "debian" and system.get("VERSION_CODENAME", "") in _TOO_OLD_DEBIAN
    derived = family == "debian" and system.get("ID") != family
    if family is None or old or derived:
        name = system.get("PRETTY_NAME") or "this system"
        return f"{name} may not have them; {_ELSEWHERE}"
    packages = " ".join(_PACKAGES[module][family] for module in modules)
    return f"{_INSTALL[family]} {packages} (and run compose with the distribution's own python3)"

"""The order in which librpm would install packages."""

from __future__ import annotations

from collections.abc import Sequence

from compose.errors import AssembleError, ComposeError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.manifest import PackageManifest


def install_order(manifests: Sequence[PackageManifest], reporter: Reporter) -> tuple[PackageManifest, ...]:
    """The packages as librpm's transaction orders them: requirements first.

    Given sorted by NEVRA first, for the order depends on the order in which packages are added. Raises AssembleError
    when librpm fails.
    """
    ordered = sorted(manifests, key=lambda manifest: manifest.nevra)
    positions = child.call(_order, [manifest.header for manifest in ordered], reporter, crash=_crash)
    return tuple(ordered[position] for position in positions)


def _crash(how: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while ordering the packages: {how}", details=lines)


def _order(headers: list[bytes], reporter: Reporter) -> list[int]:
    del reporter
    import rpm

    transaction = rpm.TransactionSet("/", rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    rpm.addMacro("_dbpath", "/nonexistent")
    for position, header in enumerate(headers):
        transaction.addInstall(rpm.hdr(header), position, "i")
    transaction.order()
    return [element.Key() for element in transaction]

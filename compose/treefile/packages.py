"""Lists of packages in a treefile."""

from __future__ import annotations

import re
from collections.abc import Iterable

from compose.treefile.source import Located

_COMPARISONS = frozenset({"<", "<=", "=", "==", ">=", ">"})


def split_packages(text: str) -> list[str]:
    """Split a text into package specs, at spaces outside of single quotes. Raises ValueError."""
    if text.count("'") % 2:
        raise ValueError(f"missing terminating quote in {text!r}")
    pieces = re.findall(r"'([^']*)'|([^\s']+)", text)
    if not _COMPARISONS.isdisjoint(bare for _, bare in pieces):
        wanted = f"\"'{text}'\"" if "'" not in text else "single quotes around it"
        raise ValueError(f"{text!r} is split at spaces; to require a version, write {wanted}")
    return [quoted or bare for quoted, bare in pieces if quoted or bare]


def without_overridden(rows: Iterable[Located]) -> list[Located]:
    """Rows of repo-packages, each package only in the last row that lists it: an includer overrides its includes. Rows of which
    nothing is left are dropped."""
    taken: set[str] = set()
    found: list[Located] = []
    for row in reversed(list(rows)):
        packages = row.value["packages"]
        # a dict, to list a package once and keep the order
        items = {item.value: item for item in reversed(packages.value) if item.value not in taken}
        taken.update(items)
        if items:
            kept = Located(list(reversed(items.values())), packages.place)
            found.append(Located({**row.value, "packages": kept}, row.place))
    return found[::-1]

"""License tags of packages, as SPDX expressions where possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from compose.errors import UsageError

_LICENSE_REF = "LicenseRef-"
# SPDX 2.3, annex D
_REFERENCE = re.compile(rf"{_LICENSE_REF}[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An SPDX license expression.

    text: in SPDX's spelling. references: the names in it that the document itself defines ("LicenseRef-..."), sorted.
    """

    text: str
    references: tuple[str, ...]


@cache
def spdx_expression(tag: str) -> Expression | None:
    """Parse a tag; None when it is not an expression, or names a license that is not on SPDX's list.

    Fedora's packages have used SPDX expressions since 2023, older ones Fedora's own names ("GPLv2+ and MIT"); other tags
    are free text. Raises UsageError when the library with SPDX's license list is missing.
    """
    licensing, known = _licensing()
    if not tag.strip():
        return None
    try:
        parsed = licensing.parse(tag, strict=True)
    except Exception:
        # of parentheses with an operand missing it raises IndexError and AssertionError too, besides its own
        return None
    names = {str(each) for each in licensing.license_keys(parsed)}
    references = {name for name in names if _REFERENCE.fullmatch(name)}
    if names - references - known:
        return None
    return Expression(text=str(parsed.render("{symbol.key}")), references=tuple(sorted(references)))


@cache
def _licensing() -> tuple[Any, frozenset[str]]:
    """The parser, and the names it knows."""
    # imported late: reading the list takes half a second
    try:
        import license_expression
    except ImportError as error:
        raise UsageError(
            "this Python lacks license_expression, which has SPDX's license list",
            hint="install python3-license-expression, or license-expression from PyPI",
        ) from error
    # SPDX's names only: get_spdx_licensing() also resolves aliases such as "LicenseRef-Fedora-Public-Domain"
    symbols = [
        license_expression.LicenseSymbol(
            row["spdx_license_key"],
            # deprecated names such as "GPL-2.0+", rendered as the current ones
            aliases=tuple(name for name in row["other_spdx_license_keys"] if not name.startswith(_LICENSE_REF)),
            is_exception=bool(row["is_exception"]),
        )
        for row in license_expression.get_license_index()
        if row["spdx_license_key"] and not row["spdx_license_key"].startswith(_LICENSE_REF)
    ]
    return license_expression.Licensing(symbols), frozenset(each.key for each in symbols)

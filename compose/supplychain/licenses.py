"""License tags of packages, as SPDX expressions where they are ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from compose.errors import UsageError

_OWN = "LicenseRef-"
# SPDX 2.3, annex D
_REFERENCE = re.compile(rf"{_OWN}[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """text: in SPDX's spelling. references: names in it that a document explains itself ("LicenseRef-..."), sorted."""

    text: str
    references: tuple[str, ...]


@cache
def spdx_expression(tag: str) -> Expression | None:
    """The tag as an expression; None when it names a license that SPDX does not know, or is no expression at all.

    Fedora's packages have had SPDX expressions since 2023, older ones Fedora's own names ("GPLv2+ and MIT"), others
    anything. Raises UsageError when the library that knows the list is missing.
    """
    licensing, known, refusals = _licensing()
    if not tag.strip():
        return None
    try:
        parsed = licensing.parse(tag, strict=True)
    except refusals:
        return None
    names = {str(each) for each in licensing.license_keys(parsed)}
    references = {name for name in names if _REFERENCE.fullmatch(name)}
    if names - references - known:
        return None
    return Expression(text=str(parsed.render("{symbol.key}")), references=tuple(sorted(references)))


@cache
def _licensing() -> tuple[Any, frozenset[str], tuple[type[Exception], ...]]:
    """The parser, the names it knows, and what it raises."""
    # late: it takes half a second to read the list
    try:
        import license_expression
    except ImportError as error:
        raise UsageError(
            "this Python lacks license_expression, which knows the licenses of SPDX",
            hint="install python3-license-expression, or license-expression from PyPI",
        ) from error
    # of SPDX's names alone: get_spdx_licensing() takes another name for one ("LicenseRef-Fedora-Public-Domain")
    symbols = [
        license_expression.LicenseSymbol(
            row["spdx_license_key"],
            # older names, "GPL-2.0+"; written as they are now
            aliases=tuple(name for name in row["other_spdx_license_keys"] if not name.startswith(_OWN)),
            is_exception=bool(row["is_exception"]),
        )
        for row in license_expression.get_license_index()
        if row["spdx_license_key"] and not row["spdx_license_key"].startswith(_OWN)
    ]
    return (
        license_expression.Licensing(symbols),
        frozenset(each.key for each in symbols),
        (license_expression.ExpressionError, license_expression.ParseError),
    )

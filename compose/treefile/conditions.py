"""Treefile variables: the conditions of conditional-include, and ${name} substitution.

A condition is `name op value`, where op is ==, !=, <, <=, > or >=, and value is true, false, a decimal number or "text", which
may contain quotation marks. Both sides must have the same type, and only numbers are ordered (rpm-ostree's rules).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

Value = str | int | bool
# digits of 2**64 - 1, the largest number that rpm-ostree accepts
_MAX_DIGITS = 20
_CONDITION = re.compile(r'\s*([A-Za-z0-9_]+)\s*(==|!=|<=|>=|<|>)\s*(true|false|[0-9]+|".*")\s*')
_EQUALITY: dict[str, Callable[[object, object], bool]] = {"==": operator.eq, "!=": operator.ne}
_ORDER: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# rpm-ostree substitutes names of any characters but these
_TEMPLATE = re.compile(r"\$\{([^${}]+)\}")
_KINDS = {bool: "a boolean", int: "a number", str: "text"}


class ConditionFault(Exception):
    """A condition that cannot be evaluated; the message says why."""


def evaluate(text: str, variables: Mapping[str, Value]) -> bool:
    """Return whether the condition holds. Raises ConditionFault."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConditionFault(f'{text!r} is not a condition; write name == "text", name != true, or name >= 40')
    name, operation, literal = match.groups()
    if name not in variables:
        known = ", ".join(sorted(variables)) or "none"
        raise ConditionFault(f"undefined variable {name!r} (defined: {known})")
    left = variables[name]
    right: Value
    if literal in ("true", "false"):
        right = literal == "true"
    elif literal.startswith('"'):
        right = literal[1:-1]
    elif len(literal) > _MAX_DIGITS:
        raise ConditionFault(f"{name} is compared with a number of {len(literal)} digits")
    else:
        right = int(literal)
    if type(left) is not type(right):
        raise ConditionFault(f"{name} is {_KINDS[type(left)]}, but {literal} is {_KINDS[type(right)]}")
    if operation in _EQUALITY:
        return _EQUALITY[operation](left, right)
    if type(left) is not int or type(right) is not int:
        raise ConditionFault(f"{operation} compares numbers, but {name} is {_KINDS[type(left)]}")
    return _ORDER[operation](left, right)


def substitute(text: str, variables: Mapping[str, Value]) -> str:
    """Replace each ${name} by the value of the variable; references to undefined variables stay."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1])
        if found is None:
            return match[0]
        return str(found).lower() if isinstance(found, bool) else str(found)

    return _TEMPLATE.sub(value, text)


def references(text: str) -> list[str]:
    """Names of the variables that the text refers to; after substitute(), of those that are undefined."""
    return _TEMPLATE.findall(text)

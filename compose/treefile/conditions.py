"""Variables: what conditions of conditional-include say, and ${name} in texts.

A condition is `name op value`; op is ==, !=, <, <=, > or >=; value is true, false, digits or "text". Both sides must be of
one type, and only numbers are ordered (rpm-ostree's rules).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

Value = str | int | bool
# of the largest number that rpm-ostree takes, 2**64 - 1
_DIGITS = 20
_CONDITION = re.compile(r'\s*([A-Za-z0-9_]+)\s*(==|!=|<=|>=|<|>)\s*(true|false|[0-9]+|"[^"]*")\s*')
_EQUALITY: dict[str, Callable[[object, object], bool]] = {"==": operator.eq, "!=": operator.ne}
_ORDER: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEMPLATE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KINDS = {bool: "a boolean", int: "a number", str: "text"}


class ConditionFault(Exception):
    """A condition that cannot be evaluated; the message says why."""


def evaluate(text: str, variables: Mapping[str, Value]) -> bool:
    """Does the condition hold? Raises ConditionFault."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ConditionFault(f'{text!r} is not a condition; write name == "text", name != true, or name >= 40')
    name, sign, literal = match.groups()
    if name not in variables:
        known = ", ".join(sorted(variables)) or "none"
        raise ConditionFault(f"undefined variable {name!r} (defined: {known})")
    left = variables[name]
    right: Value
    if literal in ("true", "false"):
        right = literal == "true"
    elif literal.startswith('"'):
        right = literal[1:-1]
    elif len(literal) > _DIGITS:
        raise ConditionFault(f"{name} is compared with a number of {len(literal)} digits")
    else:
        right = int(literal)
    if type(left) is not type(right):
        raise ConditionFault(f"{name} is {_KINDS[type(left)]}, compared with {literal}, {_KINDS[type(right)]}")
    if sign in _EQUALITY:
        return _EQUALITY[sign](left, right)
    if type(left) is not int or type(right) is not int:
        raise ConditionFault(f"{sign} compares numbers, and {name} is {_KINDS[type(left)]}")
    return _ORDER[sign](left, right)


def substitute(text: str, variables: Mapping[str, Value]) -> str:
    """Replace ${name} by the variable's value; what is not defined stays as it is."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match[1])
        if found is None:
            return match[0]
        return str(found).lower() if isinstance(found, bool) else str(found)

    return _TEMPLATE.sub(value, text)


def undefined(text: str) -> list[str]:
    """Names that substitute() left in the text."""
    return _TEMPLATE.findall(text)

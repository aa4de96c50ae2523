"""Debian's versions and relations in RPM's terms."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tests.universe.errors import UniverseError

_RELATION = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::[a-z0-9-]+)?"
    r"\s*(?:\(\s*(?P<op><<|<=|=|>=|>>|<|>)\s*(?P<version>[^)\s]+)\s*\))?"
    r"\s*(?:\[[^]]*\])?\s*(?:<[^>]*>)?\s*"
)
# Debian's single < and > are old names of <= and >=.
_OPERATORS = {"<<": "<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">", "<": "<=", ">": ">="}


@dataclass(frozen=True, slots=True)
class Evr:
    """release: None if the Debian version has no revision."""

    epoch: str | None
    version: str
    release: str | None

    def __str__(self) -> str:
        epoch = f"{self.epoch}:" if self.epoch else ""
        return epoch + self.version + (f"-{self.release}" if self.release is not None else "")


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative of one clause, still in Debian's terms."""

    name: str
    operator: str | None
    version: str | None


def evr(version: str) -> Evr:
    """[epoch:]upstream[-revision]; what RPM does not allow in a version becomes "_". Epoch 0 is none."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return Evr(epoch if epoch not in ("", "0") else None, _legal(upstream), _legal(revision) if dash else None)


def _legal(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+~^]", "_", part)


def parse_relation(text: str) -> Relation:
    """Raises UniverseError if this is no relation."""
    match = _RELATION.fullmatch(text)
    if match is None:
        raise UniverseError(f"not a relation of a Debian package: {text!r}")
    return Relation(match["name"], match["op"], match["version"])


def relation(text: str) -> str:
    parsed = parse_relation(text)
    if parsed.operator is None or parsed.version is None:
        return parsed.name
    version = parsed.version
    if version.endswith("-."):
        version = version[:-1] + "99999999"  # the idiom (<< X-.): above every revision of X
    if parsed.operator == ">>" and evr(version).release is None:
        version += "-0"  # dpkg: 2.41-12 >> 2.41; to RPM the two are equal
    return f"{parsed.name} {_OPERATORS[parsed.operator]} {evr(version)}"


def relations(value: str | None, *, without: Collection[str] = ()) -> list[str]:
    """The relations of a control field; alternatives become a rich dependency.

    without: names; a clause that one of them can satisfy is left out.
    """
    found = []
    for clause in (value or "").replace("\n", " ").split(","):
        if not clause.strip():
            continue
        alternatives = clause.split("|")
        if any(parse_relation(each).name in without for each in alternatives):
            continue
        translated = list(dict.fromkeys(relation(each) for each in alternatives))
        found.append(translated[0] if len(translated) == 1 else f"({' or '.join(translated)})")
    return found


def name_of(dependency: str) -> str:
    """Of a plain dependency in RPM's terms."""
    return dependency.split()[0]

"""Finds the file and line that each value of a flattened treefile comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compose.treefile.keys import KEYS, Merge
from compose.treefile.known import KnownFiles
from compose.treefile.load import flatten
from compose.treefile.source import Located, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A value and where it comes from. path: "metadata.name" or "repo-packages[0].repo"; just the key ("packages") for an item
    of a set. value: a scalar, never a list or mapping. place: in the treefile or one that it includes."""

    path: str
    value: Any
    place: Place


def origins(path: str, *, basearch: str, known: KnownFiles | None = None) -> tuple[Origin, ...]:
    """Every value, sorted by key, with lists in their order. known: cache of parsed files. Raises TreefileError."""
    config, _ = flatten(path, basearch=basearch, known=known)
    found: list[Origin] = []
    for key in sorted(config):
        values = list(_leaves(key, config[key], is_set=KEYS[key].merge is Merge.UNION))
        if KEYS[key].merge is Merge.UNION:
            first: dict[Any, Origin] = {}
            for origin in values:
                first.setdefault(origin.value, origin)
            values = [first[value] for value in sorted(first)]
        found += values
    return tuple(found)


def _leaves(path: str, value: Located, *, is_set: bool) -> Iterator[Origin]:
    if isinstance(value.value, dict):
        for name, member in value.value.items():
            yield from _leaves(f"{path}.{name}", member, is_set=False)
    elif isinstance(value.value, list):
        for number, item in enumerate(value.value):
            yield from _leaves(path if is_set else f"{path}[{number}]", item, is_set=False)
    else:
        yield Origin(path=path, value=value.value, place=value.place)

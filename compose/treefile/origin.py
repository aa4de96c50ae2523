"""Which file and line gave each value of a flattened treefile."""

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
    """path: "packages", "metadata.name", "repo-packages[0].repo". value: plain, never a list or mapping. items of a set of
    texts (packages) have the key as their path. place: where the treefile, or one it includes, says it."""

    path: str
    value: Any
    place: Place


def origins(path: str, *, basearch: str, known: KnownFiles | None = None) -> tuple[Origin, ...]:
    """Every value, sorted by key, lists in their order. known: files to be read faster. Raises TreefileError."""
    config, _ = flatten(path, basearch=basearch, known=known)
    found: list[Origin] = []
    for key in sorted(config):
        values = list(_leaves(key, config[key], is_set=KEYS[key].merge is Merge.UNION))
        if KEYS[key].merge is Merge.UNION:
            first: dict[Any, Origin] = {}
            for each in values:
                first.setdefault(each.value, each)
            values = [first[value] for value in sorted(first)]
        found += values
    return tuple(found)


def _leaves(path: str, value: Located, *, is_set: bool) -> Iterator[Origin]:
    if isinstance(value.value, dict):
        for name, member in value.value.items():
            # implied values (edition, container) are not located one by one
            inner = member if isinstance(member, Located) else Located(member, value.place)
            yield from _leaves(f"{path}.{name}", inner, is_set=False)
    elif isinstance(value.value, list):
        for number, item in enumerate(value.value):
            yield from _leaves(path if is_set else f"{path}[{number}]", item, is_set=False)
    else:
        yield Origin(path=path, value=value.value, place=value.place)

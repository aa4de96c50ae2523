"""Differences between the inputs of two trees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compose.inputhash import Input, InputKind


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChange:
    """An input that differs. name, before, after: as name and value of inputhash.Input; None on the side that lacks it."""

    kind: InputKind
    name: str
    before: str | None
    after: str | None


def input_changes(before: Iterable[Input], after: Iterable[Input]) -> tuple[InputChange, ...]:
    """Compare inputs; sorted by kind, in the order of InputKind, and name."""
    old = {(each.kind, each.name): each.value for each in before}
    new = {(each.kind, each.name): each.value for each in after}
    order = list(InputKind)
    return tuple(
        InputChange(kind=kind, name=name, before=old.get((kind, name)), after=new.get((kind, name)))
        for kind, name in sorted(old.keys() | new.keys(), key=lambda key: (order.index(key[0]), key[1]))
        if old.get((kind, name)) != new.get((kind, name))
    )

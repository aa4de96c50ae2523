"""What decided two trees, compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compose.inputhash import Input, InputKind


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChange:
    """before: None for what is new; after: None for what is gone."""

    kind: InputKind
    name: str
    before: str | None
    after: str | None


def input_changes(before: Iterable[Input], after: Iterable[Input]) -> tuple[InputChange, ...]:
    """What differs, sorted by kind and name."""
    old = {(each.kind, each.name): each.value for each in before}
    new = {(each.kind, each.name): each.value for each in after}
    order = list(InputKind)
    return tuple(
        InputChange(kind=kind, name=name, before=old.get((kind, name)), after=new.get((kind, name)))
        for kind, name in sorted(old.keys() | new.keys(), key=lambda key: (order.index(key[0]), key[1]))
        if old.get((kind, name)) != new.get((kind, name))
    )

"""Dataclasses of which a compose makes tens of thousands, or which have dozens of fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[Class]) -> type[Class]:
    """A dataclass with slots and keywords, frozen for the type checker alone.

    A frozen one sets each of its fields by a call of object.__setattr__: making an Entry takes 1.05 us, without that 0.47, and
    a recompose makes hundreds of thousands of such objects. The class itself is made sooner too, at each start: that of a
    treefile in 1.8 ms instead of 3.2. Nothing stops who changes a field at run time, mypy does before.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)

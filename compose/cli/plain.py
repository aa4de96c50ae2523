"""Our values as JSON has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from compose.rpm.nevra import Nevra


def plain(value: Any) -> Any:
    """Dataclasses become objects with their fields' names, NEVRAs text, numbered enums their names in lower case."""
    if isinstance(value, Nevra):
        return str(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value

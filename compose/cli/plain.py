"""Conversion of values to JSON types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from compose.rpm.nevra import Nevra


def plain(value: Any) -> Any:
    """Convert dataclasses to objects keyed by field, NEVRAs to strings, and numeric enums to their lower-case names."""
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

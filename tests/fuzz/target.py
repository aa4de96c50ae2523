"""A reader to be fuzzed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Target:
    """read: raises ComposeError, or one of allowed, for what it refuses."""

    name: str
    read: Callable[[bytes], object]
    seeds: list[bytes]
    allowed: tuple[type[Exception], ...] = ()
    tried: int = 0
    refused: int = 0
    findings: list[bytes] = field(default_factory=list)

"""What a user is told."""

from __future__ import annotations

from compose.events import Reporter


class Told(Reporter):
    """Keeps messages and warnings."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        self.infos.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

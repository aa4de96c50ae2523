"""Python code as a program of the sandbox: it runs where librpm would run a Lua scriptlet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compose.process import Program

PROGRAM = Program(owner="x", phase="y", argv=("x",), lua=True, body="x")


@dataclass(frozen=True)
class InProcess:
    """Replaces librpm. text: returns what the program prints."""

    text: Callable[[], str]

    def needed(self, program: Program) -> bool:
        return program.lua

    def configure(self, program: Program) -> None:
        del program

    def text_of(self, program: Program) -> str:
        return program.body

    def run(self, _program: Program, _body: int) -> int:
        print(self.text(), flush=True)
        return 0

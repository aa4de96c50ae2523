"""Interpreters of programs; this machine's own Python is the reference for ELF."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from compose.sandbox.interpreter import interpreter_of


def of(path: Path) -> str | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return interpreter_of(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("head", "interpreter"),
    [
        (b"#! /usr/bin/env python3\n", "/usr/bin/env"),
        (b"#!\t/bin/sh -e", "/bin/sh"),
        # with what the kernel would look for too
        (b"#!/bin/sh\r\n", "/bin/sh\r"),
        (b"#!bin/sh\n", "bin/sh"),
        *(
            (head, None)
            for head in (b"#!\n/bin/sh", b"#!", b"plain", b"", b"\x7fELF\2\1", b"\x7fELF\2\1" + b"\xff" * 100)
        ),
    ],
)
def test_scripts(head: bytes, interpreter: str | None, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(head)
    assert of(tmp_path / "program") == interpreter


def test_the_dynamic_linker(tmp_path: Path) -> None:
    program = Path("/proc/self/exe").read_bytes()
    linker = of(Path("/proc/self/exe"))
    assert linker is not None
    assert os.path.exists(linker)
    # the segments are described at the end, as patchelf leaves them
    start = struct.unpack_from("=Q", program, 32)[0]
    size, count = struct.unpack_from("=HH", program, 54)
    moved = bytearray(program) + program[start : start + size * count]
    struct.pack_into("=Q", moved, 32, len(program))
    moved[start : start + size * count] = bytes(size * count)
    (tmp_path / "moved").write_bytes(moved)
    assert of(tmp_path / "moved") == linker
    # cut off
    (tmp_path / "cut").write_bytes(moved[: len(program)])
    assert of(tmp_path / "cut") is None


def test_no_program(tmp_path: Path) -> None:
    assert of(tmp_path) is None

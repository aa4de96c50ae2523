"""The seccomp filter, run by a small interpreter of the instructions it uses."""

from __future__ import annotations

import struct

import pytest

from compose.sandbox.seccomp import keyring_filter

ALLOW = 0x7FFF0000
ENOSYS = 0x00050026
X86_64 = 0xC000003E
I386 = 0x40000003


def verdict(program: bytes, arch: int, number: int) -> int:
    """What the kernel would answer (linux/filter.h)."""
    code = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    data = {0: number & 0xFFFFFFFF, 4: arch}
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = data[value]
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {operation:#x}")


@pytest.mark.parametrize(
    ("machine", "arch", "first"),
    [
        ("x86_64", X86_64, 248),
        ("x86_64", X86_64, 248 | 0x40000000),
        ("x86_64", I386, 286),
        ("aarch64", 0xC00000B7, 217),
        ("s390x", 0x80000016, 278),
    ],
)
def test_three_calls_are_refused_and_no_others(machine: str, arch: int, first: int) -> None:
    program = keyring_filter(machine)
    assert program is not None
    numbers = range(first - 5, first + 8)
    assert [number for number in numbers if verdict(program, arch, number) == ENOSYS] == [first, first + 1, first + 2]
    assert all(verdict(program, arch, number) in (ALLOW, ENOSYS) for number in (0, 1, 435, 0xFFFFFFFF))


def test_other_binary_formats_are_refused() -> None:
    program = keyring_filter("x86_64")
    assert program is not None
    assert verdict(program, 0xC00000B7, 0) == ENOSYS


def test_an_unknown_machine_has_no_filter() -> None:
    assert keyring_filter("pdp11") is None

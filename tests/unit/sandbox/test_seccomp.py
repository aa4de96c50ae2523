"""The seccomp filter, run by a small interpreter of the instructions it uses."""

from __future__ import annotations

import errno
import struct

import pytest

from compose.sandbox.seccomp import DENIED, filter_for

ALLOW = 0x7FFF0000
REFUSE = 0x00050000
ENOSYS = REFUSE | errno.ENOSYS
EPERM = REFUSE | errno.EPERM
X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
S390X = 0x80000016
DONE = REFUSE


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do (linux/filter.h, linux/seccomp.h)."""
    code = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    words = struct.pack((">" if arch == S390X else "<") + "6Q", *(*arguments, *[0] * 6)[:6])
    data = {0: number & 0xFFFFFFFF, 4: arch}
    data |= {16 + at: struct.unpack_from(">I" if arch == S390X else "<I", words, at)[0] for at in range(0, 48, 4)}
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = data[value]
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {operation:#x}")


@pytest.mark.parametrize(
    ("machine", "arch", "column"),
    [
        ("x86_64", X86_64, 0),
        ("x86_64", I386, 1),
        ("i686", I386, 1),
        ("aarch64", AARCH64, 2),
        ("riscv64", 0xC00000F3, 2),
        ("ppc64le", 0xC0000015, 3),
        ("s390x", S390X, 4),
    ],
)
def test_what_is_listed_is_refused_and_nothing_else(machine: str, arch: int, column: int) -> None:
    program = filter_for(machine)
    assert program is not None
    always = {rule.numbers[column] for rule in DENIED if rule.argument is None} - {None}
    refused = {number for number in range(500) if verdict(program, arch, number) != ALLOW}
    assert refused == always
    assert len(always) >= 11


@pytest.mark.parametrize(
    ("machine", "arch", "number", "arguments", "answer"),
    [
        ("x86_64", X86_64, 272, [0x10000000], EPERM),
        ("x86_64", X86_64, 272, [0x10020000], EPERM),
        ("x86_64", X86_64, 272, [0x00020000], ALLOW),
        ("x86_64", X86_64, 56, [0x10000011], EPERM),
        ("x86_64", X86_64, 56, [0x01200011, 0x10000000], ALLOW),
        ("x86_64", I386, 120, [0x10000011], EPERM),
        ("aarch64", AARCH64, 220, [0x10000011], EPERM),
        # the stack comes first there
        ("s390x", S390X, 120, [0x10000000, 0x11], ALLOW),
        ("s390x", S390X, 120, [0, 0x10000011], EPERM),
        ("x86_64", X86_64, 16, [0, 0x5412], EPERM),
        ("x86_64", X86_64, 16, [0, 0x541C], EPERM),
        ("x86_64", X86_64, 16, [0, 0xF00005412], EPERM),
        ("x86_64", X86_64, 16, [0x5412, 0x5413], ALLOW),
        ("s390x", S390X, 54, [0, 0x5412], EPERM),
        ("x86_64", X86_64, 41, [40], REFUSE | errno.EAFNOSUPPORT),
        ("x86_64", X86_64, 41, [1], ALLOW),
        # the C library of s390x sends messages by it
        ("s390x", S390X, 102, [1], ENOSYS),
        ("s390x", S390X, 102, [16], ALLOW),
        ("x86_64", I386, 102, [1], ENOSYS),
        # limits of anything but core dumps; and reading one, wherever a new one would be
        ("x86_64", X86_64, 160, [4], DONE),
        ("x86_64", X86_64, 160, [7], ALLOW),
        ("x86_64", X86_64, 302, [0, 4, 0, 1 << 40], ALLOW),
        ("x86_64", X86_64, 302, [0, 4, 1 << 40], DONE),
        ("x86_64", X86_64, 302, [0, 4, 1 << 12], DONE),
        ("x86_64", X86_64, 302, [4, 7, 1 << 40], ALLOW),
        ("x86_64", I386, 340, [0, 4, 1 << 12], DONE),
        ("s390x", S390X, 334, [0, 4, 0], ALLOW),
        ("s390x", S390X, 334, [0, 4, 1 << 40], DONE),
    ],
)
def test_arguments(machine: str, arch: int, number: int, arguments: list[int], answer: int) -> None:
    program = filter_for(machine)
    assert program is not None
    assert verdict(program, arch, number, *arguments) == answer


def test_other_binary_formats_are_refused() -> None:
    program = filter_for("x86_64")
    assert program is not None
    assert verdict(program, AARCH64, 0) == ENOSYS
    # x32, which has a number of its own for ioctl
    assert {verdict(program, X86_64, 0x40000000 | number) for number in (0, 248, 514)} == {ENOSYS}


def test_an_unknown_machine_has_no_filter() -> None:
    assert filter_for("pdp11") is None

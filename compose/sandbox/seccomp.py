"""The seccomp filter: denies system calls that capabilities and namespaces do not cover and no scriptlet needs.

Most fail with ENOSYS, as in a kernel built without them, so that programs which merely try them carry on. It is a denylist,
because the calls that packages' programs need cannot be enumerated.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from compose.sandbox import machines

_X86_64, _I386, _GENERIC, _PPC64, _S390X = range(5)
# For each machine, the binary formats it runs and their columns in Rule.numbers.
_FORMATS = {
    "x86_64": ((machines.X86_64, _X86_64), (machines.I386, _I386)),
    "i686": ((machines.I386, _I386),),
    "aarch64": ((machines.AARCH64, _GENERIC),),
    "ppc64le": ((machines.PPC64LE, _PPC64),),
    "s390x": ((machines.S390X, _S390X),),
    "riscv64": ((machines.RISCV64, _GENERIC),),
}
_BIG_ENDIAN = frozenset({_S390X})
_X32_BIT = 0x40000000

# linux/bpf_common.h, linux/seccomp.h
_LOAD = 0x20
_IF_EQUAL = 0x15
_IF_AT_LEAST = 0x35
_IF_BITS = 0x45
_RETURN = 0x06
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_OFFSET_ARGUMENTS = 16
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A system call to deny.

    numbers: on x86_64, i386, aarch64 and riscv64, ppc64, s390x (asm/unistd.h); None where there is no such call.
    answer: errno. argument: index of an argument, from 0; None denies every call. Otherwise only calls are denied in which this
    argument is one of `values` or has a bit of `bits`; its lower 32 bits are compared, all that the kernel uses. pointer: index
    of another argument, of a call that is denied only if this is not NULL.
    """

    call: str
    numbers: tuple[int | None, int | None, int | None, int | None, int | None]
    answer: int = errno.ENOSYS
    argument: int | None = None
    values: tuple[int, ...] = ()
    bits: int = 0
    pointer: int | None = None


_NEW_USER_NAMESPACE = 0x10000000  # linux/sched.h: CLONE_NEWUSER
_TERMINAL_INPUT = (0x5412, 0x541C)  # asm-generic/ioctls.h: TIOCSTI, TIOCLINUX
_MAKE_SOCKET = 1  # linux/net.h: SYS_SOCKET
_NO_NETWORK_NAMESPACE = (40, 42)  # linux/socket.h: AF_VSOCK, AF_QIPCRTR
_CORE_DUMPS = (4,)  # asm-generic/resource.h: RLIMIT_CORE

DENIED = (
    # root's keyrings (a Kerberos ticket, the key of an encrypted disk) are isolated by user namespaces only
    Rule(call="add_key", numbers=(248, 286, 217, 269, 278)),
    Rule(call="request_key", numbers=(249, 287, 218, 270, 279)),
    Rule(call="keyctl", numbers=(250, 288, 219, 271, 280)),
    # a user namespace grants all capabilities inside it, and with them most of the kernel's attack surface; clone3 takes its
    # flags in memory, which a filter cannot read: on ENOSYS, C libraries fall back to clone
    Rule(call="unshare", numbers=(272, 310, 97, 282, 303), answer=errno.EPERM, argument=0, bits=_NEW_USER_NAMESPACE),
    Rule(call="clone", numbers=(56, 120, 220, 120, None), answer=errno.EPERM, argument=0, bits=_NEW_USER_NAMESPACE),
    Rule(call="clone", numbers=(None, None, None, None, 120), answer=errno.EPERM, argument=1, bits=_NEW_USER_NAMESPACE),
    Rule(call="clone3", numbers=(435, 435, 435, 435, 435)),
    # fake input on a terminal
    Rule(call="ioctl", numbers=(16, 54, 29, 54, 54), answer=errno.EPERM, argument=1, values=_TERMINAL_INPUT),
    # sockets that bypass the network namespace and reach the hypervisor or other processors; socketcall takes the family in
    # memory, so that it makes none at all: C libraries need it on s390x only
    Rule(
        call="socket",
        numbers=(41, 359, 198, 326, 359),
        answer=errno.EAFNOSUPPORT,
        argument=0,
        values=_NO_NETWORK_NAMESPACE,
    ),
    Rule(call="socketcall", numbers=(None, 102, None, 102, 102), argument=0, values=(_MAKE_SOCKET,)),
    # the limit that identity.py sets keeps the host's handler of core dumps away, and a lower one would not; programs that want
    # none are told that they have it
    Rule(call="setrlimit", numbers=(160, 75, 164, 75, 75), answer=0, argument=0, values=_CORE_DUMPS),
    Rule(call="prlimit64", numbers=(302, 340, 261, 325, 334), answer=0, argument=1, values=_CORE_DUMPS, pointer=2),
    # the host's kernel log
    Rule(call="syslog", numbers=(103, 103, 116, 103, 103), answer=errno.EPERM),
    # available to everybody on many machines, and involved in many exploits of the kernel
    Rule(call="bpf", numbers=(321, 357, 280, 361, 351)),
    Rule(call="perf_event_open", numbers=(298, 336, 241, 319, 331)),
    Rule(call="userfaultfd", numbers=(323, 374, 282, 364, 355)),
    Rule(call="io_uring_setup", numbers=(425, 425, 425, 425, 425)),
    Rule(call="io_uring_enter", numbers=(426, 426, 426, 426, 426)),
    Rule(call="io_uring_register", numbers=(427, 427, 427, 427, 427)),
)


def filter_for(machine: str, rules: Sequence[Rule] = DENIED) -> bytes | None:
    """The filter's instructions for a machine (named as by platform.machine()); None for an unknown one.

    System calls in binary formats of which the numbers are unknown are denied too, including x32 on x86_64.
    """
    formats = _FORMATS.get(machine)
    if formats is None:
        return None
    code = [_instruction(_LOAD, _OFFSET_ARCH)]
    for arch, column in formats:
        block = _block(rules, column)
        code += [_instruction(_IF_EQUAL, arch, 0, len(block)), *block]
    code.append(_instruction(_RETURN, _REFUSE | errno.ENOSYS))
    return b"".join(code)


def _block(rules: Sequence[Rule], column: int) -> list[bytes]:
    """The instructions for one binary format; they always return a verdict."""
    code = [_instruction(_LOAD, _OFFSET_NUMBER)]
    if column == _X86_64:
        code += [
            _instruction(_IF_AT_LEAST, _X32_BIT, 0, 1),
            _instruction(_RETURN, _REFUSE | errno.ENOSYS),
        ]
    for rule in rules:
        number = rule.numbers[column]
        if number is not None:
            body = _verdict(rule, column)
            code += [_instruction(_IF_EQUAL, number, 0, len(body)), *body]
    code.append(_instruction(_RETURN, _ALLOW))
    return code


def _verdict(rule: Rule, column: int) -> list[bytes]:
    refuse, allow = _instruction(_RETURN, _REFUSE | rule.answer), _instruction(_RETURN, _ALLOW)
    if rule.argument is None:
        return [refuse]
    tests = [(_IF_EQUAL, value) for value in rule.values]
    if rule.bits:
        tests.append((_IF_BITS, rule.bits))
    low = 4 if column in _BIG_ENDIAN else 0
    place = _OFFSET_ARGUMENTS + 8 * rule.argument
    jumps = [_instruction(test, value, len(tests) - index, 0) for index, (test, value) in enumerate(tests)]
    code = [_instruction(_LOAD, place + low), *jumps, allow]
    if rule.pointer is not None:
        place = _OFFSET_ARGUMENTS + 8 * rule.pointer
        code += [_instruction(_LOAD, place), _instruction(_IF_EQUAL, 0, 0, 3)]
        code += [_instruction(_LOAD, place + 4), _instruction(_IF_EQUAL, 0, 0, 1), allow]
    return [*code, refuse]


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter."""
    return struct.pack("HBBI", operation, if_true, if_false, value)

"""The seccomp filter: no kernel keyrings.

root's keyrings (a Kerberos ticket, the key of an encrypted disk) are not in any namespace but the user's. So add_key(),
request_key() and keyctl() answer a program as a kernel built without them does.
"""

from __future__ import annotations

import errno
import struct

# linux/audit.h: AUDIT_ARCH_*; the three calls have consecutive numbers everywhere (asm/unistd.h).
_I386 = 0x40000003
_FIRST_CALL = {
    "x86_64": {0xC000003E: 248, _I386: 286},
    "i686": {_I386: 286},
    "aarch64": {0xC00000B7: 217},
    "ppc64le": {0xC0000015: 269},
    "s390x": {0x80000016: 278},
    "riscv64": {0xC00000F3: 217},
}
_CALLS = 3
_X32_BIT = 0x40000000

# linux/bpf_common.h, linux/seccomp.h
_LOAD = 0x20
_AND = 0x54
_IF_EQUAL = 0x15
_IF_AT_LEAST = 0x35
_RETURN = 0x06
_OFFSET_NUMBER = 0
_OFFSET_ARCH = 4
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.ENOSYS


def keyring_filter(machine: str) -> bytes | None:
    """The filter's instructions for a machine (as platform.machine() has it); None for one that is not known.

    A system call in another binary format of the same machine, where its numbers are not known, is refused too.
    """
    formats = _FIRST_CALL.get(machine)
    if formats is None:
        return None
    code = [_instruction(_LOAD, _OFFSET_ARCH)]
    for arch, first in formats.items():
        code += [
            _instruction(_IF_EQUAL, arch, 0, 6),
            _instruction(_LOAD, _OFFSET_NUMBER),
            _instruction(_AND, ~_X32_BIT & 0xFFFFFFFF),
            _instruction(_IF_AT_LEAST, first, 0, 1),
            _instruction(_IF_AT_LEAST, first + _CALLS, 0, 1),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _REFUSE),
        ]
    code.append(_instruction(_RETURN, _REFUSE))
    return b"".join(code)


def _instruction(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter."""
    return struct.pack("HBBI", operation, if_true, if_false, value)

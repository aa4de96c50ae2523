"""Interpreters of programs: execve(2) opens them by itself, without a system call that an observer could see."""

from __future__ import annotations

import os
import re
import stat
import struct
import sys

_LINE = 256
"""Bytes of a #! line that the kernel reads: BINPRM_BUF_SIZE of linux/binfmts.h."""
_SCRIPT = re.compile(rb"#![ \t]*([^ \t\n\0]+)")
_ELF64 = {"little": b"\x7fELF\2\1", "big": b"\x7fELF\2\2"}[sys.byteorder]
"""First bytes of programs that this machine can run."""
_HEADER, _SEGMENT = 64, 56
_MAX_HEADERS = 64 << 10
"""Bytes of program headers; the kernel refuses to run a file with more (elf_read_phdrs())."""
_PATH_MAX = 4096
_PT_INTERP = 3


def interpreter_of(fd: int) -> str | None:
    """Return the interpreter of an open program: that of its #! line, or its dynamic linker (elf(5)); None without one.

    Raises OSError.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    head = os.pread(fd, _LINE, 0)
    if match := _SCRIPT.match(head):
        return os.fsdecode(match[1])
    if not head.startswith(_ELF64) or len(head) < _HEADER:
        return None
    (start,) = struct.unpack_from("=Q", head, 32)
    size, count = struct.unpack_from("=HH", head, 54)
    if size != _SEGMENT or size * count > _MAX_HEADERS or start >> 63:
        return None
    segments = os.pread(fd, size * count, start)
    for at in range(0, len(segments) - size + 1, size):
        kind, _, offset, _, _, length = struct.unpack_from("=IIQQQQ", segments, at)
        if kind == _PT_INTERP:
            if length > _PATH_MAX or offset >> 63:
                return None
            return os.fsdecode(os.pread(fd, length, offset).split(b"\0")[0])
    return None

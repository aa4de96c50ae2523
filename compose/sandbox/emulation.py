"""Running programs of another architecture: which emulator does it, and how the kernel recognizes them.

The emulators are those of qemu's user mode. Each must be one static file, since it runs in the target's root directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from dataclasses import dataclass

from compose import fs
from compose.architecture import foreign
from compose.errors import SandboxError
from compose.sandbox import handlers, kernel
from compose.sandbox.interpreter import interpreter_of

EXIT = 42
"""Status of Format.program()."""
_PATH = "/usr/local/bin:/usr/bin:/bin"
_START = 0x400000
_MFD_EXEC = 0x10  # linux/memfd.h, since Linux 6.3
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """An architecture's programs. machine, flags: e_machine and e_flags of elf(5). order: of bytes, as in struct. code: machine
    code that ends with status EXIT. emulator: name of qemu's program, to which distributions may append "-static"."""

    emulator: str
    machine: int
    code: str
    order: str = "<"
    flags: int = 0

    def header(self) -> bytes:
        """The beginning of a program that is not position-independent."""
        data = 1 if self.order == "<" else 2
        return bytes([0x7F, *b"ELF", 2, data, 1, *bytes(9)]) + struct.pack(f"{self.order}HH", 2, self.machine)

    def program(self) -> bytes:
        """A static program of its own that ends with status EXIT."""
        code = bytes.fromhex(self.code)
        size = 120 + len(code)
        rest = struct.pack(f"{self.order}IQQQIHHHHHH", 1, _START + 120, 64, 0, self.flags, 64, 56, 1, 64, 0, 0)
        segment = struct.pack(f"{self.order}IIQQQQQQ", 1, 5, 0, _START, _START, size, size, 0x10000)
        return self.header() + rest + segment + code


# exit(EXIT) of each: the number of the call and its argument in registers, and the instruction that calls (asm/unistd.h)
FORMATS = {
    "aarch64": Format(emulator="qemu-aarch64", machine=183, code="400580d2 a80b80d2 010000d4"),
    "ppc64le": Format(emulator="qemu-ppc64le", machine=21, code="01000038 2a006038 02000044", flags=2),
    "riscv64": Format(emulator="qemu-riscv64", machine=243, code="1305a002 9308d005 73000000"),
    "s390x": Format(emulator="qemu-s390x", machine=22, code="a729002a 0a01", order=">"),
    "x86_64": Format(emulator="qemu-x86_64", machine=62, code="bf2a000000 b83c000000 0f05"),
}
"""By RPM base architecture."""


def emulator_for(basearch: str) -> str | None:
    """The path of an emulator for an architecture; None if none is installed. Raises OSError if one cannot be read."""
    known = FORMATS.get(basearch)
    for name in (known.emulator, f"{known.emulator}-static") if known else ():
        found = shutil.which(name, path=_PATH)
        if found is None:
            continue
        fd = os.open(found, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if interpreter_of(fd) is None:
                return found
        finally:
            os.close(fd)
    return None


def emulated() -> tuple[str, ...]:
    """Architectures whose programs can run here, in an emulator. Raises OSError if one cannot be read."""
    if kernel.release() < handlers.PER_NAMESPACE:
        return ()
    return tuple(arch for arch in FORMATS if foreign(arch) and emulator_for(arch))


def missing(basearch: str, host: str) -> SandboxError:
    """The error for an architecture that nothing on this machine, of architecture host, runs."""
    elsewhere = f"compose on a machine of {basearch}; --dry-run, --download-only and compose plan work here"
    install = "install qemu-user-static (from Debian 13 on: qemu-user), " if basearch in FORMATS else ""
    return SandboxError(
        f"this machine, {host}, cannot run the programs of packages for {basearch}",
        hint=f"{install}{'or ' if install else ''}{elsewhere}",
    )


def emulate(basearch: str) -> None:
    """Have programs of an architecture emulated in this user namespace, which handlers.hide() left without handlers.

    The kernel gets a sealed copy of the emulator, so that no program can change the host's. Raises SandboxError, OSError.
    """
    emulator = emulator_for(basearch)
    if emulator is None:
        raise missing(basearch, os.uname().machine)
    if kernel.release() < handlers.PER_NAMESPACE:
        raise SandboxError(
            f"programs for {basearch} can be emulated from Linux 6.7 on; this is {os.uname().release}",
            hint=f"compose on a newer kernel, or on a machine of {basearch}",
        )
    header = FORMATS[basearch].header()
    # any ABI, and position-independent programs too: e_type 2 or 3
    mask = bytearray(b"\xff" * len(header))
    mask[7] = 0
    mask[16 if FORMATS[basearch].order == "<" else 17] = 0xFE
    copy = _sealed_copy(emulator)
    try:
        # P: with their own name; O: also programs that can only be opened by descriptor; F: now, not in the target's root
        handlers.register(f"compose-{basearch}", header, bytes(mask), f"/proc/self/fd/{copy}", flags="POF")
    finally:
        os.close(copy)


def _sealed_copy(path: str) -> int:
    """Return a descriptor of a copy of a program in memory, open for reading only: else it could not be run."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    writable = os.memfd_create("emulator", flags | (_MFD_EXEC if kernel.release() >= (6, 3) else 0))
    try:
        with open(path, "rb") as file:
            for chunk in fs.chunks(file.fileno()):
                fs.write_all(writable, chunk)
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, _SEALS)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)

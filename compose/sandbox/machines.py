"""Names of the binary formats that processors run."""

from __future__ import annotations

# linux/audit.h: AUDIT_ARCH_*, as seccomp(2) filters see them
X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
RISCV64 = 0xC00000F3
PPC64LE = 0xC0000015
S390X = 0x80000016

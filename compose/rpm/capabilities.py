"""File capabilities: converts the text of RPMTAG_FILECAPS ("cap_net_raw,cap_net_admin=ep") to the kernel's format and back.

The text is that of cap_from_text(3); the bytes are struct vfs_cap_data of linux/capability.h, revision 2, as libcap's
cap_set_fd() writes them. libcap is not used because its "all" means what the running kernel knows, and a composed tree
must not depend on the host.
"""

from __future__ import annotations

import re
import struct

# linux/capability.h, by number.
_NAMES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
_NUMBERS = {f"cap_{name}": number for number, name in enumerate(_NAMES)}
_ALL = (1 << len(_NAMES)) - 1
_MAX_NUMBER = 63

_CLAUSE = re.compile(r"([a-z0-9_]+(?:,[a-z0-9_]+)*)(?:=[eip]*|[+-][eip]+)(?:[+-][eip]+)*|=[eip]*", re.ASCII)
_ACTION = re.compile(r"([=+-])([eip]*)")

_SETS = struct.Struct("<5I")
_REVISION_2 = 0x02000000
_KNOWN_REVISIONS = frozenset({_REVISION_2, 0x03000000})
_REVISION_MASK = 0xFF000000
_EFFECTIVE = 0x000001


def capability_xattr(text: str) -> bytes:
    """Return the value of security.capability, 20 bytes, for the text of a file's capabilities; b"" for an empty text.

    Raises ValueError for text that cap_from_text(3) rejects, and for sets that no file can have: the kernel stores one
    effective bit per file, so the effective set must be empty or hold everything permitted or inheritable.
    """
    if not text:
        return b""
    sets = {"e": 0, "i": 0, "p": 0}
    for clause in text.lower().split():
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(f"{text!r} does not describe capabilities: cannot parse {clause!r}")
        names = match[1] or ""
        listed = _mask(names) if names else _ALL
        for operator, flags in _ACTION.findall(clause.removeprefix(names)):
            if operator == "=":
                for flag in sets:
                    sets[flag] &= ~listed
            for flag in flags:
                sets[flag] = sets[flag] & ~listed if operator == "-" else sets[flag] | listed
    permitted, inheritable, effective = sets["p"], sets["i"], sets["e"]
    if effective and (permitted | inheritable) & ~effective:
        raise ValueError(f"{text!r} makes only some capabilities effective, which a file cannot record")
    magic = _REVISION_2 | (_EFFECTIVE if effective else 0)
    low = 0xFFFFFFFF
    return _SETS.pack(magic, permitted & low, inheritable & low, permitted >> 32, inheritable >> 32)


def capability_text(value: bytes) -> str:
    """Describe a value of security.capability, as capability_xattr() takes it; a value of an unknown revision in hex."""
    if len(value) < _SETS.size or int.from_bytes(value[:4], "little") & _REVISION_MASK not in _KNOWN_REVISIONS:
        return value.hex()
    magic, permitted_low, inheritable_low, permitted_high, inheritable_high = _SETS.unpack_from(value)
    permitted = permitted_high << 32 | permitted_low
    inheritable = inheritable_high << 32 | inheritable_low
    names: dict[str, list[str]] = {}
    for number in range(_MAX_NUMBER + 1):
        flags = ("i" if inheritable >> number & 1 else "") + ("p" if permitted >> number & 1 else "")
        if flags:
            name = f"cap_{_NAMES[number]}" if number < len(_NAMES) else str(number)
            names.setdefault(("e" if magic & _EFFECTIVE else "") + flags, []).append(name)
    return " ".join(f"{','.join(listed)}={flags}" for flags, listed in names.items()) or "="


def _mask(names: str) -> int:
    mask = 0
    for name in names.split(","):
        if name == "all":
            mask |= _ALL
        elif name in _NUMBERS:
            mask |= 1 << _NUMBERS[name]
        elif name.isdecimal() and int(name) <= _MAX_NUMBER:
            mask |= 1 << int(name)
        else:
            raise ValueError(f"there is no capability {name!r}")
    return mask

from __future__ import annotations

import struct

import pytest

from compose.rpm.capabilities import capability_text, capability_xattr


def parts(value):
    magic, permitted_low, inheritable_low, permitted_high, inheritable_high = struct.unpack("<5I", value)
    return magic, permitted_high << 32 | permitted_low, inheritable_high << 32 | inheritable_low


def test_no_text_is_no_attribute():
    assert capability_xattr("") == b""


def test_the_bytes_of_ping_as_setcap_writes_them():
    assert capability_xattr("cap_net_raw=ep").hex() == "0100000200200000000000000000000000000000"


@pytest.mark.parametrize(
    ("text", "effective", "permitted", "inheritable"),
    [
        ("cap_net_raw=p", 0, 1 << 13, 0),
        ("= cap_net_raw+ep", 1, 1 << 13, 0),
        ("cap_chown,cap_fowner+eip", 1, 0b1001, 0b1001),
        ("CAP_CHOWN=i", 0, 0, 1),
        ("cap_bpf,cap_checkpoint_restore=ep", 1, 1 << 39 | 1 << 40, 0),
        ("all=p cap_chown-p", 0, (1 << 41) - 2, 0),
        ("=", 0, 0, 0),
        ("=ep", 1, (1 << 41) - 1, 0),
        ("cap_kill=ip-i", 0, 1 << 5, 0),
        ("62=p", 0, 1 << 62, 0),
    ],
)
def test_texts(text, effective, permitted, inheritable):
    assert parts(capability_xattr(text)) == (0x02000000 | effective, permitted, inheritable)


@pytest.mark.parametrize(
    "text",
    ["cap_net_raw", "cap_nett_raw=ep", "+ep", "cap_chown+", "cap_chown=ex", "cap_chown,=p", "cap_chown=p=e", "64=p"],
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match="capabilit"):
        capability_xattr(text)


@pytest.mark.parametrize("text", ["cap_net_raw=ep", "cap_chown,cap_bpf=p cap_kill=ip", "cap_chown=ei 62=eip", "="])
def test_back_to_text(text):
    value = capability_xattr(text)
    assert capability_text(value) == text
    # revision 3, of a user namespace, has the id of its root behind it
    assert capability_text(value[:3] + b"\x03" + value[4:] + bytes(4)) == text


@pytest.mark.parametrize("value", [b"", b"\x01", bytes(19), bytes(20), b"\0\0\0\4" + bytes(16)])
def test_what_only_a_newer_kernel_knows(value):
    assert capability_text(value) == value.hex()


def test_a_file_has_but_one_effective_bit():
    with pytest.raises(ValueError, match="cannot record"):
        capability_xattr("cap_chown=ep cap_kill=p")

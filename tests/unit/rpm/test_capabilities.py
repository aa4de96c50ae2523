from __future__ import annotations

import struct

import pytest

from compose.rpm.capabilities import capability_xattr


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


def test_a_file_has_but_one_effective_bit():
    with pytest.raises(ValueError, match="cannot record"):
        capability_xattr("cap_chown=ep cap_kill=p")

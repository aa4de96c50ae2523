"""What compose uses of libselinux's bindings, for any version of the library and of Python (see another-host.sh)."""

from __future__ import annotations

import ctypes
import os

SELABEL_CTX_FILE, SELABEL_OPT_PATH = 0, 3


class selinux_opt(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))

    @property
    def value(self) -> str:
        return os.fsdecode(self.path)

    @value.setter
    def value(self, text: str) -> None:
        self.path = os.fsencode(text)


_library = ctypes.CDLL("libselinux.so.1", use_errno=True)
selabel_open = _library.selabel_open
selabel_open.restype = ctypes.c_void_p
selabel_open.argtypes = (ctypes.c_uint, ctypes.POINTER(selinux_opt), ctypes.c_uint)
selabel_close = _library.selabel_close
selabel_close.argtypes = (ctypes.c_void_p,)
_look_up = _library.selabel_lookup_raw
_look_up.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_int)
_library.freecon.argtypes = (ctypes.c_void_p,)


def selabel_lookup_raw(handle: int, path: str, mode: int) -> tuple[int, str]:
    found = ctypes.c_void_p()
    status = _look_up(handle, ctypes.byref(found), os.fsencode(path), mode)
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        return status, ctypes.string_at(found.value or 0).decode()
    finally:
        _library.freecon(found)

"""Patches by the program `bsdiff`, for programs and libraries, in which one moved function changes addresses everywhere.

Its patch (BSDIFF40): 8 bytes of magic; three numbers of 8 bytes, little-endian with a sign bit: compressed size of the
control block and of the difference block, size of the new file; then the control, difference and extra blocks, each compressed
by bzip2.
The control block is rows of three numbers (x, y, z): add x bytes of the difference block to x bytes of the old file, copy y
bytes of the extra block, move z bytes on in the old file. libostree's bspatch (libostree/bsdiff/bspatch.c) reads the same
uncompressed and interleaved: for each row its three numbers, x bytes, y bytes.
"""

from __future__ import annotations

import bz2
import os
import shutil
import struct
import subprocess
import threading

from compose import fs

_MAGIC = b"BSDIFF40"
_header = struct.Struct("<8sQQQ")
_row = struct.Struct("<QQQ")


def is_installed() -> bool:
    return shutil.which("bsdiff") is not None


def memory(old: int, new: int) -> int:
    """Bytes that the program takes for two files of these sizes (bsdiff(1)), together with what we hold meanwhile."""
    return max(17 * old, 9 * old + new) + 3 * (old + new)


class Bsdiff:
    """Runs the program, from any thread, until stop(). failures: how often it failed, which it does when it has too little
    memory."""

    def __init__(self) -> None:
        self.failures = 0
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def patch(self, old: bytes, new: bytes) -> bytes | None:
        """What libostree's bspatch reads, None when the program fails."""
        try:
            made = self._run(old, new)
            if made is not None:
                return stream_of(made, len(new))
        except (OSError, ValueError):
            # it cannot be started, or another program has its name
            pass
        with self._lock:
            self.failures += not self._stopped
        return None

    def _run(self, old: bytes, new: bytes) -> bytes | None:
        """BSDIFF40."""
        with fs.memory_file("old") as before, fs.memory_file("new") as after, fs.memory_file("patch") as made:
            files = (before, after, made)
            for file, data in ((before, old), (after, new)):
                file.write(data)
                file.flush()
            numbers = [file.fileno() for file in files]
            process = self._start(["bsdiff", *(f"/proc/self/fd/{each}" for each in numbers)], numbers)
            if process is None:
                return None
            try:
                process.wait()
            finally:
                process.kill()
                process.wait()
                with self._lock:
                    self._running.discard(process)
            return os.pread(made.fileno(), os.fstat(made.fileno()).st_size, 0) if process.returncode == 0 else None

    def stop(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._stopped = True
            for each in self._running:
                each.kill()

    def _start(self, command: list[str], descriptors: list[int]) -> subprocess.Popen[bytes] | None:
        nothing = subprocess.DEVNULL
        with self._lock:
            if self._stopped:
                return None
            # in a process group of its own: the terminal's Ctrl-C is for us, and we stop it
            process = subprocess.Popen(
                command, pass_fds=descriptors, stdin=nothing, stdout=nothing, stderr=nothing, process_group=0
            )
            self._running.add(process)
        return process


def stream_of(patch: bytes, size: int) -> bytes:
    """BSDIFF40 as libostree's bspatch reads it. size: bytes of the new file. Raises ValueError for anything but a patch that
    makes so many."""
    if len(patch) < _header.size:
        raise ValueError("the patch is cut off")
    magic, rows_end, added_size, made = _header.unpack_from(patch)
    rows_end += _header.size
    if magic != _MAGIC or rows_end + added_size > len(patch) or made != size:
        raise ValueError("not a patch of bsdiff")
    rows = _unpacked(patch[_header.size : rows_end], _row.size * (size + 2))
    added = _unpacked(patch[rows_end : rows_end + added_size], size)
    extra = _unpacked(patch[rows_end + added_size :], size)
    out = bytearray()
    added_at = extra_at = 0
    if len(rows) % _row.size:
        raise ValueError("the patch has a broken last row")
    for place in range(0, len(rows), _row.size):
        x, y, _ = _row.unpack_from(rows, place)
        if added_at + x > len(added) or extra_at + y > len(extra):
            raise ValueError("the patch has less than its rows say")
        out += rows[place : place + _row.size]
        out += added[added_at : added_at + x]
        out += extra[extra_at : extra_at + y]
        added_at, extra_at = added_at + x, extra_at + y
    if added_at + extra_at != size:
        raise ValueError(f"the patch makes {added_at + extra_at} bytes of {size}")
    return bytes(out)


def _unpacked(data: bytes, most: int) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(data, max_length=most)
    except (OSError, EOFError) as error:
        raise ValueError(f"the patch is damaged: {error}") from error

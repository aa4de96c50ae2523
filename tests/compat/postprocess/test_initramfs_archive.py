"""The archive of device nodes, read by the real cpio."""

from __future__ import annotations

import subprocess

from compose.postprocess import initramfs


def test_cpio_lists_the_device_nodes() -> None:
    done = subprocess.run(
        ["cpio", "-itv", "--quiet"],
        input=initramfs.device_nodes(),
        stdout=subprocess.PIPE,
        check=True,
        env={"TZ": "UTC"},
    )
    listed = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(words[0], words[2], words[3], " ".join(words[4:-4]), words[-1]) for words in listed] == [
        ("drwxr-xr-x", "root", "root", "0", "dev"),
        ("crw-rw-rw-", "root", "root", "1, 3", "dev/null"),
        ("crw-rw-rw-", "root", "root", "1, 8", "dev/random"),
        ("crw-rw-rw-", "root", "root", "1, 9", "dev/urandom"),
    ]

"""Labels of a checked-out commit beside what libselinux says of the same paths."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import selinux


def compare(checkout: Path, paths: Iterable[str], policy: str, work: Path) -> tuple[int, list[str]]:
    """Every path of the commit must have the label that its policy ("targeted") gives it.

    work: a directory for copies of the rules. Returns how many were compared, and the paths that the policy has no label for.
    """
    # the text alone: compiled rules are for one machine's regular expressions
    for text in (checkout / f"usr/etc/selinux/{policy}/contexts/files").glob("file_contexts*"):
        if text.suffix != ".bin":
            shutil.copy(text, work)
    option = selinux.selinux_opt()
    option.type, option.value = selinux.SELABEL_OPT_PATH, str(work / "file_contexts")
    handle = selinux.selabel_open(selinux.SELABEL_CTX_FILE, option, 1)
    compared = 0
    unnamed = []
    for path in paths:
        label = os.getxattr(checkout / path, "security.selinux", follow_symlinks=False)
        looked_up = "/" + (path[4:] if path == "usr/etc" or path.startswith("usr/etc/") else path)
        try:
            expected = selinux.selabel_lookup_raw(handle, looked_up, os.lstat(checkout / path).st_mode)[1]
        except FileNotFoundError:
            unnamed.append(path)  # <<none>>: gets its directory's
            continue
        assert label.rstrip(b"\0").decode() == expected, path
        compared += 1
    selinux.selabel_close(handle)
    return compared, unnamed

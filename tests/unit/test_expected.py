"""What a tree will lack is told when its packages are known, unless something else may bring it."""

from __future__ import annotations

from typing import Any

import pytest

from compose.pipeline.expected import expected_of, warnings_of
from compose.treefile.model import AddFile, ExternalFile, Treefile


def told(labelled: bool = True, **keys: Any) -> list[str]:
    """First words of the warnings, if no package has anything."""
    wanted = expected_of(Treefile(basearch="x86_64", **keys), labelled=labelled)
    lacking = [each.files for each in wanted]
    return [line.partition(",")[0].removeprefix("no package has ") for line in warnings_of(wanted, lacking)]


MODULE = "dracut's module for OSTree"
KERNEL = AddFile(dest="usr/lib/modules/6.1/vmlinuz", source=ExternalFile(path="vmlinuz", data=b"", mode=0o644))


@pytest.mark.parametrize(
    ("keys", "lacks"),
    [
        ({}, ["a kernel", "dracut", MODULE, "an SELinux policy"]),
        ({"labelled": False}, ["a kernel", "dracut", MODULE]),
        ({"no_initramfs": True}, ["a kernel", "an SELinux policy"]),
        ({"container": True}, ["an SELinux policy"]),
        ({"add_files": (KERNEL,)}, ["dracut", MODULE, "an SELinux policy"]),
        ({"ostree_layers": ("x",)}, []),
        ({"ostree_override_layers": ("x",)}, []),
    ],
)
def test_what_is_needed(keys: dict[str, Any], lacks: list[str]) -> None:
    assert told(**keys) == lacks


def test_only_what_is_lacking() -> None:
    wanted = expected_of(Treefile(basearch="x86_64"), labelled=True)
    assert len(list(warnings_of(wanted, [wanted[2].files]))) == 1
    # as when it is not known
    assert not list(warnings_of(wanted, ()))

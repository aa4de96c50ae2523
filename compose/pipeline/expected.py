"""What a tree will lack, as far as the lists of files of its packages say, told before these are downloaded.

Not an error: a scriptlet may make it. The stage that needs it decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from compose.treefile.model import Treefile


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Something that a tree needs. files: patterns of paths, of which one is enough, the most likely first; `*` stands for
    slashes, too. name, remedy: for the warning."""

    name: str
    files: tuple[str, ...]
    remedy: str


_KERNEL = Expected(
    name="a kernel",
    files=("*/lib/modules/*/vmlinuz", "/boot/vmlinuz-*"),
    remedy="add one to packages, or set container: true for an image that is not booted",
)
_DRACUT = Expected(
    name="dracut",
    files=("/usr/bin/dracut", "*bin/dracut"),
    remedy="add dracut to packages, or set no-initramfs: true",
)
_MODULE = Expected(
    name="dracut's module for OSTree",
    files=("*/lib/dracut/modules.d/*ostree*",),
    remedy="add ostree to packages (on Debian ostree-boot)",
)
_POLICY = Expected(
    name="an SELinux policy",
    files=("/etc/selinux/*/contexts/files*", "*/selinux/*/active/*", "/usr/share/selinux/*"),
    remedy="add selinux-policy-targeted to packages, or set selinux: false",
)


def expected_of(treefile: Treefile, *, labelled: bool) -> tuple[Expected, ...]:
    """What the packages should have, because nothing else in the treefile adds it. labelled: will the tree be labelled?"""
    if treefile.ostree_layers or treefile.ostree_override_layers:
        return ()
    boots = not treefile.container
    wanted = (
        (_KERNEL, boots),
        (_DRACUT, boots and not treefile.no_initramfs),
        (_MODULE, boots and not treefile.no_initramfs),
        (_POLICY, labelled),
    )
    added = [f"/{each.dest.lstrip('/')}" for each in treefile.add_files]
    return tuple(
        each
        for each, needed in wanted
        if needed and not any(fnmatchcase(path, pattern) for path in added for pattern in each.files)
    )


def warnings_of(expected: Iterable[Expected], lacking: Collection[tuple[str, ...]]) -> Iterator[str]:
    """What to tell. lacking: as in Resolution."""
    for each in expected:
        if each.files in lacking:
            yield f"no package has {each.name}, which the compose will need: {each.remedy}"

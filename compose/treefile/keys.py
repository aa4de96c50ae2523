"""The keys of the language: how each merges with an include's value, and whether the flattened treefile contains it.

Merge rules (rpm-ostree's): FIRST, the includer's value wins; PREPEND, an include's items come before the includer's; UNION, a
sorted set of both; UPDATE, the includer wins for each member; TOP, only the top file's value is used.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Merge(enum.Enum):
    FIRST = enum.auto()
    PREPEND = enum.auto()
    UNION = enum.auto()
    UPDATE = enum.auto()
    TOP = enum.auto()


@dataclass(frozen=True, slots=True)
class Key:
    """How a key is treated. shown: whether the flattened treefile contains it."""

    merge: Merge
    shown: bool = True


_FIRST = Key(Merge.FIRST)

KEYS: dict[str, Key] = {
    **dict.fromkeys(
        (
            *("edition", "ref", "basearch", "rojig", "selinux", "sysusers", "selinux-label-version", "ignore-devices"),
            *("container", "recommends", "readonly-executables", "container-cmd", "documentation", "boot-location"),
            *("tmp-is-dir", "opt-usrlocal", "default-target", "machineid-compat", "releasever", "repo-metadata"),
            *("automatic-version-prefix", "automatic-version-suffix", "rpmdb", "mutate-os-release", "preserve-passwd"),
            *("check-passwd", "check-groups", "postprocess-script", "rpmdb-normalize", "no-initramfs", "gpg-key"),
            *("ima", "cliwrap", "advisories-metadata", "id-lock", "default-ignored-scriptlets"),
        ),
        _FIRST,
    ),
    **dict.fromkeys(
        (
            *("repos", "exclude-packages", "initramfs-args", "units", "etc-group-members", "postprocess", "add-files"),
            *("remove-files", "remove-from-packages", "repo-packages", "install-langs"),
            *("lockfile-repos", "ostree-layers", "ostree-override-layers", "cliwrap-binaries", "rpm-files"),
            *("ignore-scriptlets", "allow-scriptlet-failures"),
        ),
        Key(Merge.PREPEND),
    ),
    **dict.fromkeys(
        ("packages", "bootstrap-packages", "ignore-removed-users", "ignore-removed-groups"), Key(Merge.UNION)
    ),
    "add-commit-metadata": Key(Merge.UPDATE),
    "metadata": Key(Merge.UPDATE),
    "variables": Key(Merge.UPDATE, shown=False),
    "repovars": Key(Merge.UPDATE, shown=False),
    "platform-module": Key(Merge.TOP),
    # consumed by flattening
    "packages-remove": Key(Merge.TOP, shown=False),
    "include": Key(Merge.TOP, shown=False),
    "arch-include": Key(Merge.TOP, shown=False),
    "conditional-include": Key(Merge.TOP, shown=False),
}

LEGACY = {
    "gpg_key": "gpg-key",
    "boot_location": "boot-location",
    "default_target": "default-target",
    "automatic_version_prefix": "automatic-version-prefix",
}
"""Old spellings that rpm-ostree still accepts, and the current ones."""

OWN = frozenset(
    {
        *("packages-remove", "rpm-files", "id-lock"),
        *("ignore-scriptlets", "allow-scriptlet-failures", "default-ignored-scriptlets"),
    }
)
"""Keys that rpm-ostree does not have."""

WRAPPABLE = ("rpm", "dracut", "grubby", "yum", "dnf", "kernel-install")
"""Programs that cliwrap-binaries may list."""

FOREIGN = {
    "groups": 'list its groups under packages, as "@NAME"',
    "modules": "modularity has been retired; list the packages of its modules under packages",
    "opt-usrlocal-overlays": "instead of true: opt-usrlocal: state-overlay",
}
"""Keys of forks and of former versions of rpm-ostree, and what to do instead."""

CLIENT_ONLY = (
    *("base-refspec", "container-image-reference", "packages-local", "packages-local-fileoverride", "override-remove"),
    *("ex-override-replace", "override-replace-local", "initramfs", "custom", "override-commit", "unconfigured-state"),
)
"""Keys of client-side treefiles, which a compose rejects."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt word most likely means, or None."""
    import difflib

    found = difflib.get_close_matches(word.replace("_", "-"), list(known), n=1, cutoff=0.6)
    return found[0] if found else None

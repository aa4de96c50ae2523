"""The flattened treefile as one frozen value."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from compose.rpm.specs import PackageSpec, RepoPackages
from compose.values import value


class OptUsrLocal(enum.StrEnum):
    VAR = "var"
    ROOT = "root"
    STATE_OVERLAY = "state-overlay"


class BootLocation(enum.StrEnum):
    NEW = "new"
    MODULES = "modules"
    KERNEL_INSTALL = "kernel-install"


class MetadataPlace(enum.StrEnum):
    INLINE = "inline"
    DETACHED = "detached"
    DISABLED = "disabled"


class CheckKind(enum.StrEnum):
    NONE = "none"
    PREVIOUS = "previous"
    FILE = "file"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFile:
    """A file that the treefile refers to, read when the treefile is loaded. mode: permission bits, without group and other
    write."""

    path: str
    data: bytes
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddFile:
    """An entry of add-files. dest: path in the tree, with or without the leading slash."""

    dest: str
    source: ExternalFile


@dataclass(frozen=True, slots=True, kw_only=True)
class RpmSource:
    """An RPM that does not come from a repository. Exactly one of path (absolute, or relative to the current directory) and url
    is set. sha256: of the file, 64 hex digits."""

    sha256: str
    place: str
    path: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Value of check-passwd or check-groups. file: a passwd or group file, for type file. data: name to ids, for type data."""

    kind: CheckKind
    file: ExternalFile | None = None
    data: tuple[tuple[str, tuple[int, ...]], ...] = ()


@value
class Treefile:
    """Every key that a compose acts on, with rpm-ostree's defaults. Fields are named like the keys, with underscores.

    finalize: the programs of finalize.d, sorted by name.
    """

    basearch: str
    ref: str | None = None
    releasever: str | None = None
    repos: tuple[str, ...] | None = None
    repovars: tuple[tuple[str, str], ...] = ()
    packages: tuple[PackageSpec, ...] = ()
    repo_packages: tuple[RepoPackages, ...] = ()
    exclude_packages: tuple[PackageSpec, ...] = ()
    recommends: bool = True
    documentation: bool = True
    install_langs: tuple[str, ...] | None = None
    selinux: bool = True
    selinux_label_version: int = 0
    ignore_devices: bool = True
    readonly_executables: bool = False
    remove_from_packages: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ignore_scriptlets: tuple[tuple[str, str, str], ...] = ()
    allow_scriptlet_failures: tuple[tuple[str, str, str], ...] = ()
    default_ignored_scriptlets: bool = True
    container: bool = False
    container_cmd: tuple[str, ...] | None = None
    initramfs_args: tuple[str, ...] = ()
    no_initramfs: bool = False
    boot_location: BootLocation = BootLocation.NEW
    tmp_is_dir: bool = False
    opt_usrlocal: OptUsrLocal = OptUsrLocal.VAR
    units: tuple[str, ...] = ()
    default_target: str | None = None
    machineid_compat: bool = True
    mutate_os_release: str | None = None
    automatic_version_prefix: str | None = None
    automatic_version_suffix: str = "."
    etc_group_members: tuple[str, ...] = ()
    preserve_passwd: bool = True
    check_passwd: Check = Check(kind=CheckKind.PREVIOUS)
    check_groups: Check = Check(kind=CheckKind.PREVIOUS)
    ignore_removed_users: tuple[str, ...] = ()
    ignore_removed_groups: tuple[str, ...] = ()
    postprocess: tuple[str, ...] = ()
    postprocess_script: ExternalFile | None = None
    add_files: tuple[AddFile, ...] = ()
    remove_files: tuple[str, ...] = ()
    add_commit_metadata: tuple[tuple[str, Any], ...] = ()
    gpg_key: str | None = None
    repo_metadata: MetadataPlace = MetadataPlace.INLINE
    advisories_metadata: MetadataPlace = MetadataPlace.INLINE
    rpm_files: tuple[RpmSource, ...] = ()
    lockfile_repos: tuple[str, ...] = ()
    ima: bool = False
    cliwrap: bool = False
    cliwrap_binaries: tuple[str, ...] = ()
    ostree_layers: tuple[str, ...] = ()
    ostree_override_layers: tuple[str, ...] = ()
    finalize: tuple[ExternalFile, ...] = ()
    id_lock: ExternalFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTreefile:
    """A treefile as load_treefile() returns it. json: the flattened treefile, as --print-only prints it and the tree
    records it.

    deciding_keys: (key, canonical JSON) of each key that goes into the input hash. deciding_files: the same for files that keys
    refer to, ("add-files motd", "mode digest"). directory: that of the top file, where .repo files are. files: all files that
    were read, the top file first. warnings: one line each.
    """

    treefile: Treefile
    json: str
    deciding_keys: tuple[tuple[str, str], ...]
    deciding_files: tuple[tuple[str, str], ...]
    directory: str
    files: tuple[ExternalFile, ...]
    warnings: tuple[str, ...]

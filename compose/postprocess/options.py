"""Options of postprocessing, as set by a treefile, and its result."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass

from compose.process import ProgramRecord
from compose.tree import Tree


class BootLocation(enum.StrEnum):
    """Where the kernel goes besides /usr/lib/modules/KVER: NEW also puts copies named by checksum in /usr/lib/ostree-boot."""

    NEW = "new"
    MODULES = "modules"
    KERNEL_INSTALL = "kernel-install"


class OptUsrLocal(enum.StrEnum):
    """What /opt and /usr/local are: links into /var, directories of the image, or overlays that keep local changes."""

    VAR = "var"
    ROOT = "root"
    STATE_OVERLAY = "state-overlay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A program from the treefile.

    name: for messages, such as "postprocess[0]". body: a script, for /bin/sh if it has no #! line, or an executable.
    """

    name: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedFile:
    """A file of add-files. dest: as written in the treefile, "etc/motd" or "/usr/share/x". mode: permission bits."""

    dest: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessOptions:
    """The treefile keys of the same names, after defaults are applied.

    postprocess: the inline scripts; postprocess_script: the one from a file, run after them; finalize: those in finalize.d,
    run last. cliwrap: programs to wrap. version: of the commit, None if it has none. mutate_os_release: the base version
    to replace in os-release. treefile_json: the flattened treefile to record in the tree, None to keep what is there.
    time: SOURCE_DATE_EPOCH of the compose, seconds since 1970. foreign: the tree's architecture if this machine has another.
    """

    boot_location: BootLocation = BootLocation.NEW
    tmp_is_dir: bool = False
    machineid_compat: bool = True
    units: tuple[str, ...] = ()
    default_target: str | None = None
    opt_usrlocal: OptUsrLocal = OptUsrLocal.VAR
    etc_group_members: tuple[str, ...] = ()
    postprocess: tuple[Script, ...] = ()
    postprocess_script: Script | None = None
    finalize: tuple[Script, ...] = ()
    cliwrap: tuple[str, ...] = ()
    add_files: tuple[AddedFile, ...] = ()
    remove_files: tuple[str, ...] = ()
    mutate_os_release: str | None = None
    version: str | None = None
    initramfs_args: tuple[str, ...] = ("--no-hostonly",)
    no_initramfs: bool = False
    container: bool = False
    selinux: bool = True
    treefile_json: bytes | None = b"{}\n"
    time: int = 0
    foreign: str | None = None

    def without_treefile_steps(self) -> PostprocessOptions:
        """These options for a tree to which the treefile's files, units and scripts were already applied."""
        return dataclasses.replace(
            self,
            units=(),
            default_target=None,
            postprocess=(),
            postprocess_script=None,
            add_files=(),
            remove_files=(),
            mutate_os_release=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Dropped:
    """A path of the assembled tree that is not in the commit, and why.

    expected: no need to report it, because the treefile asked for it or programs recreate it on each machine.
    """

    path: str
    reason: str
    expected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocessed:
    """Result of postprocessing.

    tree: ready to be labelled. records: the programs run, in order. kernel: its version, the name below /usr/lib/modules; None
    without one. dropped: sorted by path.
    """

    tree: Tree
    records: tuple[ProgramRecord, ...]
    kernel: str | None
    dropped: tuple[Dropped, ...]

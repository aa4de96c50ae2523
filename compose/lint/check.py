"""Applies all rules to a tree, and implements those about its layout and about booting."""

from __future__ import annotations

import configparser
import contextlib
import re
import tomllib
from collections.abc import Callable, Iterator

from compose import initramfs
from compose.label import Audit
from compose.lint import accounts, commit, selinux
from compose.lint.subject import MODULES, Contents, Finding, Subject, few
from compose.ostree.objects import COMPOSEFS_DIGEST, Commit
from compose.postprocess import tmpfilesd
from compose.postprocess.rootfs import TRUE
from compose.tree import Tree, name_of

_OSTREE_BOOT = "usr/lib/ostree-boot"
_MOUNT_POINTS = ("dev", "proc", "run", "sys")
_REDIRECTED = ("home", "root", "srv", "mnt", "media", "opt", "usr/local")
_MERGED = ("bin", "sbin", "lib", "lib64")
_COMPOSEFS_ON = (*TRUE, "yes", "maybe", "verity", "signed")
_KERNEL_ARGUMENTS = "usr/lib/bootc/kargs.d"
_PREPARE_ROOT = "ostree-prepare-root"


def lint_tree(
    tree: Tree,
    store: Contents,
    *,
    bootable: bool,
    commit: Commit | None = None,
    labels: Audit | None = None,
    measured: bool | None = None,
) -> tuple[Finding, ...]:
    """All findings, sorted by rule and path.

    bootable: is the tree meant to be booted, and not only for a container image? labels: the audit of its SELinux labels, None
    when it has none or they were not audited. measured: if there is no commit yet, will it have a composefs digest? None when
    unknown.
    """
    if commit is not None:
        measured = commit.get(COMPOSEFS_DIGEST) is not None
    subject = Subject(tree, store, bootable, commit, labels, measured)
    return tuple(sorted({finding for check in _CHECKS for finding in check(subject)}))


def _kernel(subject: Subject) -> Iterator[Finding]:
    if not subject.bootable:
        return
    kernels = subject.kernels()
    if len(kernels) != 1:
        message = f"has {len(kernels)} kernels instead of one" + (f": {', '.join(kernels)}" if kernels else "")
        yield Finding(rule="kernel", path=f"/{MODULES}", message=message)
    elif not subject.tree[f"{MODULES}/{kernels[0]}/vmlinuz"].is_file:
        yield Finding(rule="kernel", path=f"/{MODULES}/{kernels[0]}/vmlinuz", message="is not a regular file")


def _boot_checksums(subject: Subject) -> Iterator[Finding]:
    sums: dict[str, set[str]] = {}
    for name in subject.tree.children(_OSTREE_BOOT):
        if match := re.fullmatch(r"(vmlinuz|initramfs)-.*-([0-9a-f]{64})", name):
            sums.setdefault(match[1], set()).add(match[2])
    if len(set().union(*sums.values())) > 1:
        yield Finding(rule="boot-checksums", path=f"/{_OSTREE_BOOT}", message="file names have different checksums")


def _os_release(subject: Subject) -> Iterator[Finding]:
    release = subject.text("usr/lib/os-release") or subject.text("etc/os-release") or ""
    if subject.bootable and not re.search(r"(?m)^(PRETTY_NAME|ID)=", release):
        yield Finding(rule="os-release", path="/usr/lib/os-release", message="has neither PRETTY_NAME nor ID")


def _etc(subject: Subject) -> Iterator[Finding]:
    if "etc" in subject.tree:
        yield Finding(rule="etc-usretc", path="/etc", message="exists, but defaults belong in /usr/etc")
    if not subject.tree.is_dir("usr/etc"):
        yield Finding(rule="etc-usretc", path="/usr/etc", message="is missing")


def _mount_points(subject: Subject) -> Iterator[Finding]:
    for name in _MOUNT_POINTS:
        yield from _empty_directory(subject, name, "api-base-directories")
    temporary = subject.tree.get("tmp")
    if temporary is None or not (temporary.is_dir or temporary.target == "sysroot/tmp"):
        yield Finding(
            rule="api-base-directories", path="/tmp", message="is neither a directory nor a symlink to sysroot/tmp"
        )
    elif temporary.is_dir and subject.tree.children("tmp"):
        yield Finding(rule="api-base-directories", path="/tmp", message="is not empty")


def _root(subject: Subject) -> Iterator[Finding]:
    yield from _empty_directory(subject, "sysroot", "baseimage-root")
    link = subject.tree.get("ostree")
    if link is None or link.target != "sysroot/ostree":
        yield Finding(rule="baseimage-root", path="/ostree", message="is not a symlink to sysroot/ostree")


def _var(subject: Subject) -> Iterator[Finding]:
    yield from _empty_directory(subject, "var", "var-content")


def _boot(subject: Subject) -> Iterator[Finding]:
    # an image for bootc may have a unified kernel image there
    yield from _empty_directory(subject, "boot", "nonempty-boot", but="EFI")


def _kernel_arguments(subject: Subject) -> Iterator[Finding]:
    directory = subject.tree.get(_KERNEL_ARGUMENTS)
    if directory is not None and not directory.is_dir:
        yield Finding(rule="bootc-kargs", path=f"/{_KERNEL_ARGUMENTS}", message="is not a directory")
    for name in subject.tree.children(_KERNEL_ARGUMENTS):
        path = f"{_KERNEL_ARGUMENTS}/{name}"
        blob = subject.tree[path].blob
        if not name.endswith(".toml"):
            continue
        if blob is None:
            # of a new commit, bootc reads the object itself, and does not follow a link
            yield Finding(rule="bootc-kargs", path=f"/{path}", message="is not a regular file")
            continue
        try:
            found = tomllib.loads(subject.store.read(blob).decode())
        except (ValueError, RecursionError) as error:
            # ValueError: also for bytes that are not UTF-8, and an integer of thousands of digits
            yield Finding(rule="bootc-kargs", path=f"/{path}", message=f"not TOML: {error}")
            continue
        if unknown := sorted(found.keys() - {"kargs", "match-architectures"}):
            yield Finding(rule="bootc-kargs", path=f"/{path}", message=f"unknown keys: {few(unknown)}")
        for key in ("kargs", "match-architectures"):
            values = found.get(key, [] if key == "match-architectures" else None)
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                yield Finding(rule="bootc-kargs", path=f"/{path}", message=f"{key} is not a list of strings")


def _kernel_checksum(subject: Subject) -> Iterator[Finding]:
    for kver in subject.kernels():
        path = f"{MODULES}/{kver}/.vmlinuz.hmac"
        if re.search(r"(?m)^\S+\s+.*/", subject.text(path) or ""):
            message = "does not name the kernel by a relative path, so the self-test fails where clients boot it"
            yield Finding(rule="vmlinuz-hmac", path=f"/{path}", message=message)


def _toplevel(subject: Subject) -> Iterator[Finding]:
    if _is_transient(_prepare_root(subject)[1]):
        return
    for name in _REDIRECTED:
        entry = subject.tree.get(name)
        overlay = name in ("opt", "usr/local")
        if entry is None or not (entry.is_symlink or overlay):
            message = "is missing" if entry is None else "is a directory: files put there are lost at the next update"
            yield Finding(rule="toplevel-links", path=f"/{name}", message=message)


def _toplevel_targets(subject: Subject) -> Iterator[Finding]:
    created = {subject.place(path) for path in _created_at_boot(subject)}
    for name in _REDIRECTED:
        entry = subject.tree.get(name)
        if entry is None or not entry.is_symlink:
            continue
        target = subject.place(name)
        # creating a path below the target creates the target too
        if target not in subject.tree and not any(f"{path}/".startswith(f"{target}/") for path in created):
            message = f"points to /{target}, which no line of tmpfiles.d creates"
            yield Finding(rule="toplevel-targets", path=f"/{name}", message=message)


def _created_at_boot(subject: Subject) -> Iterator[str]:
    for directory in ("usr/lib/tmpfiles.d", "usr/etc/tmpfiles.d"):
        for _, text in subject.texts(directory, ".conf"):
            yield from tmpfilesd.created_paths(text)


def _usrmove(subject: Subject) -> Iterator[Finding]:
    for name in _MERGED:
        entry = subject.tree.get(name)
        if entry is not None and not entry.is_symlink:
            yield Finding(rule="usrmove", path=f"/{name}", message="is not a symlink into /usr, as clients expect")


def _initramfs(subject: Subject) -> Iterator[Finding]:
    for kver in subject.kernels() if subject.bootable else ():
        names = [f"{MODULES}/{kver}/{name}" for name in ("initramfs.img", "initramfs")]
        path = next((name for name in names if name in subject.tree), names[0])
        entry = subject.tree.get(path)
        if entry is None or entry.blob is None:
            yield Finding(rule="initramfs", path=f"/{path}", message="is missing")
        elif not _mounts_deployments(subject.store.read(entry.blob)):
            yield Finding(rule="initramfs", path=f"/{path}", message=f"does not contain {_PREPARE_ROOT}")


def _composefs(subject: Subject) -> Iterator[Finding]:
    if not subject.bootable:
        return
    path, config = _prepare_root(subject)
    enabled = config.get("composefs", "enabled", fallback="")
    # a transient root is an overlay too, as bootc needs one
    if enabled not in _COMPOSEFS_ON and not _is_transient(config):
        yield Finding(rule="baseimage-composefs", path=path, message="does not enable composefs")
    elif enabled == "signed" and subject.measured is False:
        message = "clients boot only a commit with a signed composefs digest, and this one has no digest"
        yield Finding(rule="composefs-digest", path=path, message=message)


def _injected(subject: Subject) -> Iterator[Finding]:
    for path in ("usr/etc/hostname", "usr/etc/resolv.conf"):
        entry = subject.tree.get(path)
        if entry is not None and entry.blob is not None and not entry.blob.size:
            yield Finding(rule="buildah-injected", path=f"/{path}", message="is an empty file")


def _whiteouts(subject: Subject) -> Iterator[Finding]:
    found = [path for path in subject.tree.entries if name_of(path).startswith(".wh.")]
    if found:
        yield Finding(rule="whiteout", path=f"/{found[0]}", message=f"names of whiteouts: {few(found)}")


def _writable(subject: Subject) -> Iterator[Finding]:
    for path, entry in subject.tree.walk():
        if entry.is_symlink or not entry.permissions & 0o002 or (entry.is_dir and entry.permissions & 0o1000):
            continue
        yield Finding(rule="world-writable", path=f"/{path}", message=f"has mode {entry.permissions:04o}")


def _prepare_root(subject: Subject) -> tuple[str, configparser.RawConfigParser]:
    """The path of ostree-prepare-root's configuration, and its content; empty when it is missing or cannot be parsed."""
    config = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
    # a file in /etc replaces the other one as a whole
    etc, usr = "etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf"
    text = subject.text(path := etc)
    if text is None:
        text = subject.text(path := usr)
    try:
        config.read_string(text or "")
    except (configparser.Error, ValueError):
        config.clear()
    return f"/{subject.place(path)}", config


def _is_transient(config: configparser.RawConfigParser) -> bool:
    return config.get("root", "transient", fallback="") in TRUE


def _mounts_deployments(image: bytes) -> bool:
    """Has an initramfs the program that mounts a deployment? True also for one compressed as only the kernel reads it."""
    with contextlib.suppress(ValueError):
        return any(name_of(path) == _PREPARE_ROOT for path in initramfs.files(image))
    return True


def _empty_directory(subject: Subject, name: str, rule: str, *, but: str = "") -> Iterator[Finding]:
    if not subject.tree.is_dir(name):
        yield Finding(rule=rule, path=f"/{name}", message="is not a directory")
    elif found := [each for each in subject.tree.children(name) if each != but]:
        yield Finding(rule=rule, path=f"/{name}", message=f"is not empty: {few(found)}")


_CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _kernel,
    _boot_checksums,
    _kernel_checksum,
    _os_release,
    _etc,
    _mount_points,
    _root,
    _var,
    _boot,
    _kernel_arguments,
    _toplevel,
    _toplevel_targets,
    _usrmove,
    _initramfs,
    _composefs,
    _injected,
    _whiteouts,
    _writable,
    accounts.accounts,
    accounts.sysusers,
    accounts.id_drift,
    accounts.shadow,
    accounts.machine_id,
    selinux.unlabelled,
    selinux.labels,
    selinux.policy_store,
    selinux.policy_aliases,
    commit.metadata,
    commit.rpmdb,
)

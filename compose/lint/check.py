"""The rules applied to a tree, and to the metadata of its commit."""

from __future__ import annotations

import configparser
import contextlib
import re
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard

from compose.findings import Level
from compose.label import XATTR, Audit
from compose.lint.rules import RULES
from compose.ostree.objects import Commit
from compose.tree import BlobRef, Tree, TreeLookupError

_MODULES = "usr/lib/modules"
_OSTREE_BOOT = "usr/lib/ostree-boot"
_MOUNT_POINTS = ("dev", "proc", "run", "sys")
_REDIRECTED = ("home", "root", "srv", "mnt", "media", "opt", "usr/local")
_MERGED = ("bin", "sbin", "lib", "lib64")
_SHADOW = ("usr/etc/shadow", "usr/etc/gshadow")
_DATABASE, _BASE_COPY = "usr/share/rpm", "usr/lib/sysimage/rpm-ostree-base-db"
_CHUNK = 1 << 20
_SHOWN = 5
_LABELS_SHOWN = 20


class Contents(Protocol):
    """What is needed of a blob store."""

    def read(self, ref: BlobRef) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """path: absolute, in the tree; "/" for what is about the whole."""

    rule: str
    path: str
    message: str

    @property
    def level(self) -> Level:
        return RULES[self.rule].level


@dataclass(frozen=True, slots=True)
class _Subject:
    tree: Tree
    store: Contents
    bootable: bool
    commit: Commit | None
    labels: Audit | None

    def text(self, path: str) -> str | None:
        """A file, symlinks followed; /etc is where its defaults are."""
        with contextlib.suppress(TreeLookupError):
            place = self.tree.resolve(path)
            place = f"usr/{place}" if place.startswith("etc/") else place
            entry = self.tree.get(place)
            if entry is not None and entry.blob is not None:
                return self.store.read(entry.blob).decode(errors="replace")
        return None

    def kernels(self) -> list[str]:
        names = self.tree.children(_MODULES) if self.tree.is_dir(_MODULES) else ()
        return [name for name in names if f"{_MODULES}/{name}/vmlinuz" in self.tree]


def lint_tree(
    tree: Tree, store: Contents, *, bootable: bool, commit: Commit | None = None, labels: Audit | None = None
) -> tuple[Finding, ...]:
    """All findings, by rule and path. bootable: it is meant to be booted, not to be a container image only. labels: the
    audit of its labels, None when it has none or they were not looked at."""
    subject = _Subject(tree, store, bootable, commit, labels)
    return tuple(sorted({finding for check in _CHECKS for finding in check(subject)}))


def _kernel(subject: _Subject) -> Iterator[Finding]:
    if not subject.bootable:
        return
    found = subject.kernels()
    where = f"/{_MODULES}"
    if len(found) != 1:
        named = f": {', '.join(found)}" if found else ""
        yield Finding(rule="kernel", path=where, message=f"{len(found)} kernels, one is needed{named}")
    elif not subject.tree[f"{_MODULES}/{found[0]}/vmlinuz"].is_file:
        yield Finding(rule="kernel", path=f"{where}/{found[0]}/vmlinuz", message="is not a regular file")


def _boot_checksums(subject: _Subject) -> Iterator[Finding]:
    sums: dict[str, set[str]] = {}
    for name in subject.tree.children(_OSTREE_BOOT) if subject.tree.is_dir(_OSTREE_BOOT) else ():
        if match := re.fullmatch(r"(vmlinuz|initramfs)-.*-([0-9a-f]{64})", name):
            sums.setdefault(match[1], set()).add(match[2])
    if len(set().union(*sums.values())) > 1:
        yield Finding(rule="boot-checksums", path=f"/{_OSTREE_BOOT}", message="the checksums in the names differ")


def _os_release(subject: _Subject) -> Iterator[Finding]:
    release = subject.text("usr/lib/os-release") or subject.text("etc/os-release") or ""
    if subject.bootable and not re.search(r"(?m)^(PRETTY_NAME|ID)=", release):
        yield Finding(rule="os-release", path="/usr/lib/os-release", message="has neither PRETTY_NAME nor ID")


def _etc(subject: _Subject) -> Iterator[Finding]:
    if "etc" in subject.tree:
        yield Finding(rule="etc-usretc", path="/etc", message="is there beside /usr/etc")
    if not subject.tree.is_dir("usr/etc"):
        yield Finding(rule="etc-usretc", path="/usr/etc", message="is missing")


def _mount_points(subject: _Subject) -> Iterator[Finding]:
    for name in _MOUNT_POINTS:
        yield from _empty_directory(subject, name, "api-base-directories")
    temporary = subject.tree.get("tmp")
    if temporary is None or not (temporary.is_dir or temporary.target == "sysroot/tmp"):
        yield Finding(
            rule="api-base-directories", path="/tmp", message="is neither a directory nor a link to sysroot/tmp"
        )
    elif temporary.is_dir and subject.tree.children("tmp"):
        yield Finding(rule="api-base-directories", path="/tmp", message="is not empty")


def _root(subject: _Subject) -> Iterator[Finding]:
    yield from _empty_directory(subject, "sysroot", "baseimage-root")
    link = subject.tree.get("ostree")
    if link is None or link.target != "sysroot/ostree":
        yield Finding(rule="baseimage-root", path="/ostree", message="is not a link to sysroot/ostree")


def _var(subject: _Subject) -> Iterator[Finding]:
    yield from _empty_directory(subject, "var", "var-content")


def _boot(subject: _Subject) -> Iterator[Finding]:
    yield from _empty_directory(subject, "boot", "nonempty-boot")


def _empty_directory(subject: _Subject, name: str, rule: str) -> Iterator[Finding]:
    if not subject.tree.is_dir(name):
        yield Finding(rule=rule, path=f"/{name}", message="is not a directory")
    elif found := subject.tree.children(name):
        yield Finding(rule=rule, path=f"/{name}", message=f"is not empty: {_few(found)}")


def _shadow(subject: _Subject) -> Iterator[Finding]:
    for path in _SHADOW:
        if path in subject.tree and (mode := subject.tree[path].permissions):
            yield Finding(rule="shadow-mode", path=f"/{path}", message=f"has mode {mode:04o}")


def _labels(subject: _Subject) -> Iterator[Finding]:
    bare = [path for path, entry in subject.tree.walk() if XATTR not in dict(entry.xattrs)]
    # no label at all is a tree without SELinux
    if bare and len(bare) < len(subject.tree):
        yield Finding(rule="unlabelled", path=f"/{bare[0]}", message=f"{len(bare)} files have no label: {_few(bare)}")


def _policy_labels(subject: _Subject) -> Iterator[Finding]:
    wrong = [each for each in (subject.labels.mislabelled if subject.labels else ()) if each.label is not None]
    for each in wrong[:_LABELS_SHOWN]:
        message = f"has the label {each.label}, the policy gives {each.expected}"
        yield Finding(rule="label", path=f"/{each.path}", message=message)
    if len(wrong) > _LABELS_SHOWN:
        yield Finding(rule="label", path="/", message=f"{len(wrong) - _LABELS_SHOWN} more labels differ")


def _machine_id(subject: _Subject) -> Iterator[Finding]:
    if (subject.text("usr/etc/machine-id") or "").strip() not in ("", "uninitialized"):
        yield Finding(rule="machine-id", path="/usr/etc/machine-id", message="is not empty")


def _kernel_arguments(subject: _Subject) -> Iterator[Finding]:
    directory = "usr/lib/bootc/kargs.d"
    for name in subject.tree.children(directory) if subject.tree.is_dir(directory) else ():
        path = f"{directory}/{name}"
        try:
            found = tomllib.loads(subject.text(path) or "")
        except tomllib.TOMLDecodeError as error:
            yield Finding(rule="bootc-kargs", path=f"/{path}", message=f"not TOML: {error}")
            continue
        arguments = found.get("kargs")
        if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
            yield Finding(rule="bootc-kargs", path=f"/{path}", message="kargs is not a list of texts")


def _commit(subject: _Subject) -> Iterator[Finding]:
    if subject.commit is None:
        return
    kernels = subject.kernels()
    if subject.commit.get("ostree.bootable") and subject.commit.get("ostree.linux") not in kernels:
        told = subject.commit.get("ostree.linux")
        yield Finding(
            rule="commit-metadata", path="/", message=f"ostree.linux is {told}, the tree has {_few(kernels) or 'none'}"
        )
    if not subject.commit.get("rpmostree.rpmdb.pkglist"):
        yield Finding(rule="package-list", path="/", message="the commit has no rpmostree.rpmdb.pkglist")


def _toplevel(subject: _Subject) -> Iterator[Finding]:
    if _prepare_root(subject, "root", "transient"):
        return
    for name in _REDIRECTED:
        entry = subject.tree.get(name)
        overlay = name in ("opt", "usr/local")
        if entry is None or not (entry.is_symlink or overlay):
            what = (
                "is missing" if entry is None else "is a directory: what a user puts there is lost with the next update"
            )
            yield Finding(rule="toplevel-links", path=f"/{name}", message=what)


def _usrmove(subject: _Subject) -> Iterator[Finding]:
    for name in _MERGED:
        entry = subject.tree.get(name)
        if entry is not None and not entry.is_symlink:
            yield Finding(rule="usrmove", path=f"/{name}", message="is a directory: clients expect a link into /usr")


def _initramfs(subject: _Subject) -> Iterator[Finding]:
    for kver in subject.kernels() if subject.bootable else ():
        path = f"{_MODULES}/{kver}/initramfs.img"
        entry = subject.tree.get(path)
        if entry is None or entry.blob is None:
            yield Finding(rule="initramfs", path=f"/{path}", message="is missing")
        elif not _holds(subject.store.read(entry.blob), b"ostree-prepare-root"):
            yield Finding(rule="initramfs", path=f"/{path}", message="has no ostree-prepare-root in it")


def _composefs(subject: _Subject) -> Iterator[Finding]:
    if subject.bootable and not _prepare_root(subject, "composefs", "enabled"):
        path = "/usr/lib/ostree/prepare-root.conf"
        yield Finding(rule="baseimage-composefs", path=path, message="does not enable composefs")


def _policy(subject: _Subject) -> Iterator[Finding]:
    place = "var/lib/selinux"
    if subject.tree.is_dir(place) and subject.tree.children(place):
        yield Finding(rule="policy-store", path=f"/{place}", message="holds modules of the policy")


def _accounts(subject: _Subject) -> Iterator[Finding]:
    present = [name for name in ("passwd", "group") if (subject.text(f"usr/lib/{name}") or "").strip()]
    if present and not any(
        path.startswith("usr/lib") and "/libnss_altfiles.so" in path for path in subject.tree.entries
    ):
        yield Finding(
            rule="accounts", path=f"/usr/lib/{present[0]}", message="nothing reads it: there is no libnss_altfiles"
        )
    switch = subject.text("usr/etc/nsswitch.conf") or ""
    for database in present:
        if not re.search(rf"(?m)^{database}:.*\baltfiles\b", switch):
            message = f"{database} does not read /usr/lib/{database} (altfiles)"
            yield Finding(rule="accounts", path="/usr/etc/nsswitch.conf", message=message)


def _rpmdb(subject: _Subject) -> Iterator[Finding]:
    tree = subject.tree
    for place in (_DATABASE, _BASE_COPY):
        if not tree.is_dir(place) or not tree.children(place):
            yield Finding(rule="rpmdb", path=f"/{place}", message="is missing")
            return
    for name in tree.children(_DATABASE):
        one, other = tree.get(f"{_DATABASE}/{name}"), tree.get(f"{_BASE_COPY}/{name}")
        if one is None or other is None or one.blob is None or other.blob is None:
            continue
        if one.blob.digest != other.blob.digest:
            yield Finding(rule="rpmdb", path=f"/{_BASE_COPY}/{name}", message=f"differs from /{_DATABASE}/{name}")


def _writable(subject: _Subject) -> Iterator[Finding]:
    for path, entry in subject.tree.walk():
        if entry.is_symlink or not entry.permissions & 0o002 or (entry.is_dir and entry.permissions & 0o1000):
            continue
        yield Finding(rule="world-writable", path=f"/{path}", message=f"has mode {entry.permissions:04o}")


def _prepare_root(subject: _Subject, section: str, key: str) -> bool:
    """A switch of ostree-prepare-root's configuration."""
    for path in ("etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf"):
        text = subject.text(path)
        if text is None:
            continue
        config = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
        with contextlib.suppress(configparser.Error, ValueError):
            config.read_string(text)
            value = config.get(section, key, fallback="")
            return value in ("signed", "verity", "yes", "true", "1", "on")
        return False
    return False


def _holds(image: bytes, wanted: bytes) -> bool:
    """Is the text in an initramfs: cpio archives one after the other, the last ones compressed as dracut does it?"""
    if wanted in image:
        return True
    for magic, open_stream in ((b"\x28\xb5\x2f\xfd", _zstd), (b"\x1f\x8b\x08", _gzip)):
        at = image.find(magic)
        if at >= 0:
            before = b""
            with contextlib.suppress(zstandard.ZstdError, zlib.error):
                for chunk in open_stream(image[at:]):
                    if wanted in before + chunk:
                        return True
                    before = chunk[-len(wanted) :]
    # another compression is not looked into
    return image.find(b"\x28\xb5\x2f\xfd") < 0 and image.find(b"\x1f\x8b\x08") < 0


def _zstd(data: bytes) -> Iterator[bytes]:
    yield from zstandard.ZstdDecompressor().read_to_iter(data, write_size=_CHUNK)


def _gzip(data: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    for start in range(0, len(data), _CHUNK):
        yield unpacker.decompress(data[start : start + _CHUNK])


def _few(names: list[str] | tuple[str, ...]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


_CHECKS: tuple[Callable[[_Subject], Iterator[Finding]], ...] = (
    _kernel,
    _boot_checksums,
    _os_release,
    _etc,
    _mount_points,
    _root,
    _var,
    _boot,
    _shadow,
    _labels,
    _policy_labels,
    _machine_id,
    _kernel_arguments,
    _commit,
    _toplevel,
    _usrmove,
    _initramfs,
    _composefs,
    _policy,
    _accounts,
    _rpmdb,
    _writable,
)

"""Label: security.selinux on every entry, by the policy in the tree; and the audit of labels that are there.

The rules are read as text (file_contexts and its companions, never the compiled .bin, which has another machine's regular
expressions) and looked up by libselinux, which needs no SELinux on this machine. /usr/etc is looked up as /etc, which it
becomes on the client.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import selinux

from compose.errors import LabelError
from compose.events import Reporter
from compose.fs import storage_errors
from compose.tree import BlobRef, Entry, Tree, TreeLookupError, parent_of

XATTR = b"security.selinux"
_CONFIG = "usr/etc/selinux/config"
# file_contexts is needed; a policy without the others has no such rules.
_SUFFIXES = ("", ".homedirs", ".local", ".subs", ".subs_dist")
_SHOWN = 5
# Covered on the running system by filesystems with labels of their own; policies may say <<none>> for them.
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "tmp"})


class Contents(Protocol):
    """What is needed of a blob store."""

    def read(self, ref: BlobRef) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mislabelled:
    """path: of the tree. label: what it has, None for none. expected: what the policy gives it."""

    path: str
    label: str | None
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Labels of a tree beside the policy in it. checked: paths, all of them. inherited: those that the policy names
    <<none>> or not at all, which have the label of their directory. The rest is equal or mislabelled."""

    policy: str
    checked: int
    inherited: int
    mislabelled: tuple[Mislabelled, ...]

    @property
    def unlabelled(self) -> int:
        return sum(each.label is None for each in self.mislabelled)

    @property
    def equal(self) -> int:
        return self.checked - self.inherited - len(self.mislabelled)


def label(tree: Tree, store: Contents, workdir: str, reporter: Reporter) -> Tree:
    """The tree with a label on every entry; labels it had are replaced.

    An entry that the policy names <<none>> gets what the kernel gives a file made there: the label of its directory.
    workdir: an existing directory for a private copy of the rules. Raises LabelError when the tree has no policy,
    or one that cannot be read.
    """
    with _rules(tree, store, workdir) as (handle, policy):
        return _label_all(tree, handle, policy, reporter)


def audit(tree: Tree, store: Contents, workdir: str) -> Audit:
    """Look every path of a tree up again, in the policy that the tree has now; nothing is remembered of label().

    workdir, LabelError: as in label(). A path costs 13 to 18 us of CPU, with Debian's policy.
    """
    mislabelled = []
    inherited = 0
    with _rules(tree, store, workdir) as (handle, policy):
        for path, entry in tree.walk():
            expected = _look_up(handle, path, entry.mode)
            present = label_of(entry)
            of_directory = expected is None
            if expected is None:
                expected = label_of(tree[parent_of(path)]) if path else None
            if present is None or present != expected:
                mislabelled.append(Mislabelled(path=path, label=present, expected=expected or "<<none>>"))
            elif of_directory:
                inherited += 1
    return Audit(policy=policy, checked=len(tree), inherited=inherited, mislabelled=tuple(mislabelled))


def label_of(entry: Entry) -> str | None:
    """The label that an entry has, without the NUL that ends it."""
    value = next((value for name, value in entry.xattrs if name == XATTR), None)
    return None if value is None else value.decode("utf-8", "replace").removesuffix("\0")


@contextmanager
def _rules(tree: Tree, store: Contents, workdir: str) -> Iterator[tuple[Any, str]]:
    """An open handle of libselinux with the rules of the tree's policy, and the policy's name."""
    policy = policy_of(tree, store)
    base = f"usr/etc/selinux/{policy}/contexts/files/file_contexts"
    with storage_errors(workdir), tempfile.TemporaryDirectory(prefix="policy-", dir=workdir) as directory:
        copy = os.path.join(directory, "file_contexts")
        for suffix in _SUFFIXES:
            rules = _read(tree, store, base + suffix)
            if rules is None:
                if not suffix:
                    raise LabelError(f"the policy {policy} has no /{base}")
                continue
            with open(copy + suffix, "wb") as file:
                file.write(rules)
        option = selinux.selinux_opt()
        option.type = selinux.SELABEL_OPT_PATH
        option.value = copy
        # a failure is None, not an exception; libselinux says on standard error which line it is
        handle = selinux.selabel_open(selinux.SELABEL_CTX_FILE, option, 1)
        if handle is None:
            raise LabelError(f"libselinux cannot read /{base}")
        try:
            yield handle, policy
        finally:
            selinux.selabel_close(handle)


def policy_of(tree: Tree, store: Contents) -> str:
    """Name of the policy that the tree's /etc/selinux/config chooses, "targeted". Raises LabelError when there is none."""
    text = (_read(tree, store, _CONFIG) or b"").decode("utf-8", "replace")
    chosen = re.findall(r"(?m)^[ \t]*SELINUXTYPE[ \t]*=[ \t]*([^\s#/]+)", text)
    if not chosen:
        raise LabelError(
            f"SELinux enabled, but no policy found in tree (/{_CONFIG} names none)",
            hint="add a policy to `packages` (selinux-policy-targeted), or set `selinux: false`",
        )
    policy = str(chosen[-1])
    if f"usr/etc/selinux/{policy}" not in tree:
        raise LabelError(
            f"SELinux enabled, but no policy found in tree: /{_CONFIG} names {policy}, and there is no "
            f"/usr/etc/selinux/{policy}",
            hint="add the policy's package to `packages`, or set `selinux: false`",
        )
    return policy


def _label_all(tree: Tree, handle: Any, policy: str, reporter: Reporter) -> Tree:
    labelled: dict[str, Entry] = {}
    labels: dict[str, bytes] = {}
    inherited: list[str] = []
    with reporter.task("Labelling", total=len(tree), unit="files") as task:
        for path, entry in tree.walk():
            context = _look_up(handle, path, entry.mode)
            if context is not None:
                labels[path] = context.encode() + b"\0"
            elif path:
                labels[path] = labels[parent_of(path)]
                if path not in _MOUNT_POINTS:
                    inherited.append(path)
            else:
                raise LabelError(f"the policy {policy} has no label for /")
            labelled[path] = _with_label(entry, labels[path])
        task.advance(len(tree))
    if inherited:
        shown = ", ".join(f"/{path}" for path in inherited[:_SHOWN])
        reporter.warn(
            f"the policy {policy} has no label for {len(inherited)} paths, they get that of their directory: {shown}"
            + (" ..." if len(inherited) > _SHOWN else "")
        )
    return Tree(labelled)


def _look_up(handle: Any, path: str, mode: int) -> str | None:
    """Context of a path, None for <<none>> and for what no rule matches."""
    looked_up = path.removeprefix("usr/") if path == "usr/etc" or path.startswith("usr/etc/") else path
    try:
        _, context = selinux.selabel_lookup_raw(handle, f"/{looked_up}", mode)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabelError(f"the policy's rules cannot be applied to /{path}: {error.strerror}") from error
    return str(context)


def _with_label(entry: Entry, value: bytes) -> Entry:
    if (XATTR, value) in entry.xattrs:
        return entry
    return entry.with_xattr(XATTR, value)


def _read(tree: Tree, store: Contents, path: str) -> bytes | None:
    """A file of the tree, symlinks followed inside it, those to /etc in /usr/etc."""
    try:
        place = tree.resolve(path)
    except TreeLookupError as error:
        raise LabelError(f"the policy cannot be read: {error}") from error
    if place.startswith("etc/"):
        place = f"usr/{place}"
    entry = tree.get(place)
    return None if entry is None or entry.blob is None else store.read(entry.blob)

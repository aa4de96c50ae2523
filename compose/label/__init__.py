"""Label: security.selinux on every entry, by the policy in the tree; and the audit of labels that are there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compose.errors import LabelError
from compose.events import Reporter
from compose.label.rules import Contents, policy_of, rules_of
from compose.tree import Entry, Tree, parent_of

__all__ = ["Audit", "Mislabelled", "audit", "label", "label_of", "policy_of"]

XATTR = b"security.selinux"
_SHOWN = 5
# Covered on the running system by filesystems with labels of their own; policies may say <<none>> for them.
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "tmp"})


Xattrs = tuple[tuple[bytes, bytes], ...]


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


def label(tree: Tree, store: Contents, workdir: str, reporter: Reporter, memo: str | None = None) -> Tree:
    """The tree with a label on every entry; labels it had are replaced.

    An entry that the policy names <<none>> gets what the kernel gives a file made there: the label of its directory.
    workdir: an existing directory for a private copy of the rules. memo: a directory where it is remembered what a policy
    says, None to look up everything. Raises LabelError when the tree has no policy, or one that cannot be read.
    """
    labelled: dict[str, Entry] = {}
    labels: dict[str, bytes] = {}
    # one object for all that have the same, in memory too
    values: dict[str, bytes] = {}
    xattrs: dict[tuple[Xattrs, bytes], Xattrs] = {}
    inherited: list[str] = []
    with (
        rules_of(tree, store, workdir, memo, reporter) as rules,
        reporter.task("Labelling", total=len(tree), unit="files") as task,
    ):
        for path, entry in tree.walk():
            context = rules.context(path, entry.mode)
            if context is not None:
                value = values.setdefault(context, context.encode() + b"\0")
            elif path:
                value = labels[parent_of(path)]
                if path not in _MOUNT_POINTS:
                    inherited.append(path)
            else:
                raise LabelError(f"the policy {rules.policy} has no label for /")
            if entry.is_dir:
                labels[path] = value
            wanted = xattrs.get((entry.xattrs, value))
            if wanted is None:
                wanted = xattrs[entry.xattrs, value] = entry.with_xattr(XATTR, value).xattrs
            labelled[path] = entry if entry.xattrs == wanted else replace(entry, xattrs=wanted)
        task.advance(len(tree))
    if inherited:
        shown = ", ".join(f"/{path}" for path in inherited[:_SHOWN])
        reporter.warn(
            f"the policy {rules.policy} has no label for {len(inherited)} paths, they get that of their directory: {shown}"
            + (" ..." if len(inherited) > _SHOWN else "")
        )
    return tree.with_entries(labelled)


def audit(tree: Tree, store: Contents, workdir: str, reporter: Reporter) -> Audit:
    """Look every path of a tree up again, in the policy that the tree has now; nothing is known of what label() did, and
    nothing taken from its memo, which the audit is to judge too.

    workdir, LabelError: as in label(). A path costs 13 to 18 us of CPU, with Debian's policy.
    """
    mislabelled = []
    inherited = 0
    with rules_of(tree, store, workdir, None, reporter) as rules:
        for path, entry in tree.walk():
            expected = rules.context(path, entry.mode)
            present = label_of(entry)
            of_directory = expected is None
            if expected is None:
                expected = label_of(tree[parent_of(path)]) if path else None
            if present is None or present != expected:
                mislabelled.append(Mislabelled(path=path, label=present, expected=expected or "<<none>>"))
            elif of_directory:
                inherited += 1
    return Audit(policy=rules.policy, checked=len(tree), inherited=inherited, mislabelled=tuple(mislabelled))


def label_of(entry: Entry) -> str | None:
    """The label that an entry has, without the NUL that ends it."""
    value = next((value for name, value in entry.xattrs if name == XATTR), None)
    return None if value is None else value.decode("utf-8", "replace").removesuffix("\0")

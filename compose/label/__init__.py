"""Label: security.selinux on every entry, by the policy in the tree; and the audit of labels that are there."""

from __future__ import annotations

from compose.errors import LabelError
from compose.events import Reporter
from compose.label.audit import XATTR, Audit, Mislabelled, audit, compare, expected, label_of, question
from compose.label.rules import Contents, policy_of, rules_of
from compose.tree import Entry, Tree, parent_of

__all__ = [
    "XATTR",
    "Audit",
    "Mislabelled",
    "audit",
    "compare",
    "expected",
    "label",
    "label_of",
    "policy_of",
    "question",
]

_SHOWN = 5
# Covered on the running system by filesystems with labels of their own; policies may say <<none>> for them.
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "tmp"})

Xattrs = tuple[tuple[bytes, bytes], ...]


def label(
    tree: Tree, store: Contents, workdir: str, reporter: Reporter, memo: str | None = None, *, jobs: int = 1
) -> Tree:
    """The tree with a label on every entry; labels it had are replaced.

    An entry that the policy names <<none>> gets what the kernel gives a file made there: the label of its directory.
    workdir: an existing directory for a private copy of the rules. memo: a directory where it is remembered what a policy
    says, None to look up everything. jobs: processes for that. Raises LabelError when the tree has no policy, or one that
    cannot be read.
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
        rules.learn(((path, entry.mode) for path, entry in tree.walk()), jobs, reporter)
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
            labelled[path] = entry if entry.xattrs == wanted else entry.with_xattrs(wanted)
        task.advance(len(tree))
    if inherited:
        shown = ", ".join(f"/{path}" for path in inherited[:_SHOWN])
        reporter.warn(
            f"the policy {rules.policy} has no label for {len(inherited)} paths, they get that of their directory: {shown}"
            + (" ..." if len(inherited) > _SHOWN else "")
        )
    return tree.with_entries(labelled)

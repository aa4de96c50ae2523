"""SELinux labels: sets security.selinux on every entry by the policy in the tree, and audits existing labels."""

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
# Filesystems with labels of their own are mounted there at run time; policies may say <<none>> for them.
_MOUNT_POINTS = frozenset({"dev", "proc", "run", "sys", "tmp"})

Xattrs = tuple[tuple[bytes, bytes], ...]


def label(
    tree: Tree, store: Contents, workdir: str, reporter: Reporter, memo: str | None = None, *, jobs: int = 1
) -> Tree:
    """Label every entry of a tree, replacing existing labels.

    An entry for which the policy says <<none>>, or nothing, gets the label of its directory, as the kernel labels new files.
    workdir: an existing directory for a private copy of the rules. memo: a directory that caches look-ups, None to look up
    everything. jobs: processes that look up labels. Raises LabelError when the tree has no policy, or one that cannot be read.
    """
    labelled: dict[str, Entry] = {}
    labels: dict[str, bytes] = {}
    # entries with equal xattrs share one object, to save memory
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
            f"the policy {rules.policy} has no label for {len(inherited)} paths, which get that of their directory: {shown}"
            + (" ..." if len(inherited) > _SHOWN else "")
        )
    return tree.with_entries(labelled)

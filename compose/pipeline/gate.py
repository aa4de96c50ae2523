"""The last check before a commit: a tree that no client could use is not committed."""

from __future__ import annotations

from collections.abc import Iterable

from compose.blobs import BlobStore
from compose.errors import PolicyError
from compose.events import Reporter
from compose.findings import Level
from compose.label import Audit
from compose.lint.check import lint_tree
from compose.lint.rules import RULES
from compose.lint.selinux import lint_labels
from compose.lint.subject import Finding
from compose.tree import Tree


def check_tree(
    tree: Tree, store: BlobStore, *, container: bool, reporter: Reporter, measured: bool | None = None
) -> None:
    """Warn about minor problems, and raise PolicyError with all fatal ones.

    Labels are not checked here but by check_labels(). measured: will the commit have a composefs digest?
    """
    _judge(lint_tree(tree, store, bootable=not container, measured=measured), reporter)


def check_labels(labels: Audit, reporter: Reporter) -> None:
    """Check the audited labels; warns and raises as check_tree() does."""
    _judge(lint_labels(labels), reporter)


def _judge(found: Iterable[Finding], reporter: Reporter) -> None:
    found = tuple(found)
    for finding in found:
        if finding.level is Level.WARNING:
            reporter.warn(str(finding))
    errors = [finding for finding in found if finding.level is Level.ERROR]
    if errors:
        raise PolicyError(
            f"no client could use this tree: {errors[0]}",
            details=[*map(str, errors[1:])],
            hint=RULES[errors[0].rule].advice,
        )

"""Compares the labels of a tree with its policy, looked up afresh in a separate process so that another core does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compose.events import Reporter
from compose.label.rules import Contents, Question, crashed, look_up, policy_of, read_rules
from compose.rpm import child
from compose.tree import Entry, Tree, parent_of

XATTR = b"security.selinux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mislabelled:
    """A path with a wrong label. label: the actual one, None if there is none. expected: the policy's."""

    path: str
    label: str | None
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result of comparing a tree's labels with its policy. checked: number of paths. inherited: number of paths for which
    the policy says <<none>> or nothing, and which rightly have the label of their directory."""

    policy: str
    checked: int
    inherited: int
    mislabelled: tuple[Mislabelled, ...]

    @property
    def unlabelled(self) -> int:
        """Number of mislabelled paths without any label."""
        return sum(each.label is None for each in self.mislabelled)

    @property
    def equal(self) -> int:
        """Number of paths that have the policy's label."""
        return self.checked - self.inherited - len(self.mislabelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The labels that a policy defines. contexts: by path, None where it says <<none>> or nothing."""

    policy: str
    contexts: Mapping[str, str | None]


def audit(tree: Tree, store: Contents, workdir: str, reporter: Reporter) -> Audit:
    """Compare the labels of a tree with its policy. Arguments and errors are those of question() and expected()."""
    return compare(tree, expected(question(tree, store, workdir), reporter))


def question(tree: Tree, store: Contents, workdir: str) -> Question:
    """The question which labels the tree's policy defines for all its paths; the tree need not have labels yet.

    workdir: an existing directory for a private copy of the rules; it must exist until the question is answered. Raises
    LabelError when the tree has no policy, or one that cannot be read.
    """
    policy = policy_of(tree, store)
    paths = tuple((path, entry.mode) for path, entry in tree.walk())
    return Question(policy=policy, rules=read_rules(tree, store, policy), paths=paths, workdir=workdir)


def expected(question: Question, reporter: Reporter) -> Expected:
    """Look up the labels in the policy, independently of label() and its memo, which the audit checks. May be called in a
    thread. Raises LabelError. A path costs 13 to 18 us of CPU with Debian's policy."""
    contexts = child.call(look_up, question, reporter, crash=crashed)
    paths = (path for path, _ in question.paths)
    return Expected(policy=question.policy, contexts=dict(zip(paths, contexts, strict=True)))


def compare(tree: Tree, expected: Expected) -> Audit:
    """Compare the labels of a tree with those expected for the same paths."""
    mislabelled = []
    inherited = 0
    for path, entry in tree.walk():
        context, actual = expected.contexts[path], label_of(entry)
        wanted = context
        if wanted is None:
            wanted = label_of(tree[parent_of(path)]) if path else None
        if actual is None or actual != wanted:
            mislabelled.append(Mislabelled(path=path, label=actual, expected=wanted or "<<none>>"))
        elif context is None:
            inherited += 1
    return Audit(policy=expected.policy, checked=len(tree), inherited=inherited, mislabelled=tuple(mislabelled))


def label_of(entry: Entry) -> str | None:
    """The label of an entry, without the terminating NUL; None if it has none."""
    value = next((value for name, value in entry.xattrs if name == XATTR), None)
    return None if value is None else value.decode("utf-8", "replace").removesuffix("\0")

"""The labels of a tree beside its policy, which is asked anew in a process of its own: another core does it meanwhile."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a policy says. contexts: by path, None for <<none>> and where it says nothing."""

    policy: str
    contexts: Mapping[str, str | None]


def audit(tree: Tree, store: Contents, workdir: str, reporter: Reporter) -> Audit:
    """The labels of a tree beside the policy in it. Arguments and errors are those of question() and expected()."""
    return compare(tree, expected(question(tree, store, workdir), reporter))


def question(tree: Tree, store: Contents, workdir: str) -> Question:
    """Of every path of a tree, for the policy that it has now; it need not have labels yet.

    workdir: an existing directory for a private copy of the rules, there until it is answered. Raises LabelError when the
    tree has no policy, or one that cannot be read.
    """
    policy = policy_of(tree, store)
    paths = tuple((path, entry.mode) for path, entry in tree.walk())
    return Question(policy=policy, rules=read_rules(tree, store, policy), paths=paths, workdir=workdir)


def expected(question: Question, reporter: Reporter) -> Expected:
    """What the policy says. Nothing is known of what label() does or did, and nothing taken from its memo, which are to be
    judged. May be called in a thread. Raises LabelError. A path costs 13 to 18 us of CPU, with Debian's policy."""
    contexts = child.call(look_up, question, reporter, crash=crashed)
    paths = (path for path, _ in question.paths)
    return Expected(policy=question.policy, contexts=dict(zip(paths, contexts, strict=True)))


def compare(tree: Tree, expected: Expected) -> Audit:
    """The labels of a tree beside what is expected of the same paths."""
    mislabelled = []
    inherited = 0
    for path, entry in tree.walk():
        context, present = expected.contexts[path], label_of(entry)
        wanted = context
        if wanted is None:
            wanted = label_of(tree[parent_of(path)]) if path else None
        if present is None or present != wanted:
            mislabelled.append(Mislabelled(path=path, label=present, expected=wanted or "<<none>>"))
        elif context is None:
            inherited += 1
    return Audit(policy=expected.policy, checked=len(tree), inherited=inherited, mislabelled=tuple(mislabelled))


def label_of(entry: Entry) -> str | None:
    """The label that an entry has, without the NUL that ends it."""
    value = next((value for name, value in entry.xattrs if name == XATTR), None)
    return None if value is None else value.decode("utf-8", "replace").removesuffix("\0")

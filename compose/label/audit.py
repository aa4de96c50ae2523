"""The labels of a tree beside its policy, which is asked anew in a process of its own: another core does it meanwhile."""

from __future__ import annotations

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


def audit(tree: Tree, store: Contents, workdir: str, reporter: Reporter) -> Audit:
    """Look every path of a tree up again, in the policy that the tree has now; nothing is known of what label() did, and
    nothing taken from its memo, which the audit is to judge too. May be called in a thread.

    workdir: an existing directory for a private copy of the rules. Raises LabelError when the tree has no policy, or one
    that cannot be read. A path costs 13 to 18 us of CPU, with Debian's policy.
    """
    policy = policy_of(tree, store)
    question = Question(
        policy=policy,
        rules=read_rules(tree, store, policy),
        paths=tuple((path, entry.mode) for path, entry in tree.walk()),
        workdir=workdir,
    )
    contexts = child.call(look_up, question, reporter, crash=crashed)
    mislabelled = []
    inherited = 0
    for (path, _), context in zip(question.paths, contexts, strict=True):
        present, expected = label_of(tree[path]), context
        if expected is None:
            expected = label_of(tree[parent_of(path)]) if path else None
        if present is None or present != expected:
            mislabelled.append(Mislabelled(path=path, label=present, expected=expected or "<<none>>"))
        elif context is None:
            inherited += 1
    return Audit(policy=policy, checked=len(tree), inherited=inherited, mislabelled=tuple(mislabelled))


def label_of(entry: Entry) -> str | None:
    """The label that an entry has, without the NUL that ends it."""
    value = next((value for name, value in entry.xattrs if name == XATTR), None)
    return None if value is None else value.decode("utf-8", "replace").removesuffix("\0")

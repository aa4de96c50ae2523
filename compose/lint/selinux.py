"""Rules about SELinux: labels, and a policy that clients can rebuild and apply."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.label import XATTR, Audit
from compose.lint.subject import Finding, Subject, few

_CONFIG = "usr/etc/selinux"
_SEMANAGE = f"{_CONFIG}/semanage.conf"
_SHOWN = 20


def unlabelled(subject: Subject) -> Iterator[Finding]:
    found = [path for path, entry in subject.tree.walk() if XATTR not in dict(entry.xattrs)]
    # a tree without any label does not use SELinux
    if found and len(found) < len(subject.tree):
        yield Finding(rule="unlabelled", path=f"/{found[0]}", message=f"files without a label: {few(found)}")


def labels(subject: Subject) -> Iterator[Finding]:
    if subject.labels is not None:
        yield from lint_labels(subject.labels)


def lint_labels(labels: Audit) -> Iterator[Finding]:
    """Findings of an audit, without those about missing labels, for which there is another rule."""
    wrong = [each for each in labels.mislabelled if each.label is not None]
    for each in wrong[:_SHOWN]:
        message = f"has the label {each.label}, but the policy says {each.expected}"
        yield Finding(rule="label", path=f"/{each.path}", message=message)
    if len(wrong) > _SHOWN:
        yield Finding(rule="label", path="/", message=f"{len(wrong) - _SHOWN} more labels differ from the policy")


def policy_store(subject: Subject) -> Iterator[Finding]:
    variable_store = "var/lib/selinux"
    if subject.tree.children(variable_store):
        yield Finding(rule="policy-store", path=f"/{variable_store}", message="contains policy modules")
    stores = [
        name for name in subject.tree.children(_CONFIG) if subject.tree.is_dir(f"{_CONFIG}/{name}/active/modules")
    ]
    if stores and not re.search(r"(?m)^store-root[ \t]*=[ \t]*/etc/selinux/?[ \t]*$", subject.text(_SEMANAGE) or ""):
        message = f"does not set store-root = /etc/selinux, where the modules of {few(stores)} are"
        yield Finding(rule="policy-store", path=f"/{_SEMANAGE}", message=message)


def policy_aliases(subject: Subject) -> Iterator[Finding]:
    home = subject.tree.get("home")
    for name in subject.tree.children(_CONFIG):
        base = f"{_CONFIG}/{name}/contexts/files/file_contexts"
        if base not in subject.tree:
            continue
        lines = "\n".join(subject.text(f"{base}.{suffix}") or "" for suffix in ("subs", "subs_dist")).splitlines()
        aliases = {tuple(line.split()) for line in lines if not line.startswith("#")}
        missing = [] if ("/usr/etc", "/etc") in aliases else ["/usr/etc as /etc"]
        # in either direction, as the rules for home directories may name either path
        if (
            home is not None
            and home.target == "var/home"
            and not {("/home", "/var/home"), ("/var/home", "/home")} & aliases
        ):
            missing.append("/home and /var/home alike")
        if missing:
            message = f"does not label {' nor '.join(missing)}"
            yield Finding(rule="policy-aliases", path=f"/{base}.subs_dist", message=message)

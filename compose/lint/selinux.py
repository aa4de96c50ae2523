"""Rules about SELinux: labels, and a policy that the client can rebuild and apply."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.label import XATTR, Audit
from compose.lint.subject import Finding, Subject, few

_CONFIG = "usr/etc/selinux"
_SEMANAGE = f"{_CONFIG}/semanage.conf"
_SHOWN = 20


def unlabelled(subject: Subject) -> Iterator[Finding]:
    bare = [path for path, entry in subject.tree.walk() if XATTR not in dict(entry.xattrs)]
    # no label at all is a tree without SELinux
    if bare and len(bare) < len(subject.tree):
        yield Finding(rule="unlabelled", path=f"/{bare[0]}", message=f"{len(bare)} files have no label: {few(bare)}")


def labels(subject: Subject) -> Iterator[Finding]:
    if subject.labels is not None:
        yield from lint_labels(subject.labels)


def lint_labels(labels: Audit) -> Iterator[Finding]:
    """What an audit found; what has no label is another rule's."""
    wrong = [each for each in labels.mislabelled if each.label is not None]
    for each in wrong[:_SHOWN]:
        message = f"has the label {each.label}, the policy gives {each.expected}"
        yield Finding(rule="label", path=f"/{each.path}", message=message)
    if len(wrong) > _SHOWN:
        yield Finding(rule="label", path="/", message=f"{len(wrong) - _SHOWN} more labels differ")


def policy_store(subject: Subject) -> Iterator[Finding]:
    place = "var/lib/selinux"
    if subject.tree.children(place):
        yield Finding(rule="policy-store", path=f"/{place}", message="holds modules of the policy")
    here = [name for name in subject.tree.children(_CONFIG) if subject.tree.is_dir(f"{_CONFIG}/{name}/active/modules")]
    if here and not re.search(r"(?m)^store-root[ \t]*=[ \t]*/etc/selinux/?[ \t]*$", subject.text(_SEMANAGE) or ""):
        message = f"does not say store-root = /etc/selinux, where the modules of {few(here)} are"
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
        # either way round, as the rules for home directories are of the one or of the other
        if (
            home is not None
            and home.target == "var/home"
            and not {("/home", "/var/home"), ("/var/home", "/home")} & aliases
        ):
            missing.append("/home and /var/home alike")
        if missing:
            message = f"does not label {' nor '.join(missing)}"
            yield Finding(rule="policy-aliases", path=f"/{base}.subs_dist", message=message)

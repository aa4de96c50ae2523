"""Rules about a commit's metadata, the rpm database, and the repository that serves the commit."""

from __future__ import annotations

from collections.abc import Iterator

from compose.lint.subject import Finding, Subject, few
from compose.ostree.config import Mode
from compose.ostree.gvariant import be64
from compose.ostree.repo import Repo
from compose.ostree.summary import summary_refs

_DATABASE, _BASE_COPY, _SYSIMAGE = "usr/share/rpm", "usr/lib/sysimage/rpm-ostree-base-db", "usr/lib/sysimage/rpm"
_MACROS = "usr/lib/rpm/macros.d"
# the year 2200; a later timestamp has its bytes in the wrong order
_LATEST = 7_258_118_400


def metadata(subject: Subject) -> Iterator[Finding]:
    if subject.commit is None:
        return
    kernels = subject.kernels()
    recorded = subject.commit.get("ostree.linux")
    if subject.commit.get("ostree.bootable") and recorded not in kernels:
        message = f"ostree.linux is {recorded}, but the tree has {few(kernels) or 'no kernel'}"
        yield Finding(rule="commit-metadata", path="/", message=message)
    try:
        for repository in subject.commit.get("rpmostree.rpmmd-repos") or ():
            facts = {key: variant.value for key, variant in repository}
            if be64(facts.get("timestamp", 0)) > _LATEST:
                message = f"rpmostree.rpmmd-repos: the timestamp of {facts.get('id')} is not big-endian"
                yield Finding(rule="commit-metadata", path="/", message=message)
    except (TypeError, ValueError, AttributeError, OverflowError):
        message = "rpmostree.rpmmd-repos is not a list of repositories"
        yield Finding(rule="commit-metadata", path="/", message=message)
    if kernels and not subject.commit.get("ostree.bootable"):
        message = f"the tree has the kernel {few(kernels)}, but the commit has no ostree.bootable"
        yield Finding(rule="bootable", path="/", message=message)
    if not subject.commit.get("rpmostree.rpmdb.pkglist"):
        yield Finding(rule="package-list", path="/", message="the commit has no rpmostree.rpmdb.pkglist")


def rpmdb(subject: Subject) -> Iterator[Finding]:
    tree = subject.tree
    for path in (_DATABASE, _BASE_COPY):
        if not tree.is_dir(path) or not tree.children(path):
            yield Finding(rule="rpmdb", path=f"/{path}", message="is missing")
            return
    for name in tree.children(_DATABASE):
        original, copy = tree.get(f"{_DATABASE}/{name}"), tree.get(f"{_BASE_COPY}/{name}")
        if original is None or copy is None or original.blob is None or copy.blob is None:
            continue
        if not subject.same(original.blob, copy.blob):
            yield Finding(rule="rpmdb", path=f"/{_BASE_COPY}/{name}", message=f"differs from /{_DATABASE}/{name}")
    if subject.place(_SYSIMAGE) != _DATABASE:
        yield Finding(rule="rpmdb", path=f"/{_SYSIMAGE}", message=f"does not point to /{_DATABASE}")
    if not any(
        line.split() == ["%_dbpath", f"/{_DATABASE}"]
        for _, text in subject.texts(_MACROS, "")
        for line in text.splitlines()
    ):
        yield Finding(rule="rpmdb", path=f"/{_MACROS}", message=f"no macro file sets %_dbpath to /{_DATABASE}")


def repository(repo: Repo, revision: str, commit: str) -> Iterator[Finding]:
    """Findings about the repository that serves a commit. revision: as the user gave it; the summary is checked if it is a
    ref."""
    if repo.config.mode is not Mode.ARCHIVE:
        message = f"{repo.path} is a repository of mode {repo.config.mode}"
        yield Finding(rule="repo-mode", path="/", message=message)
    if repo.has_summary() and revision in repo.refs():
        listed = summary_refs(repo).get(revision)
        if listed != commit:
            message = f"the summary has {listed or 'no commit'} for {revision}, not {commit}"
            yield Finding(rule="summary", path="/", message=message)

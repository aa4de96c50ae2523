"""Rules about what surrounds a tree: the metadata of its commit, the package database, the repository that serves it."""

from __future__ import annotations

from collections.abc import Iterator

from compose.lint.subject import Finding, Subject, few
from compose.ostree.config import Mode
from compose.ostree.gvariant import be64
from compose.ostree.repo import Repo
from compose.ostree.summary import summary_refs

_DATABASE, _BASE_COPY, _SYSIMAGE = "usr/share/rpm", "usr/lib/sysimage/rpm-ostree-base-db", "usr/lib/sysimage/rpm"
_MACROS = "usr/lib/rpm/macros.d"
# 2200: a time beyond is one whose bytes are in the wrong order
_LATEST = 7_258_118_400


def metadata(subject: Subject) -> Iterator[Finding]:
    if subject.commit is None:
        return
    kernels = subject.kernels()
    told = subject.commit.get("ostree.linux")
    if subject.commit.get("ostree.bootable") and told not in kernels:
        message = f"ostree.linux is {told}, the tree has {few(kernels) or 'none'}"
        yield Finding(rule="commit-metadata", path="/", message=message)
    for repository in subject.commit.get("rpmostree.rpmmd-repos") or ():
        facts = {key: variant.value for key, variant in repository}
        if be64(facts.get("timestamp", 0)) > _LATEST:
            message = f"rpmostree.rpmmd-repos: the time of {facts.get('id')} is not big-endian"
            yield Finding(rule="commit-metadata", path="/", message=message)
    if kernels and not subject.commit.get("ostree.bootable"):
        yield Finding(rule="bootable", path="/", message=f"the tree has the kernel {few(kernels)}, no ostree.bootable")
    if not subject.commit.get("rpmostree.rpmdb.pkglist"):
        yield Finding(rule="package-list", path="/", message="the commit has no rpmostree.rpmdb.pkglist")


def rpmdb(subject: Subject) -> Iterator[Finding]:
    tree = subject.tree
    for place in (_DATABASE, _BASE_COPY):
        if not tree.is_dir(place) or not tree.children(place):
            yield Finding(rule="rpmdb", path=f"/{place}", message="is missing")
            return
    for name in tree.children(_DATABASE):
        one, other = tree.get(f"{_DATABASE}/{name}"), tree.get(f"{_BASE_COPY}/{name}")
        if one is None or other is None or one.blob is None or other.blob is None:
            continue
        if one.blob.digest != other.blob.digest:
            yield Finding(rule="rpmdb", path=f"/{_BASE_COPY}/{name}", message=f"differs from /{_DATABASE}/{name}")
    if subject.place(_SYSIMAGE) != _DATABASE:
        yield Finding(rule="rpmdb", path=f"/{_SYSIMAGE}", message=f"does not lead to /{_DATABASE}")
    if not any(
        line.split() == ["%_dbpath", f"/{_DATABASE}"]
        for _, text in subject.texts(_MACROS, "")
        for line in text.splitlines()
    ):
        yield Finding(rule="rpmdb", path=f"/{_MACROS}", message=f"no macro says that %_dbpath is /{_DATABASE}")


def repository(repo: Repo, revision: str, commit: str) -> Iterator[Finding]:
    """Findings in what serves a commit. revision: as it was asked for; a summary is looked into for a ref."""
    if repo.config.mode is not Mode.ARCHIVE:
        message = f"{repo.path} is a {repo.config.mode} repository"
        yield Finding(rule="repo-mode", path="/", message=message)
    if repo.has_summary() and revision in repo.refs():
        said = summary_refs(repo).get(revision)
        if said != commit:
            yield Finding(rule="summary", path="/", message=f"it has {said or 'nothing'} for {revision}, not {commit}")

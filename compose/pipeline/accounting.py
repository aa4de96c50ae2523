"""What a commit is made of, for bills of materials and provenance, from its rpm database and its record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from compose import records
from compose.bundle import Index
from compose.errors import FetchError, ImageError, RepositoryError, TreefileError
from compose.events import Reporter
from compose.inputhash import InputKind
from compose.installed import extract_root
from compose.lock import own
from compose.lock.model import ArchLock
from compose.oci.existing import read_existing
from compose.oci.image import COMMIT_LABEL
from compose.oci.reference import ImageReference
from compose.oci.skopeo import Access
from compose.ostree.repo import Repo
from compose.pipeline.sources import LOCK, TREEFILE
from compose.rpm.database import read_packages
from compose.rpm.nevra import Nevra
from compose.scratch import temporary_directory
from compose.solve.installed import installed_links
from compose.solve.links import Link, Need
from compose.supplychain.model import Artifact, Bill, Component, Making, Origin, SourceFile, os_release

_OS_RELEASE = ("usr/lib/os-release", "usr/etc/os-release")


def bill_of_materials(repository: str, revision: str, reporter: Reporter) -> Bill:
    """The contents of a commit. Without a record of the commit, the origins of its packages are missing, with a warning.

    Raises RepositoryError when the commit has no rpm database or is damaged, FetchError when its record is damaged.
    """
    with Repo.open(repository) as repo, temporary_directory("compose-account-") as work:
        commit = repo.commit_of(revision)
        try:
            record = _Record(repo, commit, work)
        except RepositoryError as error:
            reporter.warn(f"checksums, repositories and signers of the packages are not known: {error}")
            return _bill(repo, revision, commit, {}, work, reporter)
        return _bill(repo, revision, commit, record.origins(), work, reporter)


def provenance_of(repository: str, revision: str, reporter: Reporter) -> tuple[Bill, Making]:
    """The contents of a commit, and how it was made.

    Raises as bill_of_materials() does, and RepositoryError for a commit without a record.
    """
    with Repo.open(repository) as repo, temporary_directory("compose-account-") as work:
        commit = repo.commit_of(revision)
        record = _Record(repo, commit, work)
        return _bill(repo, revision, commit, record.origins(), work, reporter), record.making()


def image_of(image: ImageReference, bill: Bill, reporter: Reporter, access: Access) -> Artifact:
    """The image that a commit was made into. Raises ImageError when it is missing, unreadable, or has another commit, and
    UsageError when reading it takes skopeo, which is not installed."""
    found = read_existing(image, reporter, access)
    if found is None:
        raise ImageError(f"{image}: there is no such image")
    commit = found.labels.get(COMMIT_LABEL)
    if commit != bill.commit:
        holds = f"holds the commit {commit}" if commit else f"has no label {COMMIT_LABEL}"
        raise ImageError(f"{image}: {holds}, not {bill.commit}", hint="give the image that was made from this commit")
    return Artifact(name=image.name, sha256=found.digest)


class _Record:
    """The record of a commit. Raises RepositoryError when there is none, FetchError when it is damaged."""

    def __init__(self, repo: Repo, commit: str, work: str) -> None:
        directory = os.path.join(work, "sources")
        os.mkdir(directory, 0o700)
        self._name = f"the record of {commit}"
        try:
            self._index: Index = records.unpack_sources(repo, commit, directory)
        except FetchError as error:
            raise self._damaged(error) from error
        self._inputs = records.read(repo, commit).inputs
        self._lock = self._read_lock(os.path.join(directory, LOCK))

    def _read_lock(self, path: str) -> ArchLock:
        try:
            with open(path, "rb") as file:
                return own.parse_lock(file.read(), path).arches[str(self._fact("basearch"))]
        except (OSError, KeyError, TreefileError) as error:
            raise self._damaged(error) from error

    def _fact(self, key: str) -> Any:
        try:
            return self._index.facts[key]
        except KeyError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FetchError:
        return FetchError(f"{self._name} is damaged: {error}", hint="compose the commit again")

    def origins(self) -> dict[str, Origin]:
        """Origins of the packages by NEVRA."""
        found = {}
        for each in self._inputs:
            if each.kind is InputKind.PACKAGE:
                # files that the treefile names are not in the lock
                algorithm, _, digest = each.value.partition(":")
                found[each.name] = Origin(checksum=(algorithm, digest))
        for row in self._lock.packages:
            package = row.package
            location = f"{package.base.rstrip('/')}/{package.location}" if package.base else package.location
            found[str(package.nevra)] = Origin(
                checksum=package.checksum, repo=package.repo, location=location, key=row.key
            )
        return found

    def making(self) -> Making:
        try:
            layers = tuple((str(ref), str(commit)) for ref, commit in self._fact("layers").items())
            tools = {str(tool): str(version) for tool, version in self._index.facts.get("tools", {}).items()}
        except AttributeError as error:
            raise self._damaged(error) from error
        return Making(
            treefile=str(self._fact("treefile")).removeprefix(f"{TREEFILE}/"),
            basearch=str(self._fact("basearch")),
            files=tuple(
                SourceFile(path=each.path.removeprefix(f"{TREEFILE}/"), sha256=each.sha256)
                for each in self._index.members
                if each.path.startswith(f"{TREEFILE}/")
            ),
            layers=layers,
            repos=self._lock.repos,
            tools=tools,
        )


def _bill(repo: Repo, revision: str, commit: str, origins: Mapping[str, Origin], work: str, reporter: Reporter) -> Bill:
    root = os.path.join(work, "root")
    packages = read_packages(extract_root(repo, commit, root), reporter)
    _, links = installed_links(root, reporter)
    needs = _needs(links)
    commit_object = repo.read_commit(commit, ("version",))
    return Bill(
        name=revision,
        commit=commit,
        version=commit_object.text("version") or "",
        created=commit_object.created,
        system=_system(repo, commit),
        components=tuple(
            Component(
                nevra=each.nevra,
                license=each.license,
                vendor=each.vendor,
                url=each.url,
                summary=each.summary,
                source_rpm=each.source_rpm,
                needs=tuple(sorted(needs.get(each.nevra, ()))),
                origin=origins.get(str(each.nevra)),
            )
            for each in packages
        ),
    )


def _needs(links: tuple[Link, ...]) -> dict[Nevra, set[Nevra]]:
    found: dict[Nevra, set[Nevra]] = {}
    for each in links:
        if each.need is Need.REQUIRES:
            found.setdefault(each.source, set()).add(each.target)
    return found


def _system(repo: Repo, commit: str) -> dict[str, str]:
    for path in _OS_RELEASE:
        data = repo.read_file(commit, path)
        if data is not None:
            return os_release(data.decode(errors="replace"))
    return {}

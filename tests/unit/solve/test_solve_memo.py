"""The solver's answers are remembered by the whole question, and hold while their inputs are unchanged."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import replace
from typing import Any

import pytest

from compose.rpm.nevra import Nevra
from compose.rpm.repofile import RepoOption, RepoSection
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.rpm.specs import PackageSpec, RepoPackages
from compose.sealed import write_sealed
from compose.solve import memo
from compose.solve.links import Link, Need
from compose.solve.locked import LockedBuild, LockRequest
from compose.solve.memo import Answer, Metadata
from compose.solve.request import LocalRpm, SolveRequest
from compose.solve.resolution import Advisory, Reason, Reference, RepoSnapshot, Resolution, ResolvedPackage

SPEC = PackageSpec(text="bash", place="t.yaml:1:1")
BASH = Nevra(name="bash", epoch=1, version="5", release="1", arch="x86_64")
REQUEST = SolveRequest(
    packages=(SPEC,),
    access=RepoAccess(
        repo_dirs=("/repos",),
        basearch="x86_64",
        releasever="43",
        repovars=(("name", "value"),),
        override_dirs=("/overrides",),
        vars_dirs=("/vars",),
        repos=("a",),
        root="/root",
    ),
    repo_packages=(RepoPackages(repo="a", packages=(SPEC,), place="t.yaml:2:1"),),
    exclude_packages=(SPEC,),
    rpm_files=(LocalRpm(path="/a.rpm", sha256="00", place="t.yaml:3:1"),),
    lock=LockRequest(
        builds=(LockedBuild(name="a", evr="1-1", arch="noarch", digest="sha256:00"),),
        strict=False,
        repos=frozenset({"a"}),
    ),
    installed=(BASH,),
    files=(("/boot/*",),),
)
OPTION = RepoOption(key="baseurl", value="/a", path="/repos/a.repo", line=2)
SECTION = RepoSection(id="a", path="/repos/a.repo", line=1, options=(OPTION,))
RESOLUTION = Resolution(
    packages=(
        ResolvedPackage(
            nevra=BASH,
            repo="a",
            location="bash.rpm",
            checksum=("sha256", "00"),
            download_size=1,
            install_size=2,
            source_rpm="bash.src.rpm",
            reason=Reason.REQUESTED,
            specs=("bash",),
            base="https://elsewhere/",
        ),
    ),
    repos=(RepoSnapshot(id="a", timestamp=1, gpgcheck=True, gpgkeys=("file:///key",)),),
    advisories=(
        Advisory(id="x", severity="low", packages=("bash",), references=(Reference(url="https://x", title="CVE"),)),
    ),
    fixes=(Advisory(id="y", severity="", packages=("bash",), references=()),),
    links=(Link(source=BASH, target=BASH, need=Need.REQUIRES, dependency="bash"),),
    lacking=(("/boot/*",),),
    directories=(("a", "/repository"),),
)


def changed(value: Any) -> list[Any]:
    """Copies of a value that differ in one place each, at any depth."""
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return [replace(value, **{name: each}) for name in fields for each in changed(getattr(value, name))]
    if isinstance(value, tuple):
        ways = [(*value[:index], each, *value[index + 1 :]) for index, old in enumerate(value) for each in changed(old)]
        # a variable is a pair and stays one
        return ways if value == ("name", "value") else [*ways, value[:-1], (*value, *value[-1:])]
    if isinstance(value, frozenset):
        return [value | {"more"}, frozenset()]
    if isinstance(value, bool):
        return [not value]
    assert isinstance(value, str | int), value
    return [value + type(value)(1)]


def test_whatever_is_asked_for_is_in_the_key():
    """Covers each field of the request and of the repositories, including fields added later."""
    questions = [(REQUEST, SECTION), *((each, SECTION) for each in changed(REQUEST))]
    questions += [(REQUEST, each) for each in changed(SECTION)]
    keys = {memo.key_of("solve", request, (section,)) for request, section in questions}
    keys |= {memo.key_of("describe", REQUEST, (SECTION,)), memo.key_of("solve", REQUEST, ())}
    assert len(keys) == len(questions) + 2
    assert len(questions) > 50


def test_files_with_variables_are_in_the_key(tmp_path):
    request = replace(REQUEST, access=replace(REQUEST.access, vars_dirs=(str(tmp_path),)))
    before = memo.key_of("solve", request, ())
    (tmp_path / "stream").write_text("next")
    assert memo.key_of("solve", request, ()) != before


class Place:
    """A cachedir with the metadata of one repository, and the repository."""

    def __init__(self, path):
        self.network = RepoNetwork(cachedir=str(path / "cache"))
        self.origin, self.cached = path / "repository", path / "cache/repomd/a-00"
        for directory in (self.origin, self.cached):
            (directory / "repodata").mkdir(parents=True)
            (directory / "repodata/repomd.xml").write_text("one")
        (self.cached / "repodata/primary.xml").write_text("two")
        self.library = path / "lib.so"
        self.library.write_text("library")
        self.answer = Answer(
            resolution=RESOLUTION,
            metadata=(
                Metadata(
                    cached="a-00",
                    origin=str(self.origin),
                    signed=False,
                    repomd=memo.digest_of(str(self.cached / memo.REPOMD)),
                    files=tuple(memo.sizes(str(self.cached / "repodata"))),
                ),
            ),
            libraries=((str(self.library), memo.status_of(str(self.library))),),
            warnings=("careful",),
        )
        memo.keep("key", self.answer, self.network)

    def recall(self, **network):
        """The answer, if it is known to hold."""
        answer = memo.recall("key", self.network)
        return answer if answer and memo.holds(answer, replace(self.network, **network)) else None


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_an_answer_comes_back_as_it_was(place):
    assert place.recall() == place.answer
    assert memo.recall("another", place.network) is None


@pytest.mark.parametrize(
    "what",
    [
        lambda place: (place.origin / "repodata/repomd.xml").write_text("new"),
        lambda place: (place.origin / "repodata/repomd.xml").unlink(),
        lambda place: (place.cached / "repodata/repomd.xml").write_text("new"),
        lambda place: (place.cached / "repodata/primary.xml").write_text("cut"[:1]),
        lambda place: (place.cached / "repodata/primary.xml").unlink(),
        lambda place: place.library.write_text("another"),
        lambda place: place.library.unlink(),
        lambda place: os.truncate(f"{place.network.solved_dir}/key", 100),
        lambda place: os.chmod(f"{place.network.solved_dir}/key", 0o666),
        lambda place: write_sealed(f"{place.network.solved_dir}/key", memo._KIND, b'{"resolution": {}}'),
    ],
)
def test_it_does_not_hold_when_what_it_was_made_of_changed(place, what):
    what(place)
    assert place.recall() is None


def test_what_comes_over_the_network_is_asked_for_unless_that_is_not_wanted(place):
    (metadata,) = place.answer.metadata
    memo.keep("key", replace(place.answer, metadata=(replace(metadata, origin=None),)), place.network)
    assert place.recall() is None
    assert place.recall(cache_only=True) is not None


def test_a_signature_is_not_looked_at_here(place):
    (metadata,) = place.answer.metadata
    memo.keep("key", replace(place.answer, metadata=(replace(metadata, signed=True),)), place.network)
    assert place.recall() is None
    assert place.recall(cache_only=True) is None


def test_metadata_that_is_nowhere_is_not_as_it_was(place):
    (metadata,) = place.answer.metadata
    nowhere = replace(metadata, cached="b-00", origin=str(place.origin / "nowhere"), repomd="", files=())
    memo.keep("key", replace(place.answer, metadata=(nowhere,)), place.network)
    assert place.recall() is None


@pytest.mark.parametrize(
    ("repo_dirs", "again"),
    [
        (("/repos",), True),
        (("/cache/workshop", "/cache"), True),
        (("/cache/work/0123/sources/root",), False),
        (("/repos", "/cache/work/0123"), False),
    ],
)
def test_what_was_unpacked_for_once_is_not_asked_for_again(repo_dirs, again):
    request = replace(REQUEST, access=replace(REQUEST.access, repo_dirs=repo_dirs))
    assert memo.is_worth_keeping(request, RepoNetwork(cachedir="/cache")) is again


def test_those_used_last_stay(place):
    for number in range(60):
        memo.keep(str(number), place.answer, place.network)
    assert len(os.listdir(place.network.solved_dir)) == 50


def test_a_disk_that_refuses_is_no_fault(place):
    os.rename(place.network.solved_dir, f"{place.network.solved_dir}-aside")
    with open(place.network.solved_dir, "w") as file:
        file.write("in the way")
    memo.keep("key", place.answer, place.network)
    assert place.recall() is None

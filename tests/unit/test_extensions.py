"""The file of extensions: what it says, for one architecture and on one base; and every fault at its place."""

from __future__ import annotations

import json

import pytest

from compose.errors import TreefileError, UsageError
from compose.extensions import Extensions, Kind, on_base, parse_extensions
from compose.pipeline.extensions import check_architecture, newest
from compose.rpm.nevra import Nevra

GOOD = b"""\
repos: [extras]
modules: {enable: [x]}
extensions:
  usbguard:
    packages: [usbguard, "usbguard-tools >= 1"]
    architectures: [x86_64]
  devel:
    kind: development
    repos: [source, extras]
    packages: [kernel-devel]
    match-base-evr: kernel
  far:
    packages: [z]
    repos: [far]
    architectures: [s390x]
"""
BASE = {"kernel": "1:6.1-3", "bash": "5-1"}


def parsed(text: bytes = GOOD) -> Extensions:
    return parse_extensions(text, "e.yaml")


def test_no_repositories_of_its_own() -> None:
    found = on_base(parsed(b"extensions: {a: {packages: [x]}}"), "x86_64", BASE)
    assert json.loads(found.json()) == {"extensions": {"a": {"kind": "os-extension", "packages": ["x"]}}}


def test_for_an_architecture_and_a_base() -> None:
    found = on_base(parsed(), "x86_64", BASE)
    assert [each.name for each in found.extensions] == ["devel", "usbguard"]
    assert found.all_repos == ("extras", "source")
    assert [spec.text for spec in found.packages(Kind.OS_EXTENSION)] == ["usbguard", "usbguard-tools >= 1"]
    (spec,) = found.packages(Kind.DEVELOPMENT)
    assert (spec.text, spec.place) == ("kernel-devel-1:6.1-3", "e.yaml:10:16")
    assert json.loads(found.json()) == {
        # as rpm-ostree has them: those of each extension too
        "repos": ["extras", "source"],
        "extensions": {
            "devel": {
                "kind": "development",
                "match-base-evr": "kernel",
                "packages": ["kernel-devel-1:6.1-3"],
            },
            "usbguard": {
                "architectures": ["x86_64"],
                "kind": "os-extension",
                "packages": ["usbguard", "usbguard-tools >= 1"],
            },
        },
    }


def test_a_key_that_once_meant_something_is_passed_over() -> None:
    assert parsed().warnings == ("e.yaml:2:1: modules: unknown key is ignored",)


def test_json_is_taken_too() -> None:
    text = json.dumps({"extensions": {"a": {"packages": ["b"], "kind": None}}}).encode()
    (found,) = parsed(text).extensions
    assert (found.kind, found.packages[0].text, found.architectures) == (Kind.OS_EXTENSION, "b", None)


def test_nothing_is_an_extension() -> None:
    assert parsed(b"extensions: {}\n").extensions == ()


def test_a_package_of_the_base_can_be_for_development_only() -> None:
    with pytest.raises(TreefileError, match=r"e\.yaml:1:29: package bash already present in base"):
        on_base(parsed(b"extensions: {a: {packages: [bash]}}"), "x86_64", BASE)
    again = parsed(b"extensions: {a: {packages: [bash], kind: development}}")
    assert on_base(again, "x86_64", BASE) == again


def test_of_several_kernels_the_newest_is_matched() -> None:
    def kernel(version: str, epoch: int = 0) -> Nevra:
        return Nevra(name="kernel", epoch=epoch, version=version, release="1", arch="x86_64")

    assert newest([kernel("6.9"), kernel("6.10"), kernel("6.1")]) == {"kernel": "6.10-1"}
    assert newest([kernel("6.10"), kernel("5.4", 1)]) == {"kernel": "1:5.4-1"}


def test_a_package_to_match_must_be_in_the_base() -> None:
    with pytest.raises(TreefileError, match=r"e\.yaml:1:14: match-base-evr: the base has no package linux"):
        on_base(parsed(b"extensions: {a: {packages: [b], match-base-evr: linux}}"), "x86_64", BASE)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("extensions: []", "e.yaml:1:1: extensions: must be a mapping, not a list"),
        ("extensions: {a: }", "e.yaml:1:14: extensions.a.packages: must not be empty"),
        ("extensions: {a: {packages: b}}", "e.yaml:1:18: extensions.a.packages: must be a list, not text"),
        ("extensions: {a: {packages: [1]}}", "e.yaml:1:29: extensions.a.packages[0]: must be text, not a number"),
        (
            "extensions: {a: {packages: [b], kind: developmnt}}",
            "e.yaml:1:33: extensions.a.kind: must be one of os-extension, development; "
            'did you mean "development"?',
        ),
        ("extensions: {a: {packages: [b], architectures: x86_64}}", "extensions.a.architectures: must be a list"),
        ("extensions: {a: {packages: [b], match-base-evr: [c]}}", "match-base-evr: must be text, not a list"),
        ("extensions: {a: {packages: [' ']}}", "e.yaml:1:29: extensions.a.packages[0]: must not be empty"),
        ("extensions: {a: {packages: [b}", "e.yaml:1:30"),
    ],
)  # fmt: skip
def test_faults(text: str, fault: str) -> None:
    with pytest.raises(TreefileError) as caught:
        parsed(text.encode())
    assert fault in "\n".join((caught.value.message, *caught.value.details))


def test_all_faults_are_told_together() -> None:
    with pytest.raises(TreefileError, match=r"e\.yaml: 3 faults in the extensions") as caught:
        parsed(b"extensions: {a: {packages: []}, b: {packages: 1, kind: c}}")
    assert len(caught.value.details) == 3


@pytest.mark.parametrize(
    ("arches", "basearch"),
    [
        ("x86_64 i686 noarch", "x86_64"),
        ("x86_64_v2 noarch", "x86_64"),
        ("i686 noarch", "i386"),
        ("armv7hl noarch", "armhfp"),
        ("noarch", "s390x"),
    ],
)
def test_extensions_for_the_architecture_of_the_tree(arches: str, basearch: str) -> None:
    check_architecture(builds(arches), "repo", basearch)


def test_extensions_for_another_architecture_than_the_trees() -> None:
    with pytest.raises(
        UsageError, match=r"^repo: the tree is for aarch64, but extensions are wanted for x86_64"
    ) as caught:
        check_architecture(builds("aarch64 noarch"), "repo", "x86_64")
    assert caught.value.hint == "give --arch=aarch64"


def builds(arches: str) -> list[Nevra]:
    return [Nevra(name="a", epoch=0, version="1", release="1", arch=arch) for arch in arches.split()]

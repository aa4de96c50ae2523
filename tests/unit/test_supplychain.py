"""Bills of materials and provenance of made-up commits."""

from __future__ import annotations

import dataclasses
import json

import pytest

from compose.rpm.nevra import Nevra
from compose.supplychain.cyclonedx import cyclonedx
from compose.supplychain.licenses import spdx_expression
from compose.supplychain.model import Bill, Component, Making, Origin, SourceFile, os_release, purl
from compose.supplychain.provenance import provenance
from compose.supplychain.spdx import spdx

SYSTEM = {"ID": "fedora", "VERSION_ID": "43"}


def component(name: str = "bash", epoch: int = 0, version: str = "5.3.0", release: str = "2.fc43", **more) -> Component:
    nevra = Nevra(name=name, epoch=epoch, version=version, release=release, arch="x86_64")
    facts = {"license": "MIT", "vendor": "", "url": "", "summary": "", "source_rpm": ""} | more
    return Component(nevra=nevra, **facts)


def bill(*components: Component, **more) -> Bill:
    facts = {"name": "f/x86_64/main", "commit": "ab" * 32, "version": "43.1", "created": "2023-11-14T22:13:20Z"} | more
    return Bill(components=components, system=SYSTEM, **facts)


@pytest.mark.parametrize(
    ("found", "system", "expected"),
    [
        (component(), SYSTEM, "pkg:rpm/fedora/bash@5.3.0-2.fc43?arch=x86_64&distro=fedora-43"),
        (component(epoch=1), {}, "pkg:rpm/bash@5.3.0-2.fc43?arch=x86_64&epoch=1"),
        (component(), {"ID": "Arch"}, "pkg:rpm/arch/bash@5.3.0-2.fc43?arch=x86_64&distro=arch"),
        (
            component("libstdc++", version="1~rc2^git", source_rpm="gcc-1-1.src.rpm"),
            {},
            "pkg:rpm/libstdc%2B%2B@1~rc2%5Egit-2.fc43?arch=x86_64&upstream=gcc-1-1.src.rpm",
        ),
    ],
)
def test_package_urls(found: Component, system: dict[str, str], expected: str) -> None:
    assert purl(found, system) == expected


def test_os_release() -> None:
    text = '# x\nID=fedora\nPRETTY_NAME="A \\"B\\""\n\nEMPTY=\nwhat\nBROKEN=\'x\nVERSION_ID=\'43\'\n'
    assert os_release(text) == {"ID": "fedora", "PRETTY_NAME": 'A "B"', "EMPTY": "", "VERSION_ID": "43"}


@pytest.mark.parametrize(
    ("tag", "text", "references"),
    [
        ("MIT", "MIT", ()),
        ("mit and (GPL-2.0-or-later or Apache-2.0)", "MIT AND (GPL-2.0-or-later OR Apache-2.0)", ()),
        ("GPL-2.0-only WITH Linux-syscall-note", "GPL-2.0-only WITH Linux-syscall-note", ()),
        ("GPL-2.0+", "GPL-2.0-or-later", ()),
        (
            "MIT AND LicenseRef-Fedora-Public-Domain",
            "MIT AND LicenseRef-Fedora-Public-Domain",
            ("LicenseRef-Fedora-Public-Domain",),
        ),
    ],
)
def test_expressions(tag: str, text: str, references: tuple[str, ...]) -> None:
    found = spdx_expression(tag)
    assert found is not None
    assert (found.text, found.references) == (text, references)


@pytest.mark.parametrize(
    "tag",
    [
        "",
        " ",
        "GPLv2+ and MIT",
        "BSD",
        "Public Domain",
        "MIT AND",
        "(MIT",
        "MIT and ()",
        "(or MIT)",
        "MIT WITH MIT",
        "see /usr/share/doc/x",
        "\0",
    ],
)
def test_what_is_no_expression(tag: str) -> None:
    assert spdx_expression(tag) is None


def test_spdx_explains_the_licenses_that_it_does_not_know() -> None:
    known = bill(
        component("a", license="GPLv2+ and MIT"),
        component("b", license="MIT AND LicenseRef-Fedora-Public-Domain"),
        component("c", license="GPLv2+ and MIT"),
        component("d", license=""),
    )
    document = spdx(known)
    assert [each["licenseDeclared"] for each in document["packages"][1:]] == [
        "LicenseRef-rpm-tag-1",
        "MIT AND LicenseRef-Fedora-Public-Domain",
        "LicenseRef-rpm-tag-1",
        "NOASSERTION",
    ]
    assert {each["licenseId"]: each["extractedText"] for each in document["hasExtractedLicensingInfos"]} == {
        "LicenseRef-rpm-tag-1": "GPLv2+ and MIT",
        "LicenseRef-Fedora-Public-Domain": "LicenseRef-Fedora-Public-Domain",
    }


def test_spdx_identifiers_differ() -> None:
    names = ("lib+x", "lib_x", "lib x", "lib-x", "lib-x-5.3.0-2.fc43.x86-64")
    document = spdx(bill(*(component(name) for name in names)))
    ids = [each["SPDXID"] for each in document["packages"]]
    assert len(set(ids)) == len(names) + 1
    contained = [row for row in document["relationships"] if row["relationshipType"] == "CONTAINS"]
    assert [row["relatedSpdxElement"] for row in contained] == ids[1:]


def test_what_requires_what() -> None:
    other = component("glibc")
    known = bill(component(needs=(other.nevra,)), other)
    rows = [
        (row["spdxElementId"], row["relatedSpdxElement"])
        for row in spdx(known)["relationships"]
        if row["relationshipType"] == "DEPENDS_ON"
    ]
    assert rows == [("SPDXRef-Package-bash-5.3.0-2.fc43.x86-64", "SPDXRef-Package-glibc-5.3.0-2.fc43.x86-64")]
    needs = {row["ref"]: row["dependsOn"] for row in cyclonedx(known)["dependencies"]}
    assert needs["bash-5.3.0-2.fc43.x86_64"] == ["glibc-5.3.0-2.fc43.x86_64"]
    assert needs["glibc-5.3.0-2.fc43.x86_64"] == []


def test_documents_are_of_the_commit_alone() -> None:
    known = bill(component())
    for made in (spdx, cyclonedx):
        assert json.dumps(made(known)) == json.dumps(made(known))
    later = dataclasses.replace(known, commit="cd" * 32)
    assert spdx(known)["documentNamespace"] != spdx(later)["documentNamespace"]
    assert spdx(known)["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_checksums_of_any_algorithm() -> None:
    odd = Origin(checksum=("blake2", "12"), repo="r", location="p/x.rpm")
    known = bill(component(origin=odd), component("b", origin=Origin(checksum=("sha512", "ef" * 64))))
    packages = spdx(known)["packages"]
    assert "checksums" not in packages[1]
    assert packages[2]["checksums"] == [{"algorithm": "SHA512", "checksumValue": "ef" * 64}]
    assert packages[1]["comment"] == "repository r, its signature was not asked for"
    components = cyclonedx(known)["components"]
    assert "hashes" not in components[0]
    assert components[1]["hashes"] == [{"alg": "SHA-512", "content": "ef" * 64}]


def test_provenance_names_every_input() -> None:
    origin = Origin(checksum=("sha256", "12" * 32), repo="fedora", location="b/bash.rpm", key="0123")
    making = Making(
        treefile="top.yaml",
        basearch="x86_64",
        files=(SourceFile(path="base.yaml", sha256="34" * 32), SourceFile(path="top.yaml", sha256="56" * 32)),
        layers=(("layer/x86_64", "78" * 32),),
        repos=(("fedora", 1_699_999_999),),
        tools={"compose": "1"},
    )
    statement = provenance(bill(component(origin=origin)), making, "https://ci.example.com")
    assert statement["subject"] == [{"name": "f/x86_64/main", "digest": {"sha256": "ab" * 32}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["treefile"] == {"path": "top.yaml", "digest": {"sha256": "56" * 32}}
    assert [(each["name"], each["digest"]) for each in definition["resolvedDependencies"]] == [
        ("base.yaml", {"sha256": "34" * 32}),
        ("top.yaml", {"sha256": "56" * 32}),
        ("layer/x86_64", {"sha256": "78" * 32}),
        ("bash-5.3.0-2.fc43.x86_64", {"sha256": "12" * 32}),
    ]


@pytest.mark.parametrize(
    ("cpe", "kind"),
    [("cpe:/o:fedoraproject:fedora:43", "cpe22Type"), ("cpe:2.3:o:x:y:1:*:*:*:*:*:*:*", "cpe23Type"), ("what", None)],
)
def test_the_system(cpe: str, kind: str | None) -> None:
    known = dataclasses.replace(bill(), system={**SYSTEM, "CPE_NAME": cpe})
    system = spdx(known)["packages"][0]
    # as the schema has it; the text of the specification has a hyphen
    assert system["primaryPackagePurpose"] == "OPERATING_SYSTEM"
    assert [each["referenceType"] for each in system.get("externalRefs", [])] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("url", "kept"),
    [("https://x.example/a?b=c#d", True), ('http://x"y/<>', False), ("x.example", False), ("http://a b", False)],
)
def test_home_pages_are_uris(url: str, kept: bool) -> None:
    known = bill(component(url=url))
    assert ("homepage" in spdx(known)["packages"][1]) is kept
    assert ("externalReferences" in cyclonedx(known)["components"][0]) is kept

"""The packages of a commit as SPDX 2.3 JSON (ISO/IEC 5962; spdx.github.io/spdx-spec/v2.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import compose
from compose.supplychain.licenses import spdx_expression
from compose.supplychain.model import Bill, Component

_UNKNOWN = "NOASSERTION"
_ALGORITHMS = {"sha1": "SHA1", "sha224": "SHA224", "sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512"}
_SYSTEM = "SPDXRef-System"
# identifiers consist of letters, digits, "." and "-" (clause 7.2.1)
_FORBIDDEN = re.compile(r"[^A-Za-z0-9.-]")


def spdx(bill: Bill) -> dict[str, Any]:
    """The document. Raises UsageError when the library with SPDX's license list is missing."""
    ids = _identifiers(bill.components)
    licenses = _Licenses()
    packages = [_package(bill, each, ids[index], licenses) for index, each in enumerate(bill.components)]
    known = {each.nevra: ids[index] for index, each in enumerate(bill.components)}
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.name,
        "documentNamespace": bill.urn,
        "creationInfo": {"created": bill.created, "creators": [f"Tool: compose-{compose.__version__}"]},
        "packages": [_system(bill), *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", _SYSTEM),
            *(_relation(_SYSTEM, "CONTAINS", each) for each in ids),
            *(
                _relation(known[each.nevra], "DEPENDS_ON", known[other])
                for each in bill.components
                for other in each.needs
            ),
        ],
    }
    if licenses.others:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "extractedText": text, "name": text} for name, text in licenses.others.items()
        ]
    return document


class _Licenses:
    """Declared licenses. others: names that the document itself must define -> their texts."""

    def __init__(self) -> None:
        self.others: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def declared(self, tag: str) -> str:
        if not tag:
            return _UNKNOWN
        expression = spdx_expression(tag)
        if expression is not None:
            self.others |= {name: name for name in expression.references}
            return expression.text
        name = self._names.setdefault(tag, f"LicenseRef-rpm-tag-{len(self._names) + 1}")
        self.others[name] = tag
        return name


def _system(bill: Bill) -> dict[str, Any]:
    """The tree as the package that contains the others; a commit's checksum is the SHA-256 of the commit object."""
    found = {
        "SPDXID": _SYSTEM,
        "name": bill.name,
        "versionInfo": bill.version or bill.commit,
        "primaryPackagePurpose": "OPERATING_SYSTEM",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "checksums": [{"algorithm": "SHA256", "checksumValue": bill.commit}],
    }
    if name := bill.system.get("PRETTY_NAME"):
        found["summary"] = name
    cpe = bill.system.get("CPE_NAME", "")
    if cpe.startswith(("cpe:/", "cpe:2.3:")):
        kind = "cpe22Type" if cpe.startswith("cpe:/") else "cpe23Type"
        found["externalRefs"] = [_reference("SECURITY", kind, cpe)]
    return found


def _package(bill: Bill, component: Component, identifier: str, licenses: _Licenses) -> dict[str, Any]:
    origin = component.origin
    found: dict[str, Any] = {
        "SPDXID": identifier,
        "name": component.nevra.name,
        "versionInfo": component.nevra.evr,
        "supplier": f"Organization: {component.vendor}" if component.vendor else _UNKNOWN,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": licenses.declared(component.license),
        "copyrightText": _UNKNOWN,
        "externalRefs": [_reference("PACKAGE-MANAGER", "purl", bill.purl(component))],
    }
    if component.summary:
        found["summary"] = component.summary
    if component.homepage:
        found["homepage"] = component.homepage
    if component.source_rpm:
        found["sourceInfo"] = f"built from {component.source_rpm}"
    if origin is not None:
        if origin.location:
            found["packageFileName"] = origin.location.rsplit("/", 1)[-1]
        algorithm, digest = origin.checksum
        if algorithm in _ALGORITHMS:
            found["checksums"] = [{"algorithm": _ALGORITHMS[algorithm], "checksumValue": digest}]
        words = [f"repository {origin.repo}"] if origin.repo else ["a file that the treefile names"]
        words += [f"signed by {origin.key}" if origin.key else "its signature was not asked for"]
        found["comment"] = ", ".join(words)
    return found


def _reference(category: str, kind: str, locator: str) -> dict[str, str]:
    return {"referenceCategory": category, "referenceType": kind, "referenceLocator": locator}


def _relation(element: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": other}


def _identifiers(components: Iterable[Component]) -> list[str]:
    """A unique identifier for each component."""
    taken: set[str] = set()

    def free(wanted: str) -> Iterator[str]:
        yield wanted
        number = 2
        while True:
            yield f"{wanted}-{number}"
            number += 1

    found = []
    for each in components:
        wanted = "SPDXRef-Package-" + _FORBIDDEN.sub("-", str(each.nevra))
        found.append(next(name for name in free(wanted) if name not in taken))
        taken.add(found[-1])
    return found

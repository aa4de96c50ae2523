"""The packages of a commit as CycloneDX 1.6 JSON (ECMA-424; cyclonedx.org/docs/1.6/json)."""

from __future__ import annotations

from typing import Any

import compose
from compose.supplychain.licenses import spdx_expression
from compose.supplychain.model import Bill, Component

_ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


def cyclonedx(bill: Bill) -> dict[str, Any]:
    """The document. Raises UsageError when the library with SPDX's license list is missing."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": bill.urn,
        "version": 1,
        "metadata": {
            "timestamp": bill.created,
            "tools": {"components": [{"type": "application", "name": "compose", "version": compose.__version__}]},
            "component": _system(bill),
        },
        "components": [_component(bill, each) for each in bill.components],
        "dependencies": [
            {"ref": bill.commit, "dependsOn": [str(each.nevra) for each in bill.components]},
            *({"ref": str(each.nevra), "dependsOn": [str(other) for other in each.needs]} for each in bill.components),
        ],
    }


def _system(bill: Bill) -> dict[str, Any]:
    """The tree as a component; a commit's checksum is the SHA-256 of the commit object."""
    found: dict[str, Any] = {
        "type": "operating-system",
        "bom-ref": bill.commit,
        "name": bill.name,
        "version": bill.version or bill.commit,
        "hashes": [{"alg": "SHA-256", "content": bill.commit}],
    }
    if name := bill.system.get("PRETTY_NAME"):
        found["description"] = name
    if cpe := bill.system.get("CPE_NAME"):
        found["cpe"] = cpe
    return found


def _component(bill: Bill, component: Component) -> dict[str, Any]:
    purl, origin = bill.purl(component), component.origin
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": str(component.nevra),
        "name": component.nevra.name,
        "version": component.nevra.evr,
        "purl": purl,
    }
    if component.vendor:
        found["supplier"] = {"name": component.vendor}
    if component.summary:
        found["description"] = component.summary
    if component.license:
        expression = spdx_expression(component.license)
        found["licenses"] = [
            {"expression": expression.text} if expression else {"license": {"name": component.license}}
        ]
    if component.homepage:
        found["externalReferences"] = [{"type": "website", "url": component.homepage}]
    properties = {"source-rpm": component.source_rpm}
    if origin is not None:
        algorithm, digest = origin.checksum
        if algorithm in _ALGORITHMS:
            found["hashes"] = [{"alg": _ALGORITHMS[algorithm], "content": digest}]
        properties |= {"repository": origin.repo, "location": origin.location, "signed-by": origin.key}
    found["properties"] = [{"name": f"compose:{name}", "value": text} for name, text in properties.items() if text]
    return found

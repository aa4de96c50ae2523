"""The provenance of a commit: an in-toto statement (in-toto.io/Statement/v1) with an SLSA predicate
(slsa.dev/provenance/v1).

It is unsigned: whoever signs it (cosign, in-toto, a CI system) vouches for it, as the builder that it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compose.supplychain.model import Artifact, Bill, Component, Making

BUILD_TYPE = "urn:compose:build-type:tree:1"
"""Defines the meaning of externalParameters; see docs/supply-chain.md."""


def provenance(bill: Bill, making: Making, builder: str, artifacts: Sequence[Artifact] = ()) -> dict[str, Any]:
    """The statement. builder: URI of whoever vouches for it. artifacts: further subjects. A commit's checksum is the SHA-256 of
    the commit object."""
    treefile = next((file for file in making.files if file.path == making.treefile), None)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": each.name, "digest": {"sha256": each.sha256}}
            for each in (Artifact(name=bill.name, sha256=bill.commit), *artifacts)
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "treefile": {
                        "path": making.treefile,
                        **({"digest": {"sha256": treefile.sha256}} if treefile is not None else {}),
                    },
                    "basearch": making.basearch,
                    "timestamp": bill.created,
                    "version": bill.version,
                },
                "internalParameters": {
                    "tools": dict(sorted(making.tools.items())),
                    "repositories": dict(making.repos),
                },
                "resolvedDependencies": [
                    *({"name": file.path, "digest": {"sha256": file.sha256}} for file in making.files),
                    *({"name": ref, "digest": {"sha256": commit}} for ref, commit in making.layers),
                    *(_package(bill, each) for each in bill.components),
                ],
            },
            "runDetails": {"builder": {"id": builder}, "metadata": {"invocationId": bill.urn}},
        },
    }


def _package(bill: Bill, component: Component) -> dict[str, Any]:
    """A package as a resource descriptor (in-toto's spec/v1/resource_descriptor.md)."""
    found: dict[str, Any] = {"name": str(component.nevra), "uri": bill.purl(component)}
    if component.origin is not None:
        algorithm, digest = component.origin.checksum
        found["digest"] = {algorithm: digest}
        notes = {
            "repository": component.origin.repo,
            "location": component.origin.location,
            "signed-by": component.origin.key,
        }
        found["annotations"] = {name: text for name, text in notes.items() if text}
    return found

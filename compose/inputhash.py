"""What decides a tree, as one digest: equal digests mean that composing again would give the same tree.

Covered: the flattened treefile with all files it names, each package by name and checksum, layers by content, whether
labels are applied, and this tool's version. Not covered: commit metadata, the repositories' revision, the automatic version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import compose
from compose.solve.resolution import ResolvedPackage


def input_hash(
    *, treefile: bytes, packages: Iterable[ResolvedPackage], layers: Iterable[str] = (), labelled: bool
) -> str:
    """64 hex digits. treefile: canonical bytes of the flattened treefile and its external files. layers: content digests
    of the commits laid over the packages, in order."""
    total = hashlib.sha256()

    def add(field: bytes) -> None:
        # length first: two neighbouring fields cannot be mistaken for another pair
        total.update(len(field).to_bytes(8, "big"))
        total.update(field)

    add(compose.__version__.encode())
    add(b"labelled" if labelled else b"unlabelled")
    add(hashlib.sha256(treefile).digest())
    for package in sorted(packages, key=lambda each: each.nevra):
        algorithm, digest = package.checksum
        add(f"{package.nevra} {algorithm}:{digest}".encode())
    for content in layers:
        add(f"layer {content}".encode())
    return total.hexdigest()

"""What decides a commit, part by part and as one digest: equal digests mean that composing again would give the same.

Covered: the flattened treefile with all files it names, each package by name and checksum, layers by content, whether
labels are applied, and this tool's version. Not covered: metadata given by flags, the repositories' revision, and what is
counted up in an automatic version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import compose
from compose.solve.resolution import ResolvedPackage
from compose.treefile.model import LoadedTreefile

_OF_COMMIT_ALONE = frozenset(
    {"add-commit-metadata", "automatic-version-prefix", "automatic-version-suffix", "ref", "rojig"}
)


class InputKind(StrEnum):
    TOOL = "tool"
    LABELS = "labels"
    KEY = "treefile"
    FILE = "file"
    PACKAGE = "package"
    LAYER = "layer"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Input:
    """One thing that decides a tree. name: of its kind's: a treefile's key, the key and name of a file, a NEVRA, a ref.
    value: JSON of a key, "MODE sha256:HEX" of a file, "ALGORITHM:HEX" of a package, the content's digest of a layer."""

    kind: InputKind
    name: str
    value: str

    @property
    def is_of_commit_alone(self) -> bool:
        """Is it in a commit, but in nothing of its tree?"""
        return self.kind is InputKind.KEY and self.name in _OF_COMMIT_ALONE


def inputs_of(
    loaded: LoadedTreefile,
    packages: Iterable[ResolvedPackage],
    *,
    layers: Iterable[tuple[str, str]] = (),
    labelled: bool,
) -> tuple[Input, ...]:
    """All of them, sorted. layers: ref and content digest of the commits laid over the packages, in order."""
    rows = [
        (InputKind.TOOL, "compose", compose.__version__),
        (InputKind.LABELS, "selinux", "labelled" if labelled else "unlabelled"),
        *((InputKind.KEY, key, text) for key, text in loaded.deciding_keys),
        *((InputKind.FILE, name, digest) for name, digest in loaded.deciding_files),
        *((InputKind.PACKAGE, str(each.nevra), ":".join(each.checksum)) for each in packages),
        *((InputKind.LAYER, f"{number} {ref}", content) for number, (ref, content) in enumerate(layers)),
    ]
    return tuple(Input(kind=kind, name=name, value=value) for kind, name, value in sorted(rows))


def input_hash(inputs: Iterable[Input]) -> str:
    """64 hex digits."""
    found = bytearray()
    for each in sorted(inputs):
        for field in (each.kind, each.name, each.value):
            # length first: two neighbouring fields cannot be mistaken for another pair
            data = field.encode()
            found += len(data).to_bytes(8, "big") + data
    return hashlib.sha256(found).hexdigest()

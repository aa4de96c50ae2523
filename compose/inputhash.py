"""The inputs of a commit, one by one, as one digest, and compared: if the digest is the same, composing again gives the same
result.

Covered: the flattened treefile with all files it names, each package by name and checksum, layers by content, whether
labels are applied, and this tool's version. Not covered: metadata given by flags, revisions of the repositories, and the
counter of an automatic version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import compose
from compose.solve.resolution import ResolvedPackage
from compose.treefile.model import LoadedTreefile

_COMMIT_ONLY = frozenset(
    {"add-commit-metadata", "automatic-version-prefix", "automatic-version-suffix", "ref", "rojig"}
)


class InputKind(StrEnum):
    """Kinds of inputs, in the order of reports. REPOSITORY: not of trees, but what a repository's config demands of commits."""

    TOOL = "tool"
    LABELS = "labels"
    KEY = "treefile"
    FILE = "file"
    PACKAGE = "package"
    LAYER = "layer"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Input:
    """Something that determines a tree.

    name: by kind: a key of the treefile; key and name of a file; a NEVRA; position and ref of a layer.
    value: JSON of a key; "MODE sha256:HEX" of a file; "ALGORITHM:HEX" of a package; digest of a layer's content.
    """

    kind: InputKind
    name: str
    value: str

    @property
    def is_of_commit_alone(self) -> bool:
        """Does it affect only the commit, not its tree?"""
        return self.kind is InputKind.KEY and self.name in _COMMIT_ONLY


def inputs_of(
    loaded: LoadedTreefile,
    packages: Iterable[ResolvedPackage],
    *,
    layers: Iterable[tuple[str, str]] = (),
    labelled: bool,
) -> tuple[Input, ...]:
    """Return all inputs of a compose, sorted.

    layers: (ref, content digest) of the commits laid over the packages, in order. labelled: is the tree labelled?
    """
    rows = [
        (InputKind.TOOL, "compose", compose.__version__),
        (InputKind.LABELS, "selinux", "labelled" if labelled else "unlabelled"),
        *((InputKind.KEY, key, text) for key, text in loaded.deciding_keys),
        *((InputKind.FILE, name, digest) for name, digest in loaded.deciding_files),
        *((InputKind.PACKAGE, str(each.nevra), ":".join(each.checksum)) for each in packages),
        *((InputKind.LAYER, f"{number} {ref}", content) for number, (ref, content) in enumerate(layers)),
    ]
    return tuple(Input(kind=kind, name=name, value=value) for kind, name, value in sorted(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChange:
    """An input that differs. name, before, after: as name and value of an Input; None on the side that lacks it."""

    kind: InputKind
    name: str
    before: str | None
    after: str | None


def input_changes(before: Iterable[Input], after: Iterable[Input]) -> tuple[InputChange, ...]:
    """Compare inputs; sorted by kind, in the order of InputKind, and name."""
    old = {(each.kind, each.name): each.value for each in before}
    new = {(each.kind, each.name): each.value for each in after}
    order = list(InputKind)
    return tuple(
        InputChange(kind=kind, name=name, before=old.get((kind, name)), after=new.get((kind, name)))
        for kind, name in sorted(old.keys() | new.keys(), key=lambda key: (order.index(key[0]), key[1]))
        if old.get((kind, name)) != new.get((kind, name))
    )


def input_hash(inputs: Iterable[Input]) -> str:
    """Return the digest of inputs in any order: 64 hex digits."""
    found = bytearray()
    for each in sorted(inputs):
        for field in (each.kind, each.name, each.value):
            # preceded by the length, so that different fields cannot give the same bytes
            data = field.encode()
            found += len(data).to_bytes(8, "big") + data
    return hashlib.sha256(found).hexdigest()

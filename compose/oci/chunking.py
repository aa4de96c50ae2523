"""Which components of a commit go into which layer of its image.

Clients fetch the layers that they do not have, so what changes together is to be together: what changes in every build in one
layer or two, the largest packages in layers of their own, the rest by how often it changes and by size. The next build keeps
that structure, as the manifest of the image tells it, or one package more would move all others. The rules are those of
rpm-ostree, but that it has initramfs and unpackaged content in one layer, and either reads the manifests of the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import UsageError
from compose.oci.contentmeta import ALWAYS, SEPARATOR, Component, ContentMeta
from compose.oci.documents import parse

ANNOTATION = "ostree.components"
"""Of a layer in a manifest: the names of its components."""
MOST_LAYERS = 64
"""By default: half of what some container runtimes take at most."""
_FEWEST = 4
"""With fewer layers it is not worth while to tell components apart."""
_PLENTY, _APART = 8, 2
"""With fewer layers, or more of them, components that change in every build share one."""
_RESERVED = "Reserved for new packages"
_NAMED = 5
"""Components whose names are the name of their layer; of more only the number is told."""
_SPREAD = 2
"""Deviations from the middle from which on a component is large or small, changes often or seldom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A layer. components: names, sorted. objects: checksums of file objects, 64 hex digits, sorted. size: bytes of these."""

    name: str
    components: tuple[str, ...]
    objects: tuple[str, ...]
    size: int

    @property
    def annotation(self) -> str:
        """Value of ANNOTATION in the manifest."""
        return SEPARATOR.join(self.components)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousLayers:
    """How the image before was layered: names of the components of each layer but the first, which has the commit itself."""

    layers: tuple[tuple[str, ...], ...]


def previous_layers(manifest: Mapping[str, Any], where: str) -> PreviousLayers:
    """Of an image manifest. where: what it is called in errors. Raises UsageError when it has layers that do not say what is in
    them."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(isinstance(each, dict) for each in layers):
        raise UsageError(f"{where}: no image manifest: it has no layers")
    found = []
    for number, layer in enumerate(layers[1:], 2):
        annotations = layer.get("annotations")
        value = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
        if not isinstance(value, str):
            raise UsageError(
                f"{where}: layer {number} of {len(layers)} has no {ANNOTATION}, so that its structure cannot be kept",
                hint="give the manifest of an image made of a commit, not of one that was built upon it; or none",
            )
        found.append(tuple(name for name in value.split(SEPARATOR) if name))
    return PreviousLayers(layers=tuple(found))


def read_previous_layers(path: str) -> PreviousLayers:
    """Of a manifest in a file. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            manifest = parse(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: no JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise UsageError(f"{path}: no image manifest: not an object")
    return previous_layers(manifest, path)


def plan_layers(
    content: ContentMeta, *, max_layers: int = MOST_LAYERS, previous: PreviousLayers | None = None
) -> tuple[Chunk, ...]:
    """The layers behind the first, which has the commit itself: each object is in one of them, and none is in two.

    max_layers: the most there may be of them. previous: keep this structure; packages that are new go into its last layer.
    Raises UsageError when max_layers is too few for components that want a layer each.
    """
    exclusive = [_Part.of([each]) for each in content.components if each.exclusive]
    exclusive.sort(key=lambda each: each.name)
    by_name: dict[str, list[Component]] = {}
    for each in content.components:
        if not each.exclusive:
            by_name.setdefault(each.name, []).append(each)
    parts = sorted((_Part.of(each) for each in by_name.values()), key=lambda each: (-each.size, each.name))
    left = max_layers - len(exclusive)
    if left < min(len(parts), 1):
        raise UsageError(
            f"{len(exclusive)} components with a layer of their own (user.component) and the packages do not fit into "
            f"{max_layers} layers",
            hint="give more with --max-layers",
        )
    bins = None
    if previous is not None:
        bins = _kept(parts, left, _without(previous, exclusive))
    if bins is None:
        bins = _packed(parts, left)
    return tuple(_chunk(each) for each in ([each] for each in exclusive)) + tuple(_chunk(each) for each in bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Components of one name, which go together: a manifest tells only names."""

    name: str
    size: int
    frequency: int
    components: tuple[Component, ...]

    @classmethod
    def of(cls, components: Sequence[Component]) -> _Part:
        return cls(
            name=components[0].name,
            size=sum(each.size for each in components),
            frequency=max(each.change_frequency for each in components),
            components=tuple(components),
        )


_Bin = list[_Part]


def _chunk(parts: Sequence[_Part]) -> Chunk:
    components = sorted(
        (each for part in parts for each in part.components), key=lambda each: (-each.size, each.identifier)
    )
    if not components:
        name = _RESERVED
    elif len(components) <= _NAMED:
        name = " and ".join(each.identifier for each in components)
    else:
        name = f"{len(components)} components"
    return Chunk(
        name=name,
        components=tuple(sorted(part.name for part in parts)),
        objects=tuple(sorted(checksum for each in components for checksum in each.objects)),
        size=sum(part.size for part in parts),
    )


def _size(parts: Iterable[_Part]) -> int:
    return sum(each.size for each in parts)


def _without(previous: PreviousLayers, exclusive: Sequence[_Part]) -> list[tuple[str, ...]]:
    """The layers of others than these."""
    layers = list(previous.layers)
    for each in exclusive:
        if (each.name,) in layers:
            layers.remove((each.name,))
    return layers


def _kept(parts: Sequence[_Part], most: int, layers: Sequence[Sequence[str]]) -> list[_Bin] | None:
    """The structure of layers of names; None when they have none of the parts, and there is nothing to keep."""
    by_name = {each.name: each for each in parts}
    if not by_name.keys() & {name for layer in layers for name in layer}:
        return None
    bins = [[part for name in layer if (part := by_name.pop(name, None)) is not None] for layer in layers]
    # the last one is made for these
    bins[-1] += [each for each in parts if each.name in by_name]
    last = bins.pop()
    bins = [each for each in bins if each]
    while bins and len(bins) + 1 > most:
        if len(bins) == 1:
            last = bins.pop() + last
        else:
            # all others stay as they are
            one, other = sorted(sorted(range(len(bins)), key=lambda place: _size(bins[place]))[:2])
            bins[one] += bins.pop(other)
    return [*bins, last]


def _packed(parts: Sequence[_Part], most: int) -> list[_Bin]:
    """parts: the largest first."""
    if not parts:
        return []
    if most < _FEWEST:
        return [list(parts)]
    if len(parts) < most:
        return [*([each] for each in parts), []]
    always = [each for each in parts if each.frequency == ALWAYS]
    others = [each for each in parts if each.frequency != ALWAYS]
    # an initramfs, half of what clients would fetch, is the same more often than what no package brought
    apart = most >= _PLENTY and len(always) <= _APART
    hot: list[_Bin] = [[each] for each in always] if apart else [always] if always else []
    # one is reserved for packages that are new
    bins = _by_size_and_frequency(others, most - 1 - len(hot)) if others else []
    return [*bins, *hot, []]


def _by_size_and_frequency(parts: Sequence[_Part], most: int) -> list[_Bin]:
    """One bin for what is small; of the others six of ten for a large part each, and four for all the rest."""
    for_large = 3 * (most - 1) // 5
    for_rest = most - 1 - for_large
    sizes = [each.size for each in parts]
    median = statistics.median(sizes)
    large, middle, small = _split(parts, _size_of, median, statistics.median(abs(each - median) for each in sizes))
    # what is too many of the large; all are still sorted by size
    middle = large[for_large:] + middle
    large = large[:for_large]
    per_bin = max(1, (len(parts) - for_large - len(small)) // for_rest)
    bins: list[_Bin] = [[each] for each in large]
    if small:
        bins.append(small)
    first = len(bins)
    for some in _alike(middle):
        bins += [some[place : place + per_bin] for place in range(0, len(some), per_bin)]
    # neighbours change about as often; from the end, for what changes seldom may be together more cheaply
    while len(bins) > most:
        for place in range(len(bins) - 1, first, -2):
            if len(bins) > most:
                bins[place - 1 : place + 1] = [bins[place - 1] + bins[place]]
    return bins


def _alike(parts: Sequence[_Part]) -> list[_Bin]:
    """Parts that change about as often and are about as large, those that change most often first."""
    if not parts:
        return []
    parts = sorted(parts, key=_frequency_of)
    sizes, frequencies = [each.size for each in parts], [each.frequency for each in parts]
    size, frequency = statistics.fmean(sizes), statistics.fmean(frequencies)
    size_deviation, frequency_deviation = statistics.pstdev(sizes), statistics.pstdev(frequencies)
    return [
        some
        for group in _split(parts, _frequency_of, frequency, frequency_deviation)
        for some in _split(group, _size_of, size, size_deviation)
        if some
    ]


def _split(parts: Sequence[_Part], key: Callable[[_Part], int], middle: float, deviation: float) -> list[_Bin]:
    """Those of which the key is large, about the middle, and small; each in the order given."""
    high, low = middle + _SPREAD * deviation, abs(middle - _SPREAD * deviation) / 2
    found: list[_Bin] = [[], [], []]
    for each in parts:
        found[0 if key(each) >= high else 2 if key(each) <= low else 1].append(each)
    return found


def _size_of(part: _Part) -> int:
    return part.size


def _frequency_of(part: _Part) -> int:
    return part.frequency

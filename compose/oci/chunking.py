"""Distributes the components of a commit over the layers of its image.

Clients fetch the layers that they lack, so components that change together should share a layer: those that change in every
build get one layer or two, the largest packages one each, and the rest is grouped by change frequency and size. The next
build keeps this structure, which the image's manifest records; otherwise one new package would move all others. The rules are
rpm-ostree's, except that it puts initramfs and unpackaged content into one layer; each tool reads the other's manifests.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import UsageError
from compose.oci.contentmeta import ALWAYS, SEPARATOR, Component, ContentMeta
from compose.oci.documents import read_object

ANNOTATION = "ostree.components"
"""Annotation of a layer in a manifest: the names of its components, joined by SEPARATOR."""
_COMMENT = f"{ANNOTATION}="
MOST_LAYERS = 64
"""The default: half of the maximum of some container runtimes."""
_MIN_SPLIT = 4
"""With fewer layers all components share one."""
_MIN_SPLIT_HOT, _MAX_HOT = 8, 2
"""Components that change in every build get a layer each if there are this many layers, and no more such components."""
_RESERVED = "Reserved for new packages"
_NAMED = 5
"""A layer of up to this many components is named after them, another after their number."""
_SPREAD = 2
"""Deviations from the middle beyond which a component counts as large or small, or as changing often or seldom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A planned layer. components: sorted names. objects: sorted checksums, 64 hex digits. size: bytes of these."""

    name: str
    components: tuple[str, ...]
    objects: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousLayers:
    """The layers of a previous image: the names of the components of each, without the first layer, which has the commit."""

    layers: tuple[tuple[str, ...], ...]


def comment_on(components: Sequence[str]) -> str:
    """The comment on a layer in the history of a configuration: what its annotation says. Tools that compress layers again drop
    annotations, such as podman when it pushes, but they keep the configuration."""
    return _COMMENT + SEPARATOR.join(sorted(components))


def components_of(layers: Sequence[Mapping[str, Any]], comments: Sequence[str] = ()) -> list[tuple[str, ...] | None]:
    """The names of the components of each layer; None for one that lists none. layers: of a manifest. comments: on them, as far
    as known."""
    found = []
    for number, layer in enumerate(layers):
        annotations = layer.get("annotations")
        value = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
        if not isinstance(value, str) and number < len(comments) and comments[number].startswith(_COMMENT):
            value = comments[number].removeprefix(_COMMENT)
        found.append(tuple(name for name in value.split(SEPARATOR) if name) if isinstance(value, str) else None)
    return found


def previous_layers(manifest: Mapping[str, Any], where: str, comments: Sequence[str] = ()) -> PreviousLayers:
    """The layers of an image manifest. where: for messages. comments: as components_of() has them. Raises UsageError when a
    layer does not list its components."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        several = "manifests" in manifest
        raise UsageError(
            f"{where}: not an image manifest: " + ("it lists several images" if several else "it has no layers"),
            hint="give that of one of them: skopeo inspect --raw docker://NAME@sha256:…" if several else None,
        )
    found = []
    for number, components in enumerate(components_of(layers, comments)[1:], 2):
        if components is None:
            raise UsageError(
                f"{where}: layer {number} of {len(layers)} has no {ANNOTATION}, so the structure cannot be kept",
                hint="give the manifest of an image made from a commit, not of an image built on top of it; or give none",
            )
        found.append(components)
    return PreviousLayers(layers=tuple(found))


def read_previous_layers(path: str) -> PreviousLayers:
    """The layers of a manifest in a file. Raises UsageError."""
    return previous_layers(read_object(path, "an image manifest"), path)


def plan_layers(
    content: ContentMeta, *, max_layers: int = MOST_LAYERS, previous: PreviousLayers | None = None
) -> tuple[Chunk, ...]:
    """Plan the layers after the first, which has the commit. Each object is in exactly one of them.

    max_layers: how many there may be. previous: a structure to keep; new packages go into its last layer. Raises UsageError
    when max_layers is too small for the components that must have a layer each.
    """
    exclusive = [_Part.of([each]) for each in content.components if each.exclusive]
    exclusive.sort(key=lambda part: part.name)
    by_name: dict[str, list[Component]] = {}
    for each in content.components:
        if not each.exclusive:
            by_name.setdefault(each.name, []).append(each)
    parts = sorted((_Part.of(each) for each in by_name.values()), key=lambda part: (-part.size, part.name))
    left = max_layers - len(exclusive)
    if left < min(len(parts), 1):
        raise UsageError(
            f"{len(exclusive)} components with a layer of their own (user.component) and the packages do not fit into "
            f"{max_layers} layers",
            hint="allow more layers with --max-layers",
        )
    bins = None
    if previous is not None:
        bins = _keep_structure(parts, left, _without(previous, exclusive))
    if bins is None:
        bins = _pack(parts, left)
    return tuple(_chunk(parts) for parts in [*([part] for part in exclusive), *bins])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Components with the same name, which must share a layer, as a manifest records only names."""

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
    return sum(part.size for part in parts)


def _without(previous: PreviousLayers, exclusive: Sequence[_Part]) -> list[tuple[str, ...]]:
    """The previous layers except those of exclusive components."""
    layers = list(previous.layers)
    for part in exclusive:
        if (part.name,) in layers:
            layers.remove((part.name,))
    return layers


def _keep_structure(parts: Sequence[_Part], most: int, layers: Sequence[Sequence[str]]) -> list[_Bin] | None:
    """Distribute parts as the previous layers did, given by their names; None when these have no part in common with the new
    image, so that there is nothing to keep."""
    by_name = {part.name: part for part in parts}
    if not by_name.keys() & {name for layer in layers for name in layer}:
        return None
    bins = [[part for name in layer if (part := by_name.pop(name, None)) is not None] for layer in layers]
    # the last layer is reserved for new packages
    bins[-1] += [part for part in parts if part.name in by_name]
    last = bins.pop()
    bins = [parts for parts in bins if parts]
    while bins and len(bins) + 1 > most:
        if len(bins) == 1:
            last = bins.pop() + last
        else:
            # merge the two smallest; all others stay as they are
            first, second = sorted(sorted(range(len(bins)), key=lambda index: _size(bins[index]))[:2])
            bins[first] += bins.pop(second)
    return [*bins, last]


def _pack(parts: Sequence[_Part], most: int) -> list[_Bin]:
    """Distribute parts over at most `most` bins. parts: the largest first."""
    if not parts:
        return []
    if most < _MIN_SPLIT:
        return [list(parts)]
    if len(parts) < most:
        return [*([part] for part in parts), []]
    always = [part for part in parts if part.frequency == ALWAYS]
    others = [part for part in parts if part.frequency != ALWAYS]
    # an initramfs, half of what clients would fetch, stays the same more often than the unpackaged content does
    separate = most >= _MIN_SPLIT_HOT and len(always) <= _MAX_HOT
    hot: list[_Bin] = [[part] for part in always] if separate else [always] if always else []
    # the last layer is reserved for new packages
    bins = _by_size_and_frequency(others, most - 1 - len(hot)) if others else []
    return [*bins, *hot, []]


def _by_size_and_frequency(parts: Sequence[_Part], most: int) -> list[_Bin]:
    """One bin for all small parts; of the other bins 60 % for one large part each, and 40 % for all the rest."""
    for_large = 3 * (most - 1) // 5
    for_rest = most - 1 - for_large
    sizes = [part.size for part in parts]
    median = statistics.median(sizes)
    large, middle, small = _split(parts, _size_of, median, statistics.median(abs(size - median) for size in sizes))
    # large parts beyond the quota join the middle, which stays sorted by size
    middle = large[for_large:] + middle
    large = large[:for_large]
    per_bin = max(1, (len(parts) - for_large - len(small)) // for_rest)
    bins: list[_Bin] = [[part] for part in large]
    if small:
        bins.append(small)
    first = len(bins)
    for group in _group_similar(middle):
        bins += [group[start : start + per_bin] for start in range(0, len(group), per_bin)]
    # merge neighbours, which change about as often, from the end: parts that change seldom cost less together
    while len(bins) > most:
        for index in range(len(bins) - 1, first, -2):
            if len(bins) > most:
                bins[index - 1 : index + 1] = [bins[index - 1] + bins[index]]
    return bins


def _group_similar(parts: Sequence[_Part]) -> list[_Bin]:
    """Groups of parts that change about as often and are about as large; those that change most often first."""
    if not parts:
        return []
    parts = sorted(parts, key=_frequency_of)
    sizes, frequencies = [part.size for part in parts], [part.frequency for part in parts]
    size, frequency = statistics.fmean(sizes), statistics.fmean(frequencies)
    size_deviation, frequency_deviation = statistics.pstdev(sizes), statistics.pstdev(frequencies)
    return [
        similar
        for group in _split(parts, _frequency_of, frequency, frequency_deviation)
        for similar in _split(group, _size_of, size, size_deviation)
        if similar
    ]


def _split(parts: Sequence[_Part], key: Callable[[_Part], int], middle: float, deviation: float) -> list[_Bin]:
    """Split into parts whose key is large, medium and small, each in the given order."""
    high, low = middle + _SPREAD * deviation, abs(middle - _SPREAD * deviation) / 2
    large: _Bin = []
    medium: _Bin = []
    small: _Bin = []
    for part in parts:
        (large if key(part) >= high else small if key(part) <= low else medium).append(part)
    return [large, medium, small]


def _size_of(part: _Part) -> int:
    return part.size


def _frequency_of(part: _Part) -> int:
    return part.frequency

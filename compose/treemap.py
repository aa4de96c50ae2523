"""Lay out the files of a commit as a treemap: nested rectangles whose areas are sizes.

Rectangles are placed by the squarified layout of Bruls, Huizing and van Wijk (2000), which keeps them close to squares.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

HEADER = 14
"""Height of the strip with a directory's name, in pixels."""
_PADDING = 1
_SMALLEST = 400
"""Square pixels below a header that a directory needs to be divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A file, or a directory with children, largest first.

    path: with a leading "/". name: last part of the path; several parts for directories that hold nothing but the next one.
    size: bytes. source: what brought the file, or most bytes of the directory.
    """

    path: str
    name: str
    size: int
    source: str
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """In pixels, from the upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where a node is drawn. divided: do the boxes of its children follow, below a header?"""

    node: Node
    place: Rectangle
    divided: bool


def tree_of(files: Iterable[tuple[str, int, str]]) -> Node:
    """Build the root directory from (path without a leading "/", bytes, source) of each file; empty files are left out."""
    children: defaultdict[str, list[Node]] = defaultdict(list)
    directories = {""}
    for path, size, source in files:
        if size > 0:
            parent, name = os.path.split(path)
            children[parent].append(Node(path="/" + path, name=name, size=size, source=source))
            while parent not in directories:
                directories.add(parent)
                parent = os.path.dirname(parent)
    # the deepest first: a directory is built from its children
    for path in sorted(directories - {""}, key=lambda path: -path.count("/")):
        parent, name = os.path.split(path)
        children[parent].append(_directory("/" + path, name, children.pop(path)))
    return _directory("/", "/", children[""])


def _directory(path: str, name: str, children: list[Node]) -> Node:
    if len(children) == 1 and children[0].children and path != "/":
        only = children[0]
        return Node(
            path=only.path, name=f"{name}/{only.name}", size=only.size, source=only.source, children=only.children
        )
    sources: defaultdict[str, int] = defaultdict(int)
    for child in children:
        sources[child.source] += child.size
    return Node(
        path=path,
        name=name,
        size=sum(child.size for child in children),
        source=max(sources, key=lambda source: (sources[source], source), default=""),
        children=tuple(sorted(children, key=lambda child: (-child.size, child.path))),
    )


def boxes(root: Node, width: float, height: float) -> Iterator[Box]:
    """Place a directory and all below it that is large enough to be seen; each before its children."""
    pending = [(root, Rectangle(x=0, y=0, width=width, height=height))]
    while pending:
        node, place = pending.pop()
        inner = Rectangle(
            x=place.x + _PADDING,
            y=place.y + HEADER,
            width=place.width - 2 * _PADDING,
            height=place.height - HEADER - _PADDING,
        )
        divided = bool(node.children) and inner.height >= HEADER and inner.width * inner.height >= _SMALLEST
        yield Box(node=node, place=place, divided=divided)
        if divided:
            places = squarify([child.size for child in node.children], inner)
            pending += reversed(list(zip(node.children, places, strict=True)))


def squarify(sizes: Sequence[float], place: Rectangle) -> list[Rectangle]:
    """Divide a rectangle into areas proportional to the sizes, which are above 0 and in descending order."""
    scale = place.width * place.height / sum(sizes) if sizes else 0
    areas = [size * scale for size in sizes]
    found: list[Rectangle] = []
    begin = 0
    while begin < len(areas):
        side = min(place.width, place.height)
        end, total = begin + 1, areas[begin]
        while end < len(areas) and (
            _elongation(areas[begin], areas[end], total + areas[end], side)
            <= _elongation(areas[begin], areas[end - 1], total, side)
        ):
            total += areas[end]
            end += 1
        row, place = _row(areas[begin:end], total, place)
        found += row
        begin = end
    return found


def _elongation(largest: float, smallest: float, total: float, side: float) -> float:
    """The largest ratio of two sides of the rectangles in a row, of this total area, along a side."""
    square = total * total
    return max(side * side * largest / square, square / (side * side * smallest)) if side > 0 else 0


def _row(areas: Sequence[float], total: float, place: Rectangle) -> tuple[list[Rectangle], Rectangle]:
    """Put areas along the shorter side of a rectangle. Returns their rectangles and what is left of it."""
    upright = place.width >= place.height
    side, extent = (place.height, place.width) if upright else (place.width, place.height)
    # not more than there is: what is left beside a much larger size has few exact digits
    thickness = min(total / side, extent) if side > 0 else 0
    found = []
    at = begin = place.y if upright else place.x
    for area in areas:
        length = min(area / thickness, begin + side - at) if thickness > 0 else 0
        if upright:
            found.append(Rectangle(x=place.x, y=at, width=thickness, height=length))
        else:
            found.append(Rectangle(x=at, y=place.y, width=length, height=thickness))
        at += length
    if upright:
        left = Rectangle(x=place.x + thickness, y=place.y, width=max(0.0, place.width - thickness), height=place.height)
    else:
        left = Rectangle(x=place.x, y=place.y + thickness, width=place.width, height=max(0.0, place.height - thickness))
    return found, left

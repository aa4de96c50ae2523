"""Treemaps: areas are sizes, nothing overlaps, and every name is escaped."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compose.cli.treemap import page
from compose.treemap import Node, Rectangle, boxes, squarify, tree_of

PLACE = Rectangle(x=3, y=5, width=160, height=90)
SIZES = st.lists(st.integers(1, 10**9), min_size=1, max_size=60).map(lambda sizes: sorted(sizes, reverse=True))


@given(sizes=SIZES)
def test_areas_are_proportional(sizes: list[int]) -> None:
    scale = PLACE.width * PLACE.height / sum(sizes)
    for size, each in zip(sizes, squarify(sizes, PLACE), strict=True):
        assert math.isclose(each.width * each.height, size * scale, rel_tol=1e-6, abs_tol=1e-6)


@given(sizes=SIZES)
@example(sizes=[194693632, 1])
def test_rectangles_lie_inside_and_do_not_overlap(sizes: list[int]) -> None:
    found = squarify(sizes, PLACE)
    slack = 1e-6
    for index, each in enumerate(found):
        assert each.x >= PLACE.x - slack
        assert each.y >= PLACE.y - slack
        assert each.x + each.width <= PLACE.x + PLACE.width + slack
        assert each.y + each.height <= PLACE.y + PLACE.height + slack
        for other in found[:index]:
            across = min(each.x + each.width, other.x + other.width) - max(each.x, other.x)
            down = min(each.y + each.height, other.y + other.height) - max(each.y, other.y)
            assert across <= slack or down <= slack


def test_equal_sizes_become_squares() -> None:
    assert squarify([1] * 4, Rectangle(x=0, y=0, width=8, height=8)) == [
        Rectangle(x=x, y=y, width=4, height=4) for x in (0, 4) for y in (0, 4)
    ]


def test_tree() -> None:
    root = tree_of(
        [
            ("usr/lib/a/one", 10, "x"),
            ("usr/lib/a/two", 30, "y"),
            ("usr/lib/b", 50, "x"),
            ("usr/bin/c", 5, ""),
            ("usr/share/empty", 0, "x"),
            ("top", 1, "x"),
        ]
    )
    assert (root.path, root.size) == ("/", 96)
    usr, top = root.children
    assert (usr.path, usr.size, usr.source, top.name) == ("/usr", 95, "x", "top")
    lib, binaries = usr.children
    assert [child.path for child in lib.children] == ["/usr/lib/b", "/usr/lib/a"]
    assert lib.children[1].source == "y"
    assert binaries.size == 5


def test_directories_with_a_single_one_are_one() -> None:
    (only,) = tree_of([("usr/share/doc/one", 1, ""), ("usr/share/doc/two", 1, "")]).children
    assert (only.path, only.name, len(only.children)) == ("/usr/share/doc", "usr/share/doc", 2)


def test_nothing() -> None:
    assert tree_of([]) == Node(path="/", name="/", size=0, source="")
    assert len(list(boxes(tree_of([]), 100, 100))) == 1


def test_what_is_too_small_is_not_divided() -> None:
    files = [(f"d{number}/f{other}", 1, "") for number in range(300) for other in range(30)]
    found = list(boxes(tree_of(files), 400, 300))
    assert len(found) == 301
    assert sum(box.divided for box in found) == 1


@pytest.mark.parametrize("depth", [3000])
def test_paths_of_any_depth(depth: int) -> None:
    files = [(f"{'d/' * each}f", 1, "") for each in range(depth)]
    assert len(list(boxes(tree_of(files), 1600, 1000))) > 20


class _Names(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_names_are_text_whatever_they_hold() -> None:
    hostile = "<script>alert(1)</script>&\x1b\udcff"
    names = _Names()
    found = page(hostile, "1 file", [(f"usr/{hostile}", 10, "package x<b>")], lambda source: source)
    found.encode()
    names.feed(found)
    assert not {"script", "b"} & names.tags
    shown = "<script>alert(1)</script>&\\x1b\\udcff"
    assert shown in names.text
    assert any(f"/usr/{shown}: 10 B\npackage x<b>" in each for each in names.text)

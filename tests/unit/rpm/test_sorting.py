"""Requirements first, loops as librpm breaks them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from compose.rpm.sorting import Relation, sort


def relations(*pairs: tuple[int, int], strong: Sequence[tuple[int, int]] = ()) -> list[Relation]:
    return [Relation(before=before, after=after, strong=(before, after) in strong) for before, after in pairs]


def test_without_relations_the_order_is_the_reverse_one() -> None:
    """As in librpm: of equals, what comes later is put before."""
    assert sort(3, []) == [2, 1, 0]


def test_what_most_require_comes_first() -> None:
    assert sort(5, relations((1, 2), (1, 3), (0, 4))) == [1, 0, 4, 2, 3]


def test_a_loop_begins_where_no_scriptlet_is_hurt() -> None:
    loop = [(0, 1), (1, 2), (2, 0)]
    for strong in loop:
        order = sort(3, relations(*loop, strong=[strong]))
        assert order.index(strong[0]) < order.index(strong[1])


def test_a_loop_is_whole_before_what_requires_one_of_it() -> None:
    order = sort(4, relations((0, 1), (1, 0), (0, 3), (2, 0)))
    assert order[0] == 2
    assert set(order[1:3]) == {0, 1}
    assert order[3] == 3


def test_some_wait_for_the_others() -> None:
    assert sort(3, [], last={2: 1}) == [1, 0, 2]
    assert sort(3, [], last={1: 1, 2: 1}) == [0, 2, 1]
    assert sort(2, [], last={0: 1, 1: 3}) == [0, 1]


@given(st.data())
def test_each_is_there_once_and_after_what_it_requires(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    pairs = data.draw(st.lists(st.sampled_from(list(itertools.permutations(range(count), 2))), unique=True))
    order = sort(count, relations(*pairs))
    assert sorted(order) == list(range(count))
    reached = {node: {node} for node in range(count)}
    for _ in range(count):
        for before, after in pairs:
            reached[before] |= reached[after]
    for before, after in pairs:
        if before not in reached[after]:
            assert order.index(before) < order.index(after)

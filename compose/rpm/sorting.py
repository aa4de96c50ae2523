"""Requirements first, also where packages require each other.

The rules are librpm's: what most others require comes first of what could be next; a loop is one thing to all that is outside
of it, and begins where that breaks no requirement of a scriptlet, or the fewest. Nothing but the packages decides: librpm
itself took the members of a loop in the reverse order before 6.0, and asks the links in the / of the machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Two packages, by their positions. strong: `after` has scriptlets that need `before`."""

    before: int
    after: int
    strong: bool


def sort(count: int, relations: Sequence[Relation], last: Mapping[int, int] = _NONE) -> list[int]:
    """Positions 0 to count - 1 in the order of installation.

    relations: each two packages once, none with itself. last: packages that wait for the others that could be next, each with
    a kind; those of one kind do not wait for each other.
    """
    return _Sorter(count, relations, last).run()


class _Sorter:
    def __init__(self, count: int, relations: Sequence[Relation], last: Mapping[int, int]) -> None:
        self._last = last
        self._order: list[int] = []
        # relations that were found last come first, as in librpm
        self._followers: list[list[int]] = [[] for _ in range(count)]
        self._required: list[list[Relation]] = [[] for _ in range(count)]
        for each in reversed(relations):
            self._followers[each.before].append(each.after)
            self._required[each.after].append(each)
        self._loops = list(_loops(self._followers))
        self._loop_of = {node: number for number, loop in enumerate(self._loops) for node in loop}
        self._waits_for = [len(each) for each in self._required]
        self._loop_waits_for = [
            sum(self._loop_of.get(each.before) != number for node in loop for each in self._required[node])
            for number, loop in enumerate(self._loops)
        ]
        self._done = [False] * count

    def run(self) -> list[int]:
        queue: list[int] = []
        for node, waits_for in enumerate(self._waits_for):
            if not waits_for:
                self._enqueue(node, queue)
        for loop, waits_for in zip(self._loops, self._loop_waits_for, strict=True):
            if not waits_for:
                self._enqueue(loop[0], queue)
        while queue:
            node = queue.pop(0)
            if node in self._loop_of:
                self._take_loop(self._loops[self._loop_of[node]], queue)
            else:
                self._take(node, queue, queue)
        return self._order

    def _enqueue(self, node: int, queue: list[int]) -> None:
        """Before the first that is not required by more packages."""
        for position, other in enumerate(queue):
            waits = node in self._last and self._last[node] != self._last.get(other)
            if not waits and len(self._followers[other]) <= len(self._followers[node]):
                queue.insert(position, node)
                return
        queue.append(node)

    def _take(self, node: int, inside: list[int], outside: list[int]) -> None:
        """inside, outside: where what can be next belongs, if it is in the same loop and if not."""
        self._order.append(node)
        self._done[node] = True
        mine = self._loop_of.get(node)
        for follower in self._followers[node]:
            if self._done[follower]:
                continue
            loop = self._loop_of.get(follower)
            self._waits_for[follower] -= 1
            if not self._waits_for[follower]:
                self._enqueue(follower, inside if loop == mine else outside)
            if loop is not None and loop != mine:
                self._loop_waits_for[loop] -= 1
                if not self._loop_waits_for[loop]:
                    # stands for the whole loop
                    self._enqueue(follower, outside)

    def _take_loop(self, loop: list[int], outside: list[int]) -> None:
        distances = self._distances(loop)
        while remaining := [node for node in reversed(loop) if not self._done[node]]:
            inside = [max(remaining, key=distances.__getitem__)]
            while inside:
                self._take(inside.pop(0), inside, outside)

    def _distances(self, loop: list[int]) -> dict[int, float]:
        """How many requirements lie between a member and the next one that must not come first."""
        members = frozenset(loop)
        inner = {node: [each for each in self._required[node] if each.before in members] for node in loop}
        found: dict[int, float] = {node: 0 for node in loop if any(each.strong for each in inner[node])}
        queue = deque(found)
        while queue:
            node = queue.popleft()
            for each in inner[node]:
                if each.before not in found:
                    found[each.before] = found[node] + 1
                    queue.append(each.before)
        return {node: found.get(node, float("inf")) for node in loop}


def _loops(followers: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Strongly connected components of two nodes and more (Tarjan), the node found last first."""
    depth: dict[int, int] = {}
    lowest: dict[int, int] = {}
    open_nodes: list[int] = []
    finished: set[int] = set()
    for start in range(len(followers)):
        if start in depth:
            continue
        path = [(start, iter(followers[start]))]
        depth[start] = lowest[start] = len(depth)
        open_nodes.append(start)
        while path:
            node, rest = path[-1]
            following = next((each for each in rest if each not in finished), None)
            if following is None:
                path.pop()
                if path:
                    parent = path[-1][0]
                    lowest[parent] = min(lowest[parent], lowest[node])
                if lowest[node] == depth[node]:
                    cut = open_nodes.index(node)
                    component = open_nodes[cut:][::-1]
                    del open_nodes[cut:]
                    finished.update(component)
                    if len(component) > 1:
                        yield component
            elif following in depth:
                lowest[node] = min(lowest[node], depth[following])
            else:
                depth[following] = lowest[following] = len(depth)
                open_nodes.append(following)
                path.append((following, iter(followers[following])))

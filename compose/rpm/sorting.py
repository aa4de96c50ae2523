"""Topological sort of packages: requirements first, with a rule for packages that require each other.

The rules are librpm's. Of the packages that could be next, the one that most others require comes first. To everything
outside, a loop is a single node; inside, it begins where that breaks no requirement of a scriptlet, or the fewest. The
result depends on the packages alone. librpm's own does not: before 6.0 it took the members of a loop in reverse order,
and it follows the symlinks in the / of the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """An ordering constraint on two packages, given by position. strong: `after` has scriptlets that need `before`."""

    before: int
    after: int
    strong: bool


def sort(count: int, relations: Sequence[Relation], last: Mapping[int, int] = _NONE) -> list[int]:
    """Return the positions 0 to count - 1 in installation order.

    relations: at most one per (before, after), none of a package with itself. last: packages that let others that could
    be next go first, each with a kind; those of the same kind do not wait for each other.
    """
    return _Sorter(count, relations, last).run()


class _Sorter:
    def __init__(self, count: int, relations: Sequence[Relation], last: Mapping[int, int]) -> None:
        self._last = last
        self._order: list[int] = []
        # relations found last come first, as in librpm
        self._followers: list[list[int]] = [[] for _ in range(count)]
        self._required: list[list[Relation]] = [[] for _ in range(count)]
        for relation in reversed(relations):
            self._followers[relation.before].append(relation.after)
            self._required[relation.after].append(relation)
        self._loops = list(_loops(self._followers))
        self._loop_of = {node: number for number, loop in enumerate(self._loops) for node in loop}
        self._waits_for = [len(required) for required in self._required]
        self._loop_waits_for = [
            sum(self._loop_of.get(relation.before) != number for node in loop for relation in self._required[node])
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
        """Insert a node before the first one that is not required by more packages."""
        for position, other in enumerate(queue):
            waits = node in self._last and self._last[node] != self._last.get(other)
            if not waits and len(self._followers[other]) <= len(self._followers[node]):
                queue.insert(position, node)
                return
        queue.append(node)

    def _take(self, node: int, inside: list[int], outside: list[int]) -> None:
        """Append a node to the order, and enqueue what can be next: to `inside` in the same loop, else to `outside`."""
        self._order.append(node)
        self._done[node] = True
        own = self._loop_of.get(node)
        for follower in self._followers[node]:
            if self._done[follower]:
                continue
            loop = self._loop_of.get(follower)
            self._waits_for[follower] -= 1
            if not self._waits_for[follower]:
                self._enqueue(follower, inside if loop == own else outside)
            if loop is not None and loop != own:
                self._loop_waits_for[loop] -= 1
                if not self._loop_waits_for[loop]:
                    # the node stands for the whole loop
                    self._enqueue(follower, outside)

    def _take_loop(self, loop: list[int], outside: list[int]) -> None:
        distances = self._distances(loop)
        while remaining := [node for node in reversed(loop) if not self._done[node]]:
            inside = [max(remaining, key=distances.__getitem__)]
            while inside:
                self._take(inside.pop(0), inside, outside)

    def _distances(self, loop: list[int]) -> dict[int, float]:
        """Return, for each member, how many requirements separate it from the next member that must not come first."""
        members = frozenset(loop)
        inner = {node: [relation for relation in self._required[node] if relation.before in members] for node in loop}
        found: dict[int, float] = {node: 0 for node in loop if any(relation.strong for relation in inner[node])}
        queue = deque(found)
        while queue:
            node = queue.popleft()
            for relation in inner[node]:
                if relation.before not in found:
                    found[relation.before] = found[node] + 1
                    queue.append(relation.before)
        return {node: found.get(node, float("inf")) for node in loop}


def _loops(followers: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the strongly connected components of at least two nodes (Tarjan), in each the node found last first."""
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
            following = next((other for other in rest if other not in finished), None)
            if following is None:
                path.pop()
                if path:
                    parent = path[-1][0]
                    lowest[parent] = min(lowest[parent], lowest[node])
                if lowest[node] == depth[node]:
                    component = [open_nodes.pop()]
                    while component[-1] != node:
                        component.append(open_nodes.pop())
                    finished.update(component)
                    if len(component) > 1:
                        yield component
            elif following in depth:
                lowest[node] = min(lowest[node], depth[following])
            else:
                depth[following] = lowest[following] = len(depth)
                open_nodes.append(following)
                path.append((following, iter(followers[following])))

"""Why a package is in a solution: the shortest dependency chains from the treefile's lines to it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from compose.rpm.nevra import Nevra
from compose.solve.links import Link


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Root:
    """A line of the treefile and a package that it requests. text: the spec, "@core" for a group."""

    place: str
    text: str
    package: Nevra


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A dependency chain. links: from the root's package to the target, empty if they are the same."""

    root: Root
    links: tuple[Link, ...]

    @property
    def weak(self) -> bool:
        """Whether the chain includes a weak dependency."""
        return any(link.weak for link in self.links)


def chains_to(target: Nevra, roots: Iterable[Root], links: Iterable[Link]) -> tuple[Chain, ...]:
    """The best chain from each root that leads to a package, sorted from best to worst.

    The best chain has the fewest weak links, then the fewest links, then the names that sort first.
    """
    into: dict[Nevra, list[Link]] = {}
    for link in sorted(links):
        into.setdefault(link.target, []).append(link)
    # Dijkstra's algorithm, backwards from the target; the cost is (weak links, links)
    cost: dict[Nevra, tuple[int, int]] = {target: (0, 0)}
    step: dict[Nevra, Link] = {}
    queue = [((0, 0), target)]
    while queue:
        reached, package = heapq.heappop(queue)
        if reached > cost[package]:
            continue
        for link in into.get(package, ()):
            total = (reached[0] + link.weak, reached[1] + 1)
            if link.source not in cost or total < cost[link.source]:
                cost[link.source] = total
                step[link.source] = link
                heapq.heappush(queue, (total, link.source))
    found = []
    for root in sorted(roots):
        if root.package in cost:
            path: list[Link] = []
            package = root.package
            while package != target:
                path.append(step[package])
                package = step[package].target
            found.append(Chain(root=root, links=tuple(path)))
    return tuple(sorted(found, key=lambda chain: (cost[chain.root.package], chain.root)))

"""Dependency links: which package of a solution pulls in which other, by the dependencies in their headers."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from compose.rpm.nevra import Nevra
from compose.rpm.richdeps import rich_words

_CONDITIONS = ("if", "unless")


class Need(enum.StrEnum):
    """The kinds of dependency that pull in a package."""

    REQUIRES = "requires"
    RECOMMENDS = "recommends"
    SUPPLEMENTS = "supplements"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """`source` pulls in `target`. dependency: as source declares it ("libc.so.6()(64bit)"), or target for SUPPLEMENTS."""

    source: Nevra
    target: Nevra
    need: Need
    dependency: str

    @property
    def weak(self) -> bool:
        return self.need is not Need.REQUIRES


def links_of(dnf: Any, base: Any, packages: Iterable[Any]) -> tuple[Link, ...]:
    """Every dependency of one of the packages that another of them satisfies, sorted. packages: libdnf5 packages."""
    chosen = dnf.rpm.PackageSet(base)
    for package in packages:
        chosen.add(package)
    known: dict[str, frozenset[Nevra]] = {}

    def providers(dependency: str) -> frozenset[Nevra]:
        if dependency not in known:
            found = providing(dnf.rpm.PackageQuery(chosen), dnf.rpm.PackageQuery(chosen), dependency)
            known[dependency] = frozenset(nevra_of(package) for package in found)
        return known[dependency]

    return tuple(sorted(set(_links(chosen, providers))))


def providing(query: Any, files: Any, dependency: str) -> Any:
    """The packages that provide a dependency, which must not be rich. query, files: two identical libdnf5 queries."""
    query.filter_provides([dependency])
    if dependency.startswith("/"):
        # a path may be provided explicitly ("/bin/sh"), or be a file of the package
        files.filter_file([dependency])
        query.update(files)
    return query


def nevra_of(package: Any) -> Nevra:
    """The NEVRA of a libdnf5 package, or of one that an advisory of libdnf5 lists."""
    return Nevra(
        name=package.get_name(),
        epoch=int(package.get_epoch() or 0),
        version=package.get_version(),
        release=package.get_release(),
        arch=package.get_arch(),
    )


def _links(chosen: Any, providers: Callable[[str], frozenset[Nevra]]) -> Iterator[Link]:
    for package in chosen:
        mine = nevra_of(package)
        declared = (
            (Need.REQUIRES, package.get_requires()),
            (Need.REQUIRES, package.get_requires_pre()),
            (Need.RECOMMENDS, package.get_recommends()),
            (Need.SUPPLEMENTS, package.get_supplements()),
        )
        for need, dependencies in declared:
            for dependency in dependencies:
                text = dependency.to_string()
                for other in satisfied_by(text, providers) - {mine}:
                    source, target = (other, mine) if need is Need.SUPPLEMENTS else (mine, other)
                    yield Link(source=source, target=target, need=need, dependency=text)


def satisfied_by(dependency: str, providers: Callable[[str], frozenset[Nevra]]) -> frozenset[Nevra]:
    """The packages that satisfy a dependency; none if its condition does not hold.

    For rich dependencies ("(a or b)", "(a if b else c)") see rpm's docs/manual/boolean_dependencies.md.
    """
    if not dependency.startswith("("):
        return providers(dependency)
    try:
        return _rich(rich_words(dependency), providers)
    except RecursionError:
        # nested in hundreds of parentheses: only a malicious package has it
        return frozenset()


def _rich(words: list[str], providers: Callable[[str], frozenset[Nevra]]) -> frozenset[Nevra]:
    """Evaluate the rich dependency in parentheses at the start of `words`, and consume its words."""
    words.pop(0)
    operands: list[frozenset[Nevra]] = []
    operators: list[str] = []
    simple: list[str] = []
    while words:
        if words[0] == "(":
            operands.append(_rich(words, providers))
            continue
        word = words.pop(0)
        if word in (")", "and", "or", "with", "without", "else", *_CONDITIONS):
            if simple:
                operands.append(providers(" ".join(simple)))
                simple = []
            if word == ")":
                break
            operators.append(word)
        else:
            simple.append(word)
    if len(operands) <= len(operators):
        # malformed: only a malicious package has it
        return frozenset()
    found = operands[0]
    if operators and operators[0] in _CONDITIONS:
        otherwise = operands[2] if len(operands) > 2 else frozenset()
        return found if bool(operands[1]) == (operators[0] == "if") else otherwise
    for operator, operand in zip(operators, operands[1:], strict=False):
        match operator:
            case "with":
                found &= operand
            case "without":
                found -= operand
            case _:
                found |= operand
    return found

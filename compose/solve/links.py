"""Which package of a solution brings which along, by the dependencies that their headers declare."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from compose.rpm.nevra import Nevra
from compose.rpm.richdeps import rich_words

_CONDITIONS = ("if", "unless")


class Need(enum.StrEnum):
    """The kinds of dependency that bring a package along."""

    REQUIRES = "requires"
    RECOMMENDS = "recommends"
    SUPPLEMENTS = "supplements"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """source brings target along. dependency: as declared ("libc.so.6()(64bit)"), by the target itself when it supplements."""

    source: Nevra
    target: Nevra
    need: Need
    dependency: str

    @property
    def weak(self) -> bool:
        return self.need is not Need.REQUIRES


def links_of(dnf: Any, base: Any, packages: Iterable[Any]) -> tuple[Link, ...]:
    """Every dependency of a chosen package that another chosen one satisfies, sorted. packages: of libdnf5."""
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
    """The packages that provide a dependency that is not a rich one. query, files: two equal ones of libdnf5."""
    query.filter_provides([dependency])
    if dependency.startswith("/"):
        # declared ("/bin/sh"), or a file of the package
        files.filter_file([dependency])
        query.update(files)
    return query


def nevra_of(package: Any) -> Nevra:
    """Of a package of libdnf5."""
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
            for each in dependencies:
                text = each.to_string()
                for other in satisfied_by(text, providers) - {mine}:
                    one, two = (other, mine) if need is Need.SUPPLEMENTS else (mine, other)
                    yield Link(source=one, target=two, need=need, dependency=text)


def satisfied_by(dependency: str, providers: Callable[[str], frozenset[Nevra]]) -> frozenset[Nevra]:
    """The packages that satisfy a dependency, none when its condition does not hold.

    Rich dependencies ("(a or b)", "(a if b else c)") are those of rpm's docs/manual/boolean_dependencies.md.
    """
    if not dependency.startswith("("):
        return providers(dependency)
    return _rich(rich_words(dependency), providers)


def _rich(words: list[str], providers: Callable[[str], frozenset[Nevra]]) -> frozenset[Nevra]:
    """words: one dependency in parentheses, taken off the list."""
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

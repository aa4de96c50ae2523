"""Explains a failed solve, from the treefile's line down to the conflict."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_INDENT = "  "
_SUGGESTIONS = 3
_HEADING = re.compile(r"^ *Problem(?: \d+)?: ")
_BULLET = re.compile(r"^ *- ")
# libsolv's rules in libdnf5's words, in the C locale (solver_problems.cpp)
_SUBJECT = re.compile(r"^(?:installed )?package (?P<nevra>\S+) from (?P<repo>\S+) (?P<rest>.*)$")
_REQUIRES = re.compile(r"^requires (?P<what>.+), but none of the providers can be installed$")
_NOTHING = re.compile(r"^nothing provides (?P<what>.+) needed by (?P<nevra>\S+) from (?P<repo>\S+)$")
_FROM = re.compile(r"(?P<nevra>\S+-\S+-\S+\.\w+) from (?P<repo>\S+)")
_FILTERED = "is filtered out by exclude filtering"
_NOISE = "conflicting requests"


@dataclass(slots=True)
class _Rule:
    """One statement about a package. text: what follows its name. needs: the dependency that the statement is about."""

    nevra: str
    repo: str
    text: str
    needs: str | None = None
    shown: bool = False


def mentioned(problem: str) -> tuple[str, ...]:
    """NEVRAs that libdnf5's description of solver problems mentions, sorted."""
    return tuple(sorted({match["nevra"] for match in _FROM.finditer(problem)}))


def explain(
    problem: str,
    *,
    requested: Mapping[str, Iterable[str]],
    providers: Callable[[str], frozenset[str]],
    hidden: Callable[[str], str],
) -> tuple[str, ...]:
    """Lines that explain the problem: one tree per treefile entry, with dependencies indented below what needs them.

    problem: libdnf5's text. requested: NEVRA -> the treefile entries that request it ("fedora.yaml:12:5: bash"). providers:
    dependency -> NEVRAs that provide it. hidden: NEVRA of a filtered-out package -> what filters it out, as the
    predicate of a sentence. Statements that do not fit into a tree follow in libdnf5's words.
    """
    rules, rest = _parse(problem, hidden)
    lines: list[str] = []

    def show(nevra: str, depth: int) -> None:
        for rule in rules:
            if rule.nevra != nevra or rule.shown:
                continue
            rule.shown = True
            lines.append(f"{_INDENT * depth}{rule.nevra} ({rule.repo}) {rule.text}")
            if rule.needs is not None:
                for provider in sorted(providers(rule.needs)):
                    show(provider, depth + 1)

    needed = {provider for rule in rules if rule.needs is not None for provider in providers(rule.needs)}
    subjects = list(dict.fromkeys(rule.nevra for rule in rules))
    # packages that nothing here needs come first: a requested package that is also a dependency is shown below its dependent
    for nevra in sorted(subjects, key=lambda subject: subject in needed):
        if nevra in requested and any(rule.nevra == nevra and not rule.shown for rule in rules):
            lines.extend(requested[nevra])
            show(nevra, 1)
    for rule in rules:
        if not rule.shown:
            show(rule.nevra, 0)
    return (*lines, *rest)


def _parse(problem: str, hidden: Callable[[str], str]) -> tuple[list[_Rule], list[str]]:
    rules: list[_Rule] = []
    rest: list[str] = []
    seen: set[str] = set()
    for line in problem.splitlines():
        text = _BULLET.sub("", _HEADING.sub("", line)).strip()
        if not text or text == _NOISE or text in seen:
            continue
        seen.add(text)
        if match := _NOTHING.match(text):
            rules.append(
                _Rule(match["nevra"], match["repo"], f"requires {match['what']}, which no enabled repository provides")
            )
        elif match := _SUBJECT.match(text):
            nevra, predicate = match["nevra"], match["rest"]
            needs = None
            if requires := _REQUIRES.match(predicate):
                needs = requires["what"]
                predicate = f"requires {needs}"
            elif predicate == _FILTERED:
                predicate = hidden(nevra)
            rules.append(_Rule(nevra, match["repo"], _FROM.sub(r"\g<nevra> (\g<repo>)", predicate), needs))
        else:
            rest.append(_FROM.sub(r"\g<nevra> (\g<repo>)", text))
    return rules, rest


def name_of(nevra: str) -> str:
    """The name from "name-[epoch:]version-release.arch"."""
    return nevra.rsplit("-", 2)[0]


def nearest(spec: str, names: Iterable[str]) -> tuple[str, ...]:
    """Names that a misspelt spec may mean, best match first."""
    wanted = spec.split()[0].lower() if spec.split() else ""
    by_folded: dict[str, str] = {}
    for name in sorted(names):
        by_folded.setdefault(name.lower(), name)
    close = difflib.get_close_matches(wanted, by_folded, n=_SUGGESTIONS, cutoff=0.75)
    return tuple(by_folded[folded] for folded in close)

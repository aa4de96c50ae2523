"""Dependency links: rich dependencies, and the best chain from a line of the treefile."""

from __future__ import annotations

import pytest

from compose.rpm.nevra import Nevra
from compose.solve.chains import Root, chains_to
from compose.solve.links import Link, Need, satisfied_by


def package(name):
    return Nevra(name=name, epoch=0, version="1", release="1", arch="noarch")


PROVIDERS = {"a": "a", "b": "b", "c >= 1.0": "c", "f(x)(64bit)": "f", "both": "a b"}


def satisfied(dependency):
    found = satisfied_by(dependency, lambda text: frozenset(package(name) for name in PROVIDERS.get(text, "").split()))
    return " ".join(sorted(each.name for each in found))


@pytest.mark.parametrize(
    ("dependency", "expected"),
    [
        ("a", "a"),
        ("f(x)(64bit)", "f"),
        ("gone", ""),
        ("(a or b)", "a b"),
        ("(gone or c >= 1.0)", "c"),
        ("(a and c >= 1.0)", "a c"),
        ("(a if b)", "a"),
        ("(a if gone)", ""),
        ("(a if gone else c >= 1.0)", "c"),
        ("(a if b else c >= 1.0)", "a"),
        ("(a unless b)", ""),
        ("(a unless gone)", "a"),
        ("(both with a)", "a"),
        ("(both without a)", "b"),
        ("((a if gone) or (f(x)(64bit) if (b and c >= 1.0)))", "f"),
        ("(a if (gone or b))", "a"),
        ("()", ""),
        ("(a", ""),
        ("(a if", ""),
        ("(a or)", ""),
        ("(a or " * 100 + "b" + ")" * 100, "a b"),
        ("(a or " * 10_000 + "b" + ")" * 10_000, ""),
    ],
)
def test_what_satisfies_a_dependency(dependency, expected):
    assert satisfied(dependency) == expected


def link(text):
    """ "a>b": a requires b. "a~b": a recommends b."""
    one, two = text.replace("~", ">").split(">")
    need = Need.RECOMMENDS if "~" in text else Need.REQUIRES
    return Link(source=package(one), target=package(two), need=need, dependency=two)


def told(target, roots, links):
    found = chains_to(
        package(target),
        [Root(place=f"t:{number}", text=name, package=package(name)) for number, name in enumerate(roots.split(), 1)],
        [link(each) for each in links.split()],
    )
    return ["".join([chain.root.text, *(("~" if each.weak else ">") + each.target.name for each in chain.links)])
            for chain in found]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "roots", "links", "expected"),
    [
        ("a", "a", "", ["a"]),
        ("c", "a", "a>b b>c", ["a>b>c"]),
        ("c", "a", "a>b b>c a>c", ["a>c"]),
        # a longer way of hard dependencies is better than a short weak one
        ("c", "a", "a~c a>b b>d d>c", ["a>b>d>c"]),
        ("c", "a", "a~b b~c a>d d~c", ["a>d~c"]),
        # best first, one from each line, lines that do not lead there left out
        ("c", "x a b", "a>b b>c", ["b>c", "a>b>c"]),
        ("c", "a", "a>b b>a b>c c>a", ["a>b>c"]),
        ("c", "c a", "a>c", ["c", "a>c"]),
        ("c", "a", "", []),
    ],
)
def test_the_best_chain_of_each_line(target, roots, links, expected):
    assert told(target, roots, links) == expected


def test_weak_chains_are_marked():
    (chain,) = chains_to(package("b"), [Root(place="t:1", text="a", package=package("a"))], [link("a~b")])
    assert chain.weak

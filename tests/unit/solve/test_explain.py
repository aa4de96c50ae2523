from __future__ import annotations

from compose.solve.explain import explain, mentioned, nearest

BROKEN = """\
Problem: package app-1.0-1.noarch from fedora requires broken, but none of the providers can be installed
  - conflicting requests
  - nothing provides nonexist >= 4 needed by broken-2:1.0-1.noarch from updates-testing"""

APP = "app-1.0-1.noarch"
BROKEN_NEVRA = "broken-2:1.0-1.noarch"
LIB = "lib-1.0-1.noarch"


def by_repo_file(nevra):
    return "is filtered out by its .repo file"


def test_the_chain_goes_from_the_treefile_to_the_fault():
    assert mentioned(BROKEN) == (APP, BROKEN_NEVRA)
    lines = explain(
        BROKEN,
        requested={APP: ["fedora.yaml:12:5: app"]},
        providers=lambda dependency: frozenset({BROKEN_NEVRA}) if dependency == "broken" else frozenset(),
        hidden=by_repo_file,
    )
    assert lines == (
        "fedora.yaml:12:5: app",
        f"  {APP} (fedora) requires broken",
        f"    {BROKEN_NEVRA} (updates-testing) requires nonexist >= 4, which no enabled repository provides",
    )


def test_a_hidden_package_names_what_hides_it():
    problem = f"""\
Problem: package {APP} from r requires lib >= 1, but none of the providers can be installed
  - package {LIB} from r is filtered out by exclude filtering"""
    arguments = {"requested": {APP: ["t.yaml:2:5: app"]}, "providers": lambda _: frozenset({LIB})}
    assert explain(problem, **arguments, hidden={LIB: "is not wanted"}.get)[-1] == f"    {LIB} (r) is not wanted"


def test_a_cycle_of_requirements_ends():
    problem = f"""\
Problem: package {APP} from r requires lib, but none of the providers can be installed
  - package {LIB} from r requires app, but none of the providers can be installed"""
    lines = explain(
        problem,
        requested={APP: ["t.yaml:2:5: app"], LIB: ["t.yaml:3:5: lib"]},
        providers=lambda dependency: frozenset({LIB if dependency == "lib" else APP}),
        hidden=by_repo_file,
    )
    assert sorted(line.strip() for line in lines if "requires" in line) == [
        f"{APP} (r) requires lib",
        f"{LIB} (r) requires app",
    ]


def test_a_requested_dependency_is_told_below_what_needs_it():
    problem = f"""\
Problem 1: package {LIB} from r requires base, but none of the providers can be installed
  - package {APP} from r requires lib, but none of the providers can be installed"""
    lines = explain(
        problem,
        requested={LIB: ["t.yaml:2:5: lib"], APP: ["t.yaml:3:5: app"]},
        providers=lambda dependency: frozenset({LIB}) if dependency == "lib" else frozenset(),
        hidden=by_repo_file,
    )
    assert lines == ("t.yaml:3:5: app", f"  {APP} (r) requires lib", f"    {LIB} (r) requires base")


def test_conflicts_and_what_is_not_understood_are_told_too():
    problem = f"""\
Problem 1: package {APP} from r conflicts with lib provided by {LIB} from s
 Problem 2: something that a later libsolv says
  - conflicting requests"""
    lines = explain(problem, requested={}, providers=lambda _: frozenset(), hidden=by_repo_file)
    assert lines == (
        f"{APP} (r) conflicts with lib provided by {LIB} (s)",
        "something that a later libsolv says",
    )


def test_nearest_names():
    names = ["NetworkManager", "bash", "bash-completion", "dash", "vim-minimal"]
    assert nearest("networkmanger", names) == ("NetworkManager",)
    assert nearest("bsah >= 5", names)[0] == "bash"
    assert nearest("zzzzz", names) == ()
    assert nearest("", names) == ()

"""Groups and environments of comps metadata: "@core", or "@^minimal-environment", which never means a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from compose.errors import SolveError
from compose.rpm.specs import PackageSpec
from compose.solve.explain import nearest


def is_group(text: str) -> bool:
    return text.startswith("@")


def members(dnf: Any, base: Any, specs: Iterable[PackageSpec]) -> dict[str, frozenset[str]]:
    """The names of the packages in each group or environment, without optional ones.

    Raises SolveError listing every group that no repository has.
    """
    groups = {group.get_groupid(): group for group in dnf.comps.GroupQuery(base)}
    environments = {environment.get_environmentid(): environment for environment in dnf.comps.EnvironmentQuery(base)}
    found: dict[str, frozenset[str]] = {}
    faults = []
    for spec in specs:
        wanted = spec.text.removeprefix("@")
        name = wanted.removeprefix("^")
        if name in environments:
            ids = [group for group in environments[name].get_groups() if group in groups]
        elif name in groups and name == wanted:
            ids = [name]
        else:
            known = environments.keys() if name != wanted else groups.keys() | environments.keys()
            close = nearest(name, set(known))
            faults.append(
                f"{spec.place}: there is no group {spec.text!r} in the comps metadata of any enabled repository"
                + (f"; did you mean {' or '.join(close)}?" if close else "")
            )
            continue
        found[spec.text] = frozenset(
            package.get_name()
            for group in ids
            for package in groups[group].get_packages()
            if package.get_type() != dnf.comps.PackageType_OPTIONAL
        )
    if faults:
        raise SolveError.of(
            faults,
            f"{len(faults)} of the requested groups cannot be found",
            hint="list the groups with: dnf group list --hidden",
        )
    return found


def add(dnf: Any, goal: Any, text: str) -> None:
    """Add a group or environment, which members() has found, to a libdnf5 goal."""
    settings = dnf.base.GoalJobSettings()
    settings.set_group_with_name(False)
    name = text.removeprefix("@")
    if name.startswith("^"):
        settings.set_group_search_groups(False)
    goal.add_group_install(name.removeprefix("^"), dnf.transaction.TransactionItemReason_USER, settings)

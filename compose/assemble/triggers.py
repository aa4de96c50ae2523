"""Decides which triggers fire when packages are installed, in which order, and with which arguments and input.

The rules are librpm's (rpmpsm.c, rpmtriggers.c), verified with rpm 6.1 by tests/compat/assemble. When a package is installed,
its name and files set off the triggers of all packages installed so far, then those packages set off its own triggers. File
triggers with a priority of 10000 or more run before %post, others after it. The arguments are the numbers of installed
instances of the trigger's own package and of the one that sets it off; a transaction file trigger gets only the first.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from compose.rpm.compare import compare_labels
from compose.rpm.manifest import PackageManifest, Trigger, TriggerCondition, TriggerKind
from compose.rpm.nevra import Nevra

# TRIGGER_PRIORITY_BOUND of rpmtriggers.h
_EARLY = 10_000
# rpmsenseFlags of rpmds.h
_LESS, _GREATER, _EQUAL = 1 << 1, 1 << 2, 1 << 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """A trigger that fires. stdin: for a file trigger, the installed paths that it watches, one per line."""

    manifest: PackageManifest
    trigger: Trigger
    arguments: tuple[str, ...]
    stdin: bytes = b""


def before_unpacking(
    ordered: Sequence[PackageManifest], position: int, watching: Sequence[PackageManifest]
) -> Iterator[Firing]:
    """%triggerprein, before the package at `position` in install order is unpacked. watching: those before it that have
    triggers."""
    yield from _at_name(watching, ordered[position], TriggerKind.PREIN, ("1", "0"))
    yield from _own(ordered, position, position, TriggerKind.PREIN, ("0", "1"))


def before_post(
    ordered: Sequence[PackageManifest],
    position: int,
    watching: Sequence[PackageManifest],
    skipped: Container[tuple[str, str]],
    absent: Container[tuple[str, str]],
) -> Iterator[Firing]:
    """%filetriggerin of high priority, after the package at `position` is unpacked and before its %post. watching: those up to
    it that have triggers.

    skipped: (package, path) of files that are not created when their package is installed, and then set off nothing. absent:
    of those that are recorded as not installed, and set off nothing later either.
    """
    yield from _file_triggers(ordered, position, watching, skipped, absent, early=True)


def after_post(
    ordered: Sequence[PackageManifest],
    position: int,
    watching: Sequence[PackageManifest],
    skipped: Container[tuple[str, str]],
    absent: Container[tuple[str, str]],
) -> Iterator[Firing]:
    """%triggerin, and %filetriggerin of low priority, after the %post of the package at `position`. watching, skipped, absent:
    as in before_post()."""
    yield from _at_name(watching, ordered[position], TriggerKind.IN, ("1", "1"))
    yield from _own(ordered, position, position + 1, TriggerKind.IN, ("1", "1"))
    yield from _file_triggers(ordered, position, watching, skipped, absent, early=False)


def after_transaction(ordered: Sequence[PackageManifest], absent: Container[tuple[str, str]]) -> Iterator[Firing]:
    """%transfiletriggerin, once each: package by package, since all of them are new, and by priority within a package. absent:
    as in before_post()."""
    for package in ordered:
        for manifest, trigger in _by_priority((package,), TriggerKind.TRANS_FILE_IN):
            if stdin := _watched_anywhere(trigger, ordered, absent):
                yield Firing(manifest=manifest, trigger=trigger, arguments=("1",), stdin=stdin)


def _at_name(
    watching: Sequence[PackageManifest], target: PackageManifest, kind: TriggerKind, arguments: tuple[str, ...]
) -> Iterator[Firing]:
    """Triggers of installed packages that the target sets off."""
    for manifest in watching:
        for trigger in manifest.triggers:
            if trigger.kind is kind and any(matches(condition, target.nevra) for condition in trigger.conditions):
                yield Firing(manifest=manifest, trigger=trigger, arguments=arguments)


def _own(
    ordered: Sequence[PackageManifest], position: int, count: int, kind: TriggerKind, arguments: tuple[str, ...]
) -> Iterator[Firing]:
    """A package's own triggers that the first `count` packages set off; each once, sorted by the names they watch."""
    manifest = ordered[position]
    found = sorted(
        (condition.name, index)
        for index, trigger in enumerate(manifest.triggers)
        if trigger.kind is kind
        for condition in trigger.conditions
        if any(matches(condition, other.nevra) for other in ordered[:count])
    )
    for index in dict.fromkeys(index for _, index in found):
        yield Firing(manifest=manifest, trigger=manifest.triggers[index], arguments=arguments)


def _file_triggers(
    ordered: Sequence[PackageManifest],
    position: int,
    watching: Sequence[PackageManifest],
    skipped: Container[tuple[str, str]],
    absent: Container[tuple[str, str]],
    *,
    early: bool,
) -> Iterator[Firing]:
    target = ordered[position]
    for manifest, trigger in _by_priority(watching, TriggerKind.FILE_IN):
        if (trigger.priority >= _EARLY) is early and (stdin := _watched_in(trigger, target, skipped)):
            yield Firing(manifest=manifest, trigger=trigger, arguments=("1", "1"), stdin=stdin)
    for manifest, trigger in _by_priority((target,), TriggerKind.FILE_IN):
        if (trigger.priority >= _EARLY) is early and (stdin := _watched_anywhere(trigger, ordered[:position], absent)):
            yield Firing(manifest=manifest, trigger=trigger, arguments=("1", "1"), stdin=stdin)


def _by_priority(installed: Sequence[PackageManifest], kind: TriggerKind) -> list[tuple[PackageManifest, Trigger]]:
    found = [(manifest, trigger) for manifest in installed for trigger in manifest.triggers if trigger.kind is kind]
    # the sort is stable: install order within a priority
    return sorted(found, key=lambda row: -row[1].priority)


def _watched_in(trigger: Trigger, package: PackageManifest, skipped: Container[tuple[str, str]]) -> bytes:
    """Paths of a package that a file trigger watches, one per line and prefix by prefix, so a path may occur twice.

    A prefix is compared as text: /usr/lib also watches /usr/lib64.
    """
    nevra = str(package.nevra)
    lines = [
        f"/{file.path}\n"
        for prefix in _prefixes(trigger)
        for file in package.files
        if file.path.startswith(prefix) and (nevra, file.path) not in skipped
    ]
    return "".join(lines).encode()


def _watched_anywhere(
    trigger: Trigger, packages: Sequence[PackageManifest], absent: Container[tuple[str, str]]
) -> bytes:
    """The same for packages in the rpm database. librpm searches it by directory: unless a directory of the package begins with
    the prefix, it finds none of its files, even if their paths do."""
    lines = []
    for prefix in _prefixes(trigger):
        for package in packages:
            found = [file.path for file in package.files if file.path.startswith(prefix)]
            # a directory in RPMTAG_DIRNAMES ends with a slash
            if any(path[: path.rfind("/") + 1].startswith(prefix) for path in found):
                nevra = str(package.nevra)
                lines += [path for path in found if (nevra, path) not in absent]
    return "".join(f"/{path}\n" for path in lines).encode()


def _prefixes(trigger: Trigger) -> list[str]:
    """The prefixes that a trigger watches, without the leading slash, like paths in manifests. A name without one is not a
    path and watches nothing."""
    names = (condition.name for condition in trigger.conditions)
    return [name.removeprefix("/") for name in names if not name or name.startswith("/")]


def matches(condition: TriggerCondition, nevra: Nevra) -> bool:
    """Whether a package matches a trigger condition. A version or release that the condition leaves out is not compared."""
    if condition.name != nevra.name:
        return False
    if not condition.version:
        return True
    epoch, colon, rest = condition.version.rpartition(":")
    version, dash, release = rest.partition("-")
    order = compare_labels(
        (str(nevra.epoch), nevra.version, nevra.release if dash else ""),
        (epoch if colon else "0", version, release),
    )
    wanted = _LESS if order < 0 else _GREATER if order > 0 else _EQUAL
    return bool(condition.flags & wanted)

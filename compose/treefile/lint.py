"""Lints treefiles: finds what is valid but most likely a mistake. Each finding has a rule and a place."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compose.architecture import BASE_ARCHES
from compose.errors import TreefileError
from compose.findings import Level, Rule, by_id
from compose.rpm.repofile import RepoSection, read_repo_files
from compose.rpm.repos import UNSET_RELEASEVER, RepoAccess, override_dirs_of, repo_dirs_of, variables, vars_dirs_of
from compose.treefile.conditions import references
from compose.treefile.flatten import Config, Flattener, items_of, parse_source
from compose.treefile.keys import KEYS, nearest
from compose.treefile.load import flatten
from compose.treefile.packages import split_packages
from compose.treefile.source import Located, Place

_PER_ARCH = re.compile(r"packages-(?!remove$)[a-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One finding. place: the offending line. message: what is wrong there."""

    place: Place
    rule: str
    message: str

    @property
    def level(self) -> Level:
        return RULES[self.rule].level


RULES = by_id(
    Rule(
        id="deprecated-spelling",
        level=Level.WARNING,
        summary="A key in its old spelling",
        advice="compose treefile migrate renames it",
    ),
    Rule(
        id="deprecated-key",
        level=Level.WARNING,
        summary="A key that is obsolete or deprecated",
        advice="remove it",
    ),
    Rule(
        id="duplicate-package",
        level=Level.WARNING,
        summary="A package that is listed more than once",
        advice="keep one of the lines",
    ),
    Rule(
        id="excluded-package",
        level=Level.ERROR,
        summary="A package that is both requested and excluded",
        advice="drop it from packages or from exclude-packages; packages-remove removes a package that an include lists",
    ),
    Rule(
        id="include-not-taken",
        level=Level.NOTE,
        summary="An include that this compose does not follow",
        advice="nothing, if it is for another architecture or edition",
    ),
    Rule(
        id="include-missing",
        level=Level.WARNING,
        summary="An include that is not followed here and whose file does not exist",
        advice="add the file or drop the include",
    ),
    Rule(
        id="arch-unknown",
        level=Level.WARNING,
        summary="A key for an architecture that RPM does not have",
        advice="use the base architecture: x86_64, aarch64, ppc64le, s390x, ...",
    ),
    Rule(
        id="repo-without-gpgcheck",
        level=Level.WARNING,
        summary="A repository whose packages are installed without checking their signatures",
        advice="set gpgcheck=1 and gpgkey= in the .repo file",
    ),
    Rule(
        id="repo-without-gpgkey",
        level=Level.ERROR,
        summary="A repository with gpgcheck=1 but no key",
        advice="set gpgkey= in the .repo file; keys of this machine are never used",
    ),
    Rule(
        id="repo-unknown",
        level=Level.ERROR,
        summary="A repository that no .repo file defines",
        advice="add its .repo file beside the top treefile, or correct the id",
    ),
    Rule(
        id="releasever-unset",
        level=Level.ERROR,
        summary="A .repo file that uses $releasever, which nothing sets",
        advice="set releasever in the treefile",
    ),
    Rule(
        id="variable-unused",
        level=Level.NOTE,
        summary="A variable that no condition or ${} uses",
        advice="remove it",
    ),
    Rule(
        id="json-comment",
        level=Level.WARNING,
        summary="An unknown key in a JSON treefile, ignored as a comment",
        advice="correct it if it is meant to be a key; in YAML a comment begins with #",
    ),
    Rule(
        id="inline-unknown-key",
        level=Level.WARNING,
        summary="A key that has no effect in an inline treefile (conditional-include)",
        advice="correct or remove it",
    ),
    Rule(
        id="script-goes-on-after-errors",
        level=Level.WARNING,
        summary="A postprocess shell script whose commands may fail unnoticed",
        advice="begin it with set -e (set -euo pipefail for bash)",
    ),
    Rule(
        id="packages-remove-needless",
        level=Level.WARNING,
        summary="packages-remove lists a package that no include lists",
        advice="remove the line",
    ),
)


@dataclass(frozen=True, slots=True)
class _Subject:
    """The input of the rules. sources: each file that was read, parsed but not interpreted."""

    config: Config
    flattener: Flattener
    sources: dict[str, Located]
    directory: str
    source_root: str | None


def lint(path: str, *, basearch: str, source_root: str | None = None) -> tuple[Finding, ...]:
    """Findings in a treefile, the files it includes and its .repo files, sorted by place. Raises TreefileError for a treefile
    that does not load."""
    config, flattener = flatten(path, basearch=basearch)
    sources = {file: parse_source(data, file) for file, data in flattener.files.items()}
    directory = os.path.dirname(os.path.abspath(path))
    subject = _Subject(config, flattener, sources, directory, source_root)
    return tuple(sorted({finding for check in _CHECKS for finding in check(subject)}))


def _spelling(subject: _Subject) -> Iterator[Finding]:
    for place, old, new in subject.flattener.legacy:
        yield Finding(place=place, rule="deprecated-spelling", message=f"{old} is the old spelling of {new}")


def _obsolete(subject: _Subject) -> Iterator[Finding]:
    messages = {
        "rojig": "rojig has no effect",
        "platform-module": "platform-module has no effect: modularity has been retired",
        "cliwrap": "cliwrap is deprecated",
        "initramfs-args": "initramfs-args is deprecated: put a file into /usr/lib/dracut/dracut.conf.d",
    }
    for source in subject.sources.values():
        for key, message in messages.items():
            if key in source.value and source.value[key].value not in (False, None):
                yield Finding(place=source.value[key].place, rule="deprecated-key", message=message)


def _packages(subject: _Subject) -> Iterator[Finding]:
    places: dict[str, list[Place]] = defaultdict(list)
    for item in items_of(subject.config, "packages"):
        places[item.value].append(item.place)
    for name, found in places.items():
        ordered = sorted(set(found))
        for place in ordered[1:]:
            yield Finding(place=place, rule="duplicate-package", message=f"{name} is already listed at {ordered[0]}")
    for item in items_of(subject.config, "exclude-packages"):
        for place in sorted(set(places.get(item.value, ()))):
            yield Finding(
                place=place,
                rule="excluded-package",
                message=f"{item.value} is excluded at {item.place}; no solve can succeed",
            )


def _includes(subject: _Subject) -> Iterator[Finding]:
    for place, name, reason in subject.flattener.untaken:
        path = os.path.join(os.path.dirname(place.file), name)
        if os.path.exists(path):
            yield Finding(place=place, rule="include-not-taken", message=f"{name} is not included: {reason}")
        else:
            yield Finding(
                place=place, rule="include-missing", message=f"{path} does not exist (not included here: {reason})"
            )


def _architectures(subject: _Subject) -> Iterator[Finding]:
    for source in subject.sources.values():
        named = [
            (key.removeprefix("packages-"), value) for key, value in source.value.items() if _PER_ARCH.fullmatch(key)
        ]
        by_arch = source.value.get("arch-include")
        named += by_arch.value.items() if by_arch is not None and by_arch.value else ()
        for arch, value in named:
            if arch not in BASE_ARCHES:
                near = nearest(arch, BASE_ARCHES)
                hint = f"; did you mean {near}?" if near else ""
                yield Finding(
                    place=value.place, rule="arch-unknown", message=f"{arch} is not a base architecture{hint}"
                )


def _repositories(subject: _Subject) -> Iterator[Finding]:
    root = subject.source_root
    places = repo_dirs_of(root) if root else (subject.directory,)
    overrides = override_dirs_of(root) if root else ()
    try:
        sections = {section.id: section for section in read_repo_files(places, overrides)}
    except TreefileError as error:
        for line in error.details or (error.message,):
            match = re.match(r"(?P<file>.*?):(?P<line>\d+): (?P<text>.*)", line)
            if match is None:
                raise
            place = Place(match["file"], int(match["line"]), 1)
            yield Finding(place=place, rule="repo-unknown", message=match["text"])
        return
    wanted = subject.config.get("repos")
    if wanted is None or not wanted.value:
        used = [section for section in sections.values() if section.enabled]
    else:
        used = [sections[item.value] for item in wanted.value if item.value in sections]
        for item in wanted.value:
            if item.value not in sections:
                known = ", ".join(sorted(sections)) or "none"
                yield Finding(
                    place=item.place,
                    rule="repo-unknown",
                    message=f"no .repo file defines {item.value} (defined: {known})",
                )
    for section in used:
        yield from _repository(subject, section)


def _repository(subject: _Subject, section: RepoSection) -> Iterator[Finding]:
    place = Place(section.path, section.line, 1)
    if not section.gpgcheck:
        yield Finding(
            place=place,
            rule="repo-without-gpgcheck",
            message=f"packages of {section.id} are accepted with any signature or none",
        )
    elif section.option("gpgkey") is None:
        yield Finding(place=place, rule="repo-without-gpgkey", message=f"{section.id} has gpgcheck=1 but no gpgkey")
    if not _has_releasever(subject):
        for option in section.options:
            if re.search(r"\$(?:releasever\b|\{releasever)", option.value):
                where = Place(option.path, option.line, 1)
                yield Finding(
                    place=where, rule="releasever-unset", message=f"{option.key} of {section.id} uses $releasever"
                )
                break


def _has_releasever(subject: _Subject) -> bool:
    if "releasever" in subject.config:
        return True
    root = subject.source_root
    vars_dirs = vars_dirs_of(root) if root else ()
    access = RepoAccess(repo_dirs=(), basearch=subject.flattener.basearch, vars_dirs=vars_dirs, root=root)
    return variables(access)["releasever"] != UNSET_RELEASEVER


def _variables(subject: _Subject) -> Iterator[Finding]:
    used: set[str] = set()
    for source in subject.sources.values():
        for key, value in source.value.items():
            if key == "conditional-include":
                for row in value.value or []:
                    conditions = row.value["if"]
                    rows = conditions.value if isinstance(conditions.value, list) else [conditions]
                    used.update(name for item in rows for name in re.findall(r"^\s*(\w+)", str(item.value)))
            if key != "variables":
                used.update(references(str(value.plain())))
    for source in subject.sources.values():
        variables = source.value.get("variables")
        for name, value in variables.value.items() if variables is not None and variables.value else ():
            if name not in used:
                yield Finding(place=value.place, rule="variable-unused", message=f"{name} is never used")


def _remarks(subject: _Subject) -> Iterator[Finding]:
    for remark in subject.flattener.remarks:
        yield Finding(place=remark.place, rule=remark.rule, message=remark.message)


def _inline(subject: _Subject) -> Iterator[Finding]:
    for source in subject.sources.values():
        rows = source.value.get("conditional-include")
        for row in rows.value or [] if rows is not None else []:
            body = row.value["include"]
            for key, value in body.value.items() if isinstance(body.value, dict) else ():
                if key not in KEYS and not key.startswith("packages-"):
                    yield Finding(place=value.place, rule="inline-unknown-key", message=f"{key}: unknown key, ignored")
                elif key == "packages":
                    yield from _unsplit(value)


def _unsplit(packages: Located) -> Iterator[Finding]:
    """Find texts with several packages in an inline treefile, where rpm-ostree does not split at spaces."""
    for item in packages.value or []:
        try:
            several = isinstance(item.value, str) and len(split_packages(item.value)) > 1
        except ValueError:
            # such as a requirement of a version, which is one
            continue
        if several:
            yield Finding(
                place=item.place,
                rule="inline-unknown-key",
                message=f"{item.value!r} counts as one package: inline treefiles do not split texts at spaces",
            )


def _scripts(subject: _Subject) -> Iterator[Finding]:
    for item in items_of(subject.config, "postprocess"):
        if _ignores_errors(item.value):
            yield Finding(
                place=item.place,
                rule="script-goes-on-after-errors",
                message="the script succeeds if its last command does, even if others failed",
            )


def _ignores_errors(script: str) -> bool:
    first, _, rest = script.strip().partition("\n")
    if not first.startswith("#!"):
        first, rest = "#!/bin/sh", script.strip()
    if not re.search(r"/(?:ba|da|z|k)?sh\b", first):
        return False
    commands = [line for line in rest.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stops = re.search(r"\s-\w*e", first) or re.search(r"(?m)^\s*set\s+(?:-\w*e|-o\s+errexit)", rest)
    return len(commands) > 1 and not stops


_CHECKS: tuple[Callable[[_Subject], Iterator[Finding]], ...] = (
    _spelling,
    _obsolete,
    _packages,
    _includes,
    _architectures,
    _repositories,
    _variables,
    _remarks,
    _inline,
    _scripts,
)

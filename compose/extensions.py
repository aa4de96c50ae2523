"""The file that `compose extensions` reads: packages that are not in a tree, but that clients may add to it.

    repos: [extras]
    extensions:
      usbguard:
        packages: [usbguard]
        architectures: [x86_64, aarch64]
      kernel-devel:
        kind: development
        packages: [kernel-devel, kernel-headers]
        match-base-evr: kernel

Its format is that of rpm-ostree, and so is that of the JSON file written next to the packages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from compose.errors import TreefileError
from compose.rpm.specs import PackageSpec
from compose.treefile.keys import nearest
from compose.treefile.parse import parse_json, parse_yaml
from compose.treefile.source import Located, SourceFault, type_name


class Kind(StrEnum):
    """OS_EXTENSION: solved on top of the base, with dependencies. DEVELOPMENT: exactly the named packages."""

    OS_EXTENSION = "os-extension"
    DEVELOPMENT = "development"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension. repos: ids of repositories to enable for it. architectures: RPM base architectures it is for, None for all.
    match_base_evr: a package of the base whose epoch, version and release its packages must have, None for any. place:
    FILE:LINE:COLUMN."""

    name: str
    kind: Kind
    packages: tuple[PackageSpec, ...]
    repos: tuple[str, ...]
    architectures: tuple[str, ...] | None
    match_base_evr: str | None
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """Content of the file. repos: ids of repositories to enable for all. extensions: sorted by name. warnings: of unknown
    keys."""

    repos: tuple[str, ...]
    extensions: tuple[Extension, ...]
    warnings: tuple[str, ...] = ()

    @property
    def all_repos(self) -> tuple[str, ...]:
        """Repositories of the file and of all its extensions, each once."""
        return tuple(dict.fromkeys((*self.repos, *(repo for each in self.extensions for repo in each.repos))))

    def packages(self, kind: Kind) -> tuple[PackageSpec, ...]:
        """Packages of all extensions of a kind."""
        return tuple(spec for each in self.extensions if each.kind is kind for spec in each.packages)

    def json(self) -> str:
        """Return the content of extensions.json; the same extensions give the same bytes."""
        document: dict[str, Any] = {"extensions": {each.name: _row(each) for each in self.extensions}}
        if self.all_repos:
            document["repos"] = list(self.all_repos)
        return json.dumps(document, indent=2, sort_keys=True) + "\n"


def parse_extensions(data: bytes, path: str) -> Extensions:
    """Parse the file, which is YAML or JSON. Raises TreefileError with all faults, each with file:line:column."""
    try:
        source = parse_json(data, path) if data.lstrip().startswith(b"{") else parse_yaml(data, path)
    except SourceFault as fault:
        raise TreefileError(str(fault)) from fault
    reader = _Reader()
    found = reader.read(source)
    if reader.faults:
        raise TreefileError.of(reader.faults, f"{path}: {len(reader.faults)} faults in the extensions")
    return found


def on_base(extensions: Extensions, basearch: str, base: Mapping[str, str]) -> Extensions:
    """Select the extensions for an architecture, and resolve match-base-evr. base: [EPOCH:]VERSION-RELEASE of the installed
    packages by name.

    Raises TreefileError if the base already has a package of an os-extension, or lacks one that match-base-evr names.
    """
    faults: list[str] = []
    kept = []
    for each in extensions.extensions:
        if each.architectures is not None and basearch not in each.architectures:
            continue
        if each.kind is Kind.OS_EXTENSION:
            faults += [
                f"{spec.place}: package {spec.text} already present in base"
                for spec in each.packages
                if spec.text in base
            ]
        if each.match_base_evr is not None:
            evr = base.get(each.match_base_evr)
            if evr is None:
                faults.append(f"{each.place}: match-base-evr: the base has no package {each.match_base_evr}")
                continue
            each = replace(each, packages=tuple(replace(spec, text=f"{spec.text}-{evr}") for spec in each.packages))
        kept.append(each)
    if faults:
        raise TreefileError.of(
            faults,
            f"{len(faults)} faults in the extensions",
            hint="leave out packages that are in the tree; match-base-evr must name one that is",
        )
    return replace(extensions, extensions=tuple(kept))


def _row(extension: Extension) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": extension.kind.value, "packages": [spec.text for spec in extension.packages]}
    if extension.architectures is not None:
        row["architectures"] = list(extension.architectures)
    if extension.match_base_evr is not None:
        row["match-base-evr"] = extension.match_base_evr
    return row


_TOP = ("repos", "extensions")
_KEYS = ("kind", "packages", "repos", "architectures", "match-base-evr")


class _Reader:
    """Collects all faults, to report them together."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._warnings: list[str] = []

    def read(self, source: Located) -> Extensions:
        top = self._mapping(source, "extensions file")
        self._unknown(top, _TOP, "")
        rows = top.get("extensions")
        found = self._mapping(rows, "extensions") if rows is not None else {}
        return Extensions(
            repos=tuple(each.value for each in self._texts(top.get("repos"), "repos")),
            extensions=tuple(self._extension(name, found[name]) for name in sorted(found)),
            warnings=tuple(self._warnings),
        )

    def _extension(self, name: str, source: Located) -> Extension:
        where = f"extensions.{name}"
        row = self._mapping(source, where)
        self._unknown(row, _KEYS, f"{where}.")
        listed = row.get("packages", source)
        packages = self._texts(row.get("packages"), f"{where}.packages")
        if listed is source or not listed.value:
            self._fault(listed, f"{where}.packages: must not be empty")
        architectures = row.get("architectures")
        matched = row.get("match-base-evr")
        return Extension(
            name=name,
            kind=self._kind(row.get("kind"), f"{where}.kind"),
            packages=tuple(PackageSpec(text=each.value, place=str(each.place)) for each in packages),
            repos=tuple(each.value for each in self._texts(row.get("repos"), f"{where}.repos")),
            architectures=None
            if architectures is None or architectures.value is None
            else tuple(each.value for each in self._texts(architectures, f"{where}.architectures")),
            match_base_evr=None
            if matched is None or matched.value is None
            else self._text(matched, f"{where}.match-base-evr"),
            place=str(source.place),
        )

    def _kind(self, source: Located | None, where: str) -> Kind:
        if source is None or source.value is None:
            return Kind.OS_EXTENSION
        known = [each.value for each in Kind]
        if source.value not in known:
            near = nearest(str(source.value), known)
            self._fault(
                source, f"{where}: must be one of {', '.join(known)}" + (f'; did you mean "{near}"?' if near else "")
            )
            return Kind.OS_EXTENSION
        return Kind(source.value)

    def _mapping(self, source: Located, where: str) -> dict[str, Located]:
        if source.value is None:
            return {}
        if not isinstance(source.value, dict):
            self._fault(source, f"{where}: must be a mapping, not {type_name(source.value)}")
            return {}
        return source.value

    def _texts(self, source: Located | None, where: str) -> list[Located]:
        if source is None or source.value is None:
            return []
        if not isinstance(source.value, list):
            self._fault(source, f"{where}: must be a list, not {type_name(source.value)}")
            return []
        for number, each in enumerate(source.value):
            self._text(each, f"{where}[{number}]")
        return [each for each in source.value if isinstance(each.value, str)]

    def _text(self, source: Located, where: str) -> str:
        if not isinstance(source.value, str):
            self._fault(source, f"{where}: must be text, not {type_name(source.value)}")
            return ""
        if not source.value.strip():
            self._fault(source, f"{where}: must not be empty")
        return source.value

    def _unknown(self, row: Mapping[str, Located], known: tuple[str, ...], where: str) -> None:
        # only a warning, because rpm-ostree ignores unknown keys, and existing files have obsolete ones
        for name in (each for each in row if each not in known):
            near = nearest(name, known)
            self._warnings.append(
                f"{row[name].place}: {where}{name}: unknown key is ignored"
                + (f'; did you mean "{near}"?' if near else "")
            )

    def _fault(self, source: Located, message: str) -> None:
        self.faults.append(f"{source.place}: {message}")

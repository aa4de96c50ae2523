"""compose's own lockfile: YAML for all architectures, sorted, with one line per package and per security advisory so that diffs
read well.

    compose-lock: 2
    arches:
      x86_64:
        request: 5891b5b5...
        specs: ["bash", "systemd"]
        repos:
          fedora: 1761955200
        packages:
          - {"nevra": "bash-0:5.3.0-2.fc43.x86_64", "repo": "fedora", "location": "Packages/b/bash-5.3.0-2.fc43.x86_64.rpm",
             "checksum": "sha256:...", "size": 1234, "installed": 5678, "source": "bash-5.3.0-2.fc43.src.rpm",
             "key": "...", "reason": "requested", "specs": ["bash"]}
        advisories:
          - {"id": "FEDORA-2025-0123456789", "severity": "important", "packages": ["bash-5.3.0-2.fc43.x86_64"],
             "references": [{"url": "https://...", "title": "CVE-2025-0001"}]}

(each package and each advisory on one line). "key", "specs", "severity" and "references" are left out when empty. So is "base",
the base URL of the location if repodata names one other than the repository's own. "advisories" is left out when they are not
known, as in version 1, which is read too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from compose.errors import TreefileError
from compose.lock.model import ArchLock, Lock, LockedPackage
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, Reason, Reference, ResolvedPackage, lies_below
from compose.treefile.parse import parse_yaml
from compose.treefile.source import Located, SourceFault

MARK = "compose-lock"
_VERSION = 2
_READ = (1, _VERSION)
_HEAD = "# Written by `compose lock`; change it with `compose lock update`, not by hand.\n"
_NEVRA = re.compile(
    r"(?P<name>[^\s/]+)-(?P<epoch>\d{1,10}):(?P<version>[^-\s/]+)-(?P<release>[^-\s/]+)\.(?P<arch>[a-z0-9_]+)"
)
_HEX = re.compile(r"[0-9a-f]{64}")
_CHECKSUM = re.compile(r"(?P<algorithm>[a-z0-9]+):(?P<digest>[0-9a-f]{32,128})")
# not in XML, from which the strings come, and partly not in a commit's metadata either
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
# what YAML takes for the end of a line, or refuses, unless it is escaped; JSON does not escape it
_SPECIAL = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_STRINGS = ("nevra", "repo", "location", "checksum", "source", "reason")
_OPTIONAL = ("key", "base")
_NUMBERS = ("size", "installed")
_MOST = (1 << 63) - 1
_LATEST = (1 << 32) - 1
"""Seconds since 1970; libdnf5 does not count further."""
_HINT = "create it again with compose lock"


def parse_lock(data: bytes, path: str) -> Lock:
    """Parse a lockfile. Raises TreefileError listing every fault with its file:line:column."""
    try:
        source = parse_yaml(data, path)
    except SourceFault as fault:
        raise TreefileError(str(fault), hint=_HINT) from fault
    return read_lock(source)


def read_lock(source: Located) -> Lock:
    """As parse_lock(), from parsed YAML."""
    reader = _Reader()
    lock = reader.lock(source)
    if reader.faults:
        raise TreefileError.of(
            reader.faults, f"{source.place.file}: {len(reader.faults)} faults in the lockfile", hint=_HINT
        )
    return lock


def format_lock(lock: Lock) -> str:
    """The text of a lockfile; equal locks give equal bytes."""
    lines = [_HEAD + f"{MARK}: {_VERSION}", "arches:"]
    for arch in sorted(lock.arches):
        part = lock.arches[arch]
        lines += [
            f"  {arch}:",
            f"    request: {part.request}",
            f"    specs: {_quoted(list(part.specs))}",
            "    repos:",
        ]
        lines += [f"      {_quoted(name)}: {timestamp}" for name, timestamp in part.repos]
        lines += _listed("packages", _rows(part))
        if part.advisories is not None:
            lines += _listed("advisories", map(_advisory_row, part.advisories))
    return "\n".join(lines) + "\n"


def _listed(name: str, rows: Iterable[dict[str, Any]]) -> list[str]:
    lines = [f"      - {_quoted(row)}" for row in rows]
    return [f"    {name}:", *lines] if lines else [f"    {name}: []"]


def _quoted(value: Any) -> str:
    """A value as JSON that YAML reads alike."""
    text = json.dumps(value, ensure_ascii=False)
    return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _rows(part: ArchLock) -> Iterator[dict[str, Any]]:
    for each in sorted(part.packages, key=lambda each: each.package.nevra):
        package, nevra = each.package, each.package.nevra
        row: dict[str, Any] = {
            "nevra": f"{nevra.name}-{nevra.epoch}:{nevra.version}-{nevra.release}.{nevra.arch}",
            "repo": package.repo,
            "location": package.location,
            **({"base": package.base} if package.base else {}),
            "checksum": ":".join(package.checksum),
            "size": package.download_size,
            "installed": package.install_size,
            "source": package.source_rpm,
        }
        if each.key:
            row["key"] = each.key
        row["reason"] = str(package.reason)
        if package.specs:
            row["specs"] = list(package.specs)
        yield row


def _advisory_row(advisory: Advisory) -> dict[str, Any]:
    return {
        "id": advisory.id,
        **({"severity": advisory.severity} if advisory.severity else {}),
        "packages": list(advisory.packages),
        **({"references": [asdict(each) for each in advisory.references]} if advisory.references else {}),
    }


def _member_of(mapping: Located, name: str) -> Located | None:
    return mapping.value.get(name) if isinstance(mapping.value, dict) else None


def _is_number(value: Any, most: int) -> bool:
    """Whether it is a whole number from 0 to `most`; a bool, though an int to Python, is not."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


class _Reader:
    """Converts parsed YAML to a lock, collecting faults."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def _fault(self, at: Located, message: str) -> None:
        self.faults.append(f"{at.place}: {message}")

    def _member(self, mapping: Located, name: str, kind: type[Any], description: str) -> Any:
        """The value of a member; None, with a fault, when it is missing or of another type."""
        found = _member_of(mapping, name)
        if found is None:
            self._fault(mapping, f"{name} is missing")
            return None
        if not isinstance(found.value, kind) or (kind is int and not _is_number(found.value, _MOST)):
            self._fault(found, f"{name} must be {description}")
            return None
        if kind is str and _CONTROL.search(found.value):
            self._fault(found, f"{name} must not contain control characters")
        return found.value

    def _optional(self, mapping: Located, name: str, kind: type[Any], description: str) -> Any:
        """As _member(), but None without a fault when it is missing."""
        return self._member(mapping, name, kind, description) if _member_of(mapping, name) else None

    def lock(self, source: Located) -> Lock:
        version = self._member(source, MARK, int, "a number")
        if version is not None and version not in _READ:
            self._fault(source, f"{MARK}: version {version} is not supported, only up to {_VERSION}")
            return Lock(arches={})
        self._check_keys(source, {MARK, "arches"})
        arches = self._member(source, "arches", dict, "a mapping of architectures") or {}
        return Lock(arches={arch: self._arch(part) for arch, part in arches.items()})

    def _check_keys(self, mapping: Located, known: set[str]) -> None:
        for name, value in mapping.value.items() if isinstance(mapping.value, dict) else ():
            if name not in known:
                self._fault(value, f"{name}: unknown key")

    def _arch(self, part: Located) -> ArchLock:
        self._check_keys(part, {"request", "specs", "repos", "packages", "advisories"})
        request = self._member(part, "request", str, "a digest")
        if request is not None and not _HEX.fullmatch(request):
            self._fault(part, "request must be 64 hexadecimal digits")
        repos = self._member(part, "repos", dict, "a mapping of repositories to times") or {}
        for timestamp in repos.values():
            if not _is_number(timestamp.value, _LATEST):
                self._fault(timestamp, "the time of a repository must be a number of seconds, below 2^32")
        rows = self._member(part, "packages", list, "a list") or []
        packages: dict[Nevra, LockedPackage] = {}
        for row in rows:
            if (found := self._package(row)) is None:
                continue
            nevra = found.package.nevra
            if nevra in packages:
                # such as both sides of a merge
                self._fault(row, f"{nevra} is given twice")
            packages[nevra] = found
            if found.package.repo not in repos:
                self._fault(row, f"the repository {found.package.repo!r} of {nevra} is not under repos")
        return ArchLock(
            request=request or "",
            specs=self._strings(part, "specs"),
            repos=tuple(sorted((name, each.value) for name, each in repos.items())),
            packages=tuple(packages[nevra] for nevra in sorted(packages)),
            advisories=self._advisories(part),
        )

    def _advisories(self, part: Located) -> tuple[Advisory, ...] | None:
        rows = self._optional(part, "advisories", list, "a list")
        if rows is None:
            return None
        found: dict[str, Advisory] = {}
        for row in rows:
            advisory = self._advisory(row)
            if advisory.id in found:
                self._fault(row, f"the advisory {advisory.id!r} is listed twice")
            found[advisory.id] = advisory
        return tuple(found[name] for name in sorted(found))

    def _advisory(self, row: Located) -> Advisory:
        self._check_keys(row, {"id", "severity", "packages", "references"})
        packages = self._strings(row, "packages")
        if not packages:
            self._fault(row, "an advisory must list packages")
        return Advisory(
            id=self._member(row, "id", str, "a string") or "",
            severity=self._optional(row, "severity", str, "a string") or "",
            packages=packages,
            references=tuple(map(self._reference, self._optional(row, "references", list, "a list") or ())),
        )

    def _reference(self, row: Located) -> Reference:
        self._check_keys(row, {"url", "title"})
        url, title = (self._member(row, name, str, "a string") for name in ("url", "title"))
        return Reference(url=url or "", title=title or "")

    def _strings(self, mapping: Located, name: str) -> tuple[str, ...]:
        """An optional list of strings, sorted."""
        found = _member_of(mapping, name)
        if found is None:
            return ()
        if not isinstance(found.value, list) or not all(isinstance(item.value, str) for item in found.value):
            self._fault(found, f"{name} must be a list of strings")
            return ()
        if any(_CONTROL.search(item.value) for item in found.value):
            self._fault(found, f"{name} must not contain control characters")
        return tuple(sorted({item.value for item in found.value}))

    def _package(self, row: Located) -> LockedPackage | None:
        before = len(self.faults)
        self._check_keys(row, {*_STRINGS, *_NUMBERS, *_OPTIONAL, "specs"})
        strings = {name: self._member(row, name, str, "a string") for name in _STRINGS}
        numbers = {name: self._member(row, name, int, "a number of bytes") for name in _NUMBERS}
        specs = self._strings(row, "specs")
        optional = {name: self._optional(row, name, str, "a string") or "" for name in _OPTIONAL}
        if len(self.faults) > before:
            return None
        nevra, checksum = _NEVRA.fullmatch(strings["nevra"]), _CHECKSUM.fullmatch(strings["checksum"])
        if nevra is None:
            self._fault(row, f"{strings['nevra']!r} is not name-epoch:version-release.arch")
        if checksum is None:
            self._fault(row, f"{strings['checksum']!r} is not algorithm:digest")
        if strings["reason"] not in list(Reason):
            self._fault(row, f"{strings['reason']!r} is not one of {', '.join(Reason)}")
        if not lies_below(strings["location"]):
            self._fault(row, f"the location {strings['location']!r} is outside of the repository")
        if nevra is None or checksum is None or len(self.faults) > before:
            return None
        package = ResolvedPackage(
            nevra=Nevra(
                name=nevra["name"],
                epoch=int(nevra["epoch"]),
                version=nevra["version"],
                release=nevra["release"],
                arch=nevra["arch"],
            ),
            repo=strings["repo"],
            location=strings["location"],
            checksum=(checksum["algorithm"], checksum["digest"]),
            download_size=numbers["size"],
            install_size=numbers["installed"],
            source_rpm=strings["source"],
            reason=Reason(strings["reason"]),
            specs=specs,
            base=optional["base"],
        )
        return LockedPackage(package=package, key=optional["key"])

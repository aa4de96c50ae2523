"""The facts that every format tells, each in its own words."""

from __future__ import annotations

import datetime
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from compose.rpm.nevra import Nevra

_NAMESPACE = uuid.UUID("0d1b1a2c-7c0e-5a53-9f6e-3b7a6d0c8e41")
"""Of documents about commits: made up, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the RPM of a package came from. checksum: (algorithm, hex) of the whole file. repo: id of the repository, "" for a
    file that the treefile names. location: of the RPM below the repository, or its URL; "" where it is not known. key:
    fingerprint or id of the key that signed it, "" when its repository says gpgcheck=0."""

    checksum: tuple[str, str]
    repo: str = ""
    location: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A package of a commit. license, vendor, url, summary, source_rpm: as its header has them, "" for none. needs: what it
    requires of the others, sorted. origin: None where the making of the commit is not recorded."""

    nevra: Nevra
    license: str
    vendor: str
    url: str
    summary: str
    source_rpm: str
    needs: tuple[Nevra, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A commit and what is in it. name: as it was asked for, a ref mostly. version: of its metadata, "" for none. timestamp:
    of the commit, seconds since 1970. system: os-release of the tree. components: sorted."""

    name: str
    commit: str
    version: str
    timestamp: int
    system: Mapping[str, str]
    components: tuple[Component, ...]

    @property
    def urn(self) -> str:
        """Names a document about the commit; the same for the same commit."""
        return uuid.uuid5(_NAMESPACE, self.commit).urn

    @property
    def created(self) -> str:
        """Time of the commit, for a document about it knows nothing newer: ISO 8601, UTC."""
        when = datetime.datetime.fromtimestamp(self.timestamp, datetime.UTC)
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")

    def purl(self, component: Component) -> str:
        """Package URL of a component."""
        return purl(component, self.system)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that decided a commit. path: relative to the directory that holds all of them. sha256: hex."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a commit came to be. treefile: path of the file that was composed, one of files. layers: (ref, commit) of what was
    laid over the packages. repos: (id, time of its metadata in seconds since 1970). tools: name and version of what works on
    a tree."""

    treefile: str
    basearch: str
    files: tuple[SourceFile, ...]
    layers: tuple[tuple[str, str], ...]
    repos: tuple[tuple[str, int], ...]
    tools: Mapping[str, str]


def purl(component: Component, system: Mapping[str, str]) -> str:
    """Package URL of type rpm (purl-spec): its namespace is the distribution, its qualifiers are in order of their names.

    upstream, which tells scanners the source package, is what syft and Fedora write.
    """
    nevra = component.nevra
    distribution, release = system.get("ID", "").lower(), system.get("VERSION_ID", "")
    qualifiers = {
        "arch": nevra.arch,
        "distro": f"{distribution}-{release}" if distribution and release else distribution,
        "epoch": str(nevra.epoch) if nevra.epoch else "",
        "upstream": component.source_rpm,
    }
    namespace = f"{_quoted(distribution)}/" if distribution else ""
    asked = "&".join(f"{key}={_quoted(text)}" for key, text in sorted(qualifiers.items()) if text)
    version = f"{nevra.version}-{nevra.release}"
    return f"pkg:rpm/{namespace}{_quoted(nevra.name)}@{_quoted(version)}" + (f"?{asked}" if asked else "")


def _quoted(text: str) -> str:
    """As every part of a package URL; what stays is listed in purl-spec, "Character encoding"."""
    return quote(text, safe=".-_~:")


def os_release(text: str) -> dict[str, str]:
    """Of the text of such a file; a line that is none (os-release(5)) is passed over."""
    found = {}
    for line in text.splitlines():
        key, equals, written = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            words = shlex.split(written)
        except ValueError:
            continue
        found[key] = words[0] if words else ""
    return found

"""The facts behind every output format."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from compose.rpm.nevra import Nevra

_NAMESPACE = uuid.UUID("0d1b1a2c-7c0e-5a53-9f6e-3b7a6d0c8e41")
"""UUID namespace of documents about commits, generated once."""
# RFC 3986
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the RPM of a package came from.

    checksum: (algorithm, hex) of the whole file. repo: id of the repository; "" for a file that the treefile names. location:
    path of the RPM in the repository, or its URL; "" when unknown. key: fingerprint or id of the key that signed it; "" when
    its repository sets gpgcheck=0.
    """

    checksum: tuple[str, str]
    repo: str = ""
    location: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A package of a commit.

    license, vendor, url, summary, source_rpm: from its header, "" when absent. needs: the other packages that it requires,
    sorted. origin: None when the commit has no record.
    """

    nevra: Nevra
    license: str
    vendor: str
    url: str
    summary: str
    source_rpm: str
    needs: tuple[Nevra, ...] = ()
    origin: Origin | None = None

    @property
    def homepage(self) -> str:
        """The url, "" if it is not a URI: headers may hold anything, and the formats allow nothing else."""
        return self.url if _URL.fullmatch(self.url) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A commit and its packages.

    name: the revision that was given, usually a ref. version: from the commit's metadata, "" for none. created: time of the
    commit (ISO 8601, UTC), so that a document about it is reproducible. system: os-release of the tree. components: sorted.
    """

    name: str
    commit: str
    version: str
    created: str
    system: Mapping[str, str]
    components: tuple[Component, ...]

    @property
    def urn(self) -> str:
        """Identifier of a document about the commit, derived from its checksum."""
        return uuid.uuid5(_NAMESPACE, self.commit).urn

    def purl(self, component: Component) -> str:
        """Package URL of a component."""
        return purl(component, self.system)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that is the commit in another form, such as a container image. sha256: hex."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file of the treefile that a commit was made from. path: relative to their common directory. sha256: hex."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a commit was made.

    treefile: path of the composed file, one of files. layers: (ref, commit) of the ostree-layers. repos: (id, time of the
    metadata in seconds since 1970). tools: versions, by name, of compose and the libraries it builds trees with.
    """

    treefile: str
    basearch: str
    files: tuple[SourceFile, ...]
    layers: tuple[tuple[str, str], ...]
    repos: tuple[tuple[str, int], ...]
    tools: Mapping[str, str]


def purl(component: Component, system: Mapping[str, str]) -> str:
    """Package URL of type rpm (purl-spec): the namespace is the distribution, qualifiers are sorted by name.

    The qualifier upstream tells scanners the source package; syft and Fedora write it too.
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
    query = "&".join(f"{key}={_quoted(text)}" for key, text in sorted(qualifiers.items()) if text)
    version = f"{nevra.version}-{nevra.release}"
    return f"pkg:rpm/{namespace}{_quoted(nevra.name)}@{_quoted(version)}" + (f"?{query}" if query else "")


def _quoted(text: str) -> str:
    """Percent-encode a part of a package URL, except the characters listed in purl-spec, "Character encoding"."""
    return quote(text, safe=".-_~:")


def os_release(text: str) -> dict[str, str]:
    """Parse os-release(5); malformed lines are ignored."""
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

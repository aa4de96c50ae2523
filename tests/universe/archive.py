"""Which debs the set is made of, and the debs: by a private apt that knows this system's archive and nothing installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from tests.universe.errors import UniverseError, run

SUITE = "trixie"
SOURCES = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
HELPERS = ("/usr/lib/apt/apt-helper", "/usr/libexec/apt/apt-helper")
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deb:
    """size: bytes; sha256: hexadecimal, as the archive's signed index has it."""

    name: str
    uri: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """The answer of one resolution; kept so that the universe changes only when it is asked to."""

    suite: str
    roots: tuple[str, ...]
    debs: tuple[Deb, ...]

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.rename(path)

    @classmethod
    def load(cls, path: Path) -> Lock | None:
        """None if there is none."""
        try:
            value = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(value["suite"], tuple(value["roots"]), tuple(Deb(**each) for each in value["debs"]))


def read_roots(path: Path) -> tuple[str, ...]:
    """The names in a set's file; "#" starts a comment, "include SET" stands for the names of the set beside it."""
    roots: list[str] = []
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            roots += read_roots(path.with_name(f"{words[1]}.txt"))
        else:
            roots += words
    return tuple(roots)


def parse_uris(text: str) -> list[tuple[str, str, int]]:
    """(URI, file name in the archive, bytes) of `apt-get --print-uris`, by file name."""
    found = []
    for match in _URI_LINE.finditer(text):
        uri = match["uri"]
        found.append((uri, unquote(uri.rpartition("/")[2]), int(match["size"])))
    return sorted(found, key=lambda each: each[1])


def parse_index(text: str) -> dict[str, str]:
    """File name -> SHA-256 of the stanzas of `apt-cache show`."""
    found = {}
    for stanza in text.split("\n\n"):
        file = re.search(r"^Filename: (\S+)", stanza, re.MULTILINE)
        digest = re.search(r"^SHA256: ([0-9a-f]{64})$", stanza, re.MULTILINE)
        if file and digest:
            found[file[1].rpartition("/")[2]] = digest[1]
    return found


def parse_sources(text: str) -> list[str]:
    """The URIs of a sources.list or a deb822 .sources file that have a "main" and are not for security updates."""
    found = []
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
        if match and "main" in match[3].split() and "security" not in match[2]:
            found.append(match[1].rstrip("/"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Types|URIs|Suites|Components):[ \t]*(.*)$", stanza, re.MULTILINE))
        binary = "deb" in fields.get("Types", "").split() and "main" in fields.get("Components", "").split()
        if binary and "security" not in fields.get("Suites", ""):
            found += [uri.rstrip("/") for uri in fields.get("URIs", "").split()]
    return found


def mirror() -> str:
    """The Debian archive this system's apt uses, or $TOOLBOX_MIRROR; raises UniverseError if there is none."""
    if chosen := os.environ.get("TOOLBOX_MIRROR"):
        return chosen
    files = [SOURCES / "sources.list", *sorted((SOURCES / "sources.list.d").glob("*"))]
    found = [uri for file in files if file.is_file() for uri in parse_sources(file.read_text())]
    if not found:
        raise UniverseError(f"no Debian archive in {SOURCES}/sources.list*: set TOOLBOX_MIRROR to one's base URL")
    return found[0]


class Archive:
    """A private apt below `directory`: its own sources, lists and (empty) dpkg status."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def resolve(self, roots: tuple[str, ...]) -> Lock:
        """Everything an empty system needs for the roots, without recommendations. Asks the archive."""
        self._configure()
        self._apt("apt-get", "-qq", "update")
        uris = parse_uris(self._apt("apt-get", "install", "-y", "--print-uris", *roots))
        names = sorted({file.partition("_")[0] for _, file, _ in uris})
        digests = parse_index(self._apt("apt-cache", "show", "--no-all-versions", *names))
        debs = []
        for uri, file, size in uris:
            if file not in digests:
                raise UniverseError(f"{file}: the archive's index has no SHA-256 of it")
            debs.append(Deb(file.partition("_")[0], uri, file, size, digests[file]))
        return Lock(SUITE, roots, tuple(debs))

    def fetch(self, debs: tuple[Deb, ...], into: Path) -> int:
        """Download what is absent or damaged, checked against its SHA-256; returns the number of downloads."""
        into.mkdir(parents=True, exist_ok=True)
        missing = [deb for deb in debs if not _intact(into / deb.file, deb)]
        if not missing:
            return 0
        self._configure()
        partial = into / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        helper = next((each for each in HELPERS if Path(each).exists()), HELPERS[0])
        arguments = [
            word for deb in missing for word in (deb.uri, str(partial / deb.file), f"SHA256:{deb.sha256}")
        ]  # fmt: skip
        self._apt(helper, "download-file", *arguments)
        for deb in missing:
            if not _intact(partial / deb.file, deb):
                raise UniverseError(f"{deb.file}: not what the lock says; --refresh asks the archive anew")
            (partial / deb.file).rename(into / deb.file)
        partial.rmdir()
        return len(missing)

    def _configure(self) -> None:
        for each in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self._directory / each).mkdir(parents=True, exist_ok=True)
        (self._directory / "state/status").touch()
        signed_by = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (self._directory / "etc/sources.list").write_text(f"deb {signed_by}{mirror()} {SUITE} main\n")
        options = {
            "Dir::State": "state",
            "Dir::State::status": "state/status",
            "Dir::Cache": "cache",
            "Dir::Etc::sourcelist": "etc/sources.list",
            "Dir::Etc::sourceparts": "etc/none",
            "Dir::Etc::preferences": "etc/none",
            "Dir::Etc::preferencesparts": "etc/none",
        }
        lines = [f'{name} "{self._directory / value}";' for name, value in options.items()]
        lines += ['APT::Architecture "amd64";', 'APT::Install-Recommends "false";', 'APT::Sandbox::User "root";']
        (self._directory / "apt.conf").write_text("\n".join(lines) + "\n")

    def _apt(self, *command: str) -> str:
        environment = os.environ | {"APT_CONFIG": str(self._directory / "apt.conf"), "LC_ALL": "C"}
        return run(command, what="the archive", env=environment).stdout


def _intact(path: Path, deb: Deb) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == deb.sha256
    except FileNotFoundError:
        return False

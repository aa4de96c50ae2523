"""`.repo` files: which package repositories there are, said in INI sections as dnf.conf(5) has them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compose.errors import TreefileError

# What dnf takes for an id: it becomes part of file names.
_ID = re.compile(r"[A-Za-z0-9:._-]+", re.ASCII)
_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
_USER_OF_URL = re.compile(r"(?<=://)[^/?#\s]*@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Options that hold files or URLs, which may be given relative to the .repo file.
_URL_OPTIONS = frozenset({"baseurl", "gpgkey"})
# Of these dnf has one, in which commas are its own: "...&protocol=https,http" of CentOS.
_ONE_URL = frozenset({"metalink", "mirrorlist"})
_PATH_OPTIONS = frozenset(
    {"sslcacert", "sslclientcert", "sslclientkey", "proxy_sslcacert", "proxy_sslclientcert", "proxy_sslclientkey"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoOption:
    """key: lower case. value: as written, lines joined by newlines. line: where it stands, from 1."""

    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSection:
    """One repository as its file describes it. path: of the file, line: of "[id]"."""

    id: str
    path: str
    line: int
    options: tuple[RepoOption, ...]

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def option(self, key: str) -> RepoOption | None:
        """The option of that name; of several the last, as dnf has it."""
        return next((each for each in reversed(self.options) if each.key == key), None)

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean option. Raises TreefileError with file:line for what is none."""
        option = self.option(key)
        if option is None:
            return default
        if (value := option.value.strip().lower()) in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise TreefileError(f"{self.path}:{option.line}: {key}={option.value} in repository {self.id!r} is not 0 or 1")

    @property
    def enabled(self) -> bool:
        return self.flag("enabled", default=True)

    @property
    def gpgcheck(self) -> bool:
        """Signatures are checked unless the file says otherwise."""
        name = "pkg_gpgcheck" if self.option("pkg_gpgcheck") else "gpgcheck"
        return self.flag(name, default=True)


def is_repo_file(name: str) -> bool:
    """Is a file of this name read for repositories? Not what Emacs locks a file by, a symlink that leads nowhere."""
    return name.endswith(".repo") and not name.startswith(".#")


def read_repo_files(directories: Iterable[str]) -> tuple[RepoSection, ...]:
    """All repositories of the `.repo` files in the directories, sorted by id.

    Raises TreefileError with one detail per fault: unreadable directory or file, syntax, an id that two sections have.
    """
    sections: dict[str, RepoSection] = {}
    faults: list[str] = []
    for directory in directories:
        try:
            names = sorted(filter(is_repo_file, os.listdir(directory)))
        except OSError as error:
            faults.append(f"{directory}: cannot look for .repo files: {error.strerror}")
            continue
        for name in names:
            path = os.path.join(directory, name)
            try:
                with open(path, encoding="utf-8") as stream:
                    found, wrong = parse_repo_file(path, stream.read())
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
                continue
            faults.extend(wrong)
            for section in found:
                other = sections.setdefault(section.id, section)
                if other is not section:
                    faults.append(f"{section.place}: repository {section.id!r} is already described at {other.place}")
    if faults:
        raise TreefileError(
            faults[0] if len(faults) == 1 else f"{len(faults)} faults in .repo files",
            details=faults if len(faults) > 1 else (),
        )
    return tuple(sections[name] for name in sorted(sections))


def parse_repo_file(path: str, text: str) -> tuple[tuple[RepoSection, ...], tuple[str, ...]]:
    """The sections of one file and its faults, each fault beginning with path:line. "[main]" is dnf's own: skipped."""
    faults: list[str] = []
    sections: list[RepoSection] = []
    options: list[RepoOption] = []
    header: tuple[str, int] | None = None

    def finish() -> None:
        if header is not None and header[0] != "main":
            sections.append(RepoSection(id=header[0], path=path, line=header[1], options=tuple(options)))
        options.clear()

    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if line[0].isspace() and options:
            last = options[-1]
            options[-1] = RepoOption(key=last.key, value=f"{last.value}\n{stripped}".lstrip("\n"), line=last.line)
        elif stripped[0] == "[":
            finish()
            name, closed, rest = stripped[1:].partition("]")
            header = (name, number)
            if not closed or rest.strip()[:1] not in ("", "#", ";"):
                faults.append(f"{path}:{number}: section header {stripped!r} has no closing bracket")
            elif not _ID.fullmatch(name):
                faults.append(f"{path}:{number}: {name!r} cannot be a repository id (letters, digits, - _ . :)")
        elif header is None:
            faults.append(f"{path}:{number}: {stripped!r} stands before the first [repository]")
        else:
            key, equals, value = stripped.partition("=")
            if not equals or not key.strip():
                faults.append(f"{path}:{number}: {stripped!r} is not key=value")
            else:
                options.append(RepoOption(key=key.strip().lower(), value=value.strip(), line=number))
    finish()
    return tuple(sections), tuple(faults)


def select(sections: Sequence[RepoSection], wanted: Sequence[str] | None) -> tuple[RepoSection, ...]:
    """Those wanted, or all enabled ones when wanted is None. Raises TreefileError naming the ids there are."""
    if wanted is None:
        return tuple(section for section in sections if section.enabled)
    known = {section.id for section in sections}
    unknown = [repr(name) for name in wanted if name not in known]
    if unknown:
        raise TreefileError(
            f"repos: there is no repository {', '.join(unknown)}",
            hint="name one of those below, or put its .repo file beside the treefile"
            if known
            else "put a .repo file beside the treefile, or point --source-root at a root that has etc/yum.repos.d",
            details=tuple(f"{section.id} ({section.place})" for section in sections),
        )
    return tuple(section for section in sections if section.id in wanted)


def split_list(value: str) -> tuple[str, ...]:
    """Items of a list option: separated by commas, blanks or newlines."""
    return tuple(value.replace(",", " ").split())


def absolute(key: str, value: str, directory: str) -> str:
    """An option's value with what is relative to the .repo file's directory made absolute; paths in URLs' place become
    file:// URLs. Apply after $variables are substituted."""
    if key in _ONE_URL:
        return _url(value, directory) if value else value
    if key in _URL_OPTIONS:
        return " ".join(_url(item, directory) for item in split_list(value))
    if key in _PATH_OPTIONS and value:
        return os.path.join(os.path.abspath(directory), value)
    return value


def _url(item: str, directory: str) -> str:
    if _SCHEME.match(item):
        return item
    from urllib.parse import quote

    path = item.removeprefix("file:")
    return "file://" + quote(os.path.normpath(os.path.join(os.path.abspath(directory), path)))


def without_user(text: str) -> str:
    """A text with user and password taken out of the URLs in it: one to show, to log or to hand on."""
    return _USER_OF_URL.sub("", text)


def local_path(url: str) -> str | None:
    """What a file:// URL names; None for what is elsewhere, or nowhere."""
    # here, for an unchanged compose does without
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None

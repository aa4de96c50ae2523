"""Reader of `.repo` files, which describe package repositories in INI sections (dnf.conf(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from compose import fs
from compose.errors import TreefileError

_LARGEST = 4 << 20
"""Bytes of a file that are read; 100 KB are many."""
# Ids that dnf accepts; they become part of file names.
_ID = re.compile(r"[A-Za-z0-9:._-]+", re.ASCII)
# Patterns of ids, by which files that override options name repositories.
_PATTERN = re.compile(r"[A-Za-z0-9:._*?-]+", re.ASCII)
_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})
_USER_OF_URL = re.compile(r"(?<=://)[^/?#\s]*@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Options that list URLs or files; files may be relative to the .repo file.
_URL_OPTIONS = frozenset({"baseurl", "gpgkey"})
# Options that hold a single URL, which may contain commas: "...&protocol=https,http" of CentOS.
_ONE_URL = frozenset({"metalink", "mirrorlist"})
_PATH_OPTIONS = frozenset(
    {"sslcacert", "sslclientcert", "sslclientkey", "proxy_sslcacert", "proxy_sslclientcert", "proxy_sslclientkey"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoOption:
    """key: lower case. value: as written, its lines joined by newlines. path: of the file. line: number of the first line, from
    1."""

    key: str
    value: str
    path: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSection:
    """One repository as described in a .repo file. path: of the file. line: of "[id]", from 1. options: the last one of a name
    counts; some may be from other files, which override those of this one."""

    id: str
    path: str
    line: int
    options: tuple[RepoOption, ...]

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def option(self, key: str) -> RepoOption | None:
        """Return the option of that name; if there are several, the last, like dnf."""
        return next((option for option in reversed(self.options) if option.key == key), None)

    @property
    def source(self) -> RepoOption | None:
        """The option with the URL of the repository, or of a list of its mirrors; None if none has a value."""
        found = (self.option(key) for key in ("metalink", "mirrorlist", "baseurl"))
        return next((option for option in found if option is not None and option.value), None)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean option. Raises TreefileError with file:line for any other value."""
        option = self.option(key)
        if option is None:
            return default
        if (value := option.value.strip().lower()) in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise TreefileError(f"{option.place}: {key}={option.value} in repository {self.id!r} is not 0 or 1")

    @property
    def enabled(self) -> bool:
        return self.flag("enabled", default=True)

    @property
    def gpgcheck(self) -> bool:
        """Whether signatures are checked: yes, unless the file says otherwise."""
        name = "pkg_gpgcheck" if self.option("pkg_gpgcheck") else "gpgcheck"
        return self.flag(name, default=True)


def is_repo_file(name: str) -> bool:
    """Whether a file of this name is read. Emacs's lock files, which are dangling symlinks, are not."""
    return name.endswith(".repo") and not name.startswith(".#")


def read_repo_files(directories: Iterable[str], overrides: Iterable[str] = ()) -> tuple[RepoSection, ...]:
    """Read all repositories of the `.repo` files in the directories, sorted by id. Those of a directory take precedence over
    those of the same ids in later ones. overrides: directories with files that change options of these repositories; see
    _read_overrides().

    Raises TreefileError with one detail per fault: unreadable directory or file, bad syntax, duplicate id in a directory.
    """
    sections: dict[str, RepoSection] = {}
    faults: list[str] = []
    for directory in directories:
        earlier = frozenset(sections)
        try:
            names = sorted(filter(is_repo_file, os.listdir(directory)))
        except OSError as error:
            faults.append(f"{directory}: cannot look for .repo files: {error.strerror}")
            continue
        for name in names:
            for section in _read_repo_file(os.path.join(directory, name), faults):
                if section.id in earlier:
                    continue
                other = sections.setdefault(section.id, section)
                if other is not section:
                    faults.append(f"{section.place}: repository {section.id!r} is already defined at {other.place}")
    changes = _read_overrides(overrides, faults)
    if faults:
        raise TreefileError.of(faults, f"{len(faults)} faults in .repo files")
    return tuple(_overridden(sections[name], changes) for name in sorted(sections))


def _read_repo_file(path: str, faults: list[str], ids: re.Pattern[str] = _ID) -> tuple[RepoSection, ...]:
    if os.path.realpath(path) == os.devnull:
        # masked
        return ()
    try:
        with fs.open_regular(path) as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            faults.append(f"{path}: cannot be read: it has more than {_LARGEST} bytes")
            return ()
        found, file_faults = parse_repo_file(path, data.decode(), ids)
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
        return ()
    faults.extend(file_faults)
    return found


def _read_overrides(directories: Iterable[str], faults: list[str]) -> list[RepoSection]:
    """Sections whose ids are patterns of ids, in the order they apply: by file name, as in dnf5. Of several files of one name,
    that of the first directory counts."""
    files: dict[str, str] = {}
    for directory in directories:
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            faults.append(f"{directory}: cannot look for .repo files: {error.strerror}")
            continue
        for name in filter(is_repo_file, names):
            files.setdefault(name, os.path.join(directory, name))
    return [section for name in sorted(files) for section in _read_repo_file(files[name], faults, _PATTERN)]


def _overridden(section: RepoSection, changes: Iterable[RepoSection]) -> RepoSection:
    options = [option for each in changes if fnmatchcase(section.id, each.id) for option in each.options]
    return replace(section, options=(*section.options, *options)) if options else section


def parse_repo_file(
    path: str, text: str, ids: re.Pattern[str] = _ID
) -> tuple[tuple[RepoSection, ...], tuple[str, ...]]:
    """Return a file's sections and its faults, each starting with path:line. Skips "[main]", the settings of dnf. ids: what a
    section may be called."""
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
            options[-1] = replace(last, value=f"{last.value}\n{stripped}".lstrip("\n"))
        elif stripped[0] == "[":
            finish()
            name, closed, rest = stripped[1:].partition("]")
            header = (name, number)
            if not closed or rest.strip()[:1] not in ("", "#", ";"):
                faults.append(f"{path}:{number}: section header {stripped!r} has no closing bracket")
            elif not ids.fullmatch(name):
                allowed = "letters, digits, - _ . :" + (" and * ? to match others" if ids is _PATTERN else "")
                faults.append(f"{path}:{number}: {name!r} cannot be a repository id ({allowed})")
        elif header is None:
            faults.append(f"{path}:{number}: {stripped!r} comes before the first [repository]")
        else:
            key, equals, value = stripped.partition("=")
            if not equals or not key.strip():
                faults.append(f"{path}:{number}: {stripped!r} is not key=value")
            else:
                options.append(RepoOption(key=key.strip().lower(), value=value.strip(), path=path, line=number))
    finish()
    return tuple(sections), tuple(faults)


def select(sections: Sequence[RepoSection], wanted: Sequence[str] | None) -> tuple[RepoSection, ...]:
    """Return the wanted sections, or all enabled ones if wanted is None. Raises TreefileError listing the known ids."""
    if wanted is None:
        return tuple(section for section in sections if section.enabled)
    known = {section.id for section in sections}
    unknown = [repr(name) for name in wanted if name not in known]
    if unknown:
        raise TreefileError(
            f"repos: there is no repository {', '.join(unknown)}",
            hint="name one of those below, or put its .repo file beside the treefile"
            if known
            else "put a .repo file beside the treefile, or point --source-root at a root that has some where dnf looks",
            details=tuple(f"{section.id} ({section.place})" for section in sections),
        )
    return tuple(section for section in sections if section.id in wanted)


def split_list(value: str) -> tuple[str, ...]:
    """Split a list option at commas, blanks and newlines."""
    return tuple(value.replace(",", " ").split())


def absolute(key: str, value: str, directory: str) -> str:
    """Return an option's value with paths made absolute, which are relative to the .repo file's directory.

    Paths where a URL is expected become file:// URLs. Substitute $variables first.
    """
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
    """Remove user and password from the URLs in a text, before it is shown, logged or passed on."""
    return _USER_OF_URL.sub("", text)


def local_path(url: str) -> str | None:
    """Return the path that a file:// URL names; None for other URLs, and for invalid ones."""
    # imported here: an unchanged compose does not need it
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None

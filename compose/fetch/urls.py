"""Downloads by URL, without repository metadata, by libdnf5's downloader; runs in a child process."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compose.errors import FetchError
from compose.events import Reporter
from compose.fetch.transfers import MORE, Transfer, Transfers
from compose.fetch.verify import File
from compose.rpm.repofile import RepoSection, split_list, without_user
from compose.rpm.repos import RepoAccess, RepoNetwork, add_repos, configure, enabled_repos, value_of
from compose.solve.resolution import ResolvedPackage

_PLACES = ("baseurl", "mirrorlist", "metalink")
"""Options that say where a repository is, by precedence."""
_METALINK = "{http://www.metalinker.org/}"
_MIRROR = re.compile(r"https?://\S+/repodata/repomd\.xml", re.IGNORECASE)
_MIRRORS = 5
_MAX_LIST = 1 << 20
_GONE = "a package that is gone from its locked location needs another mirror or a new lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download(Transfer):
    """urls: tried in order. repo: id of the repository whose settings (certificates, user) apply, "" for none. own_hosts_only:
    send the repository's user and password only to hosts that its section names."""

    urls: tuple[str, ...]
    repo: str = ""
    own_hosts_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """what: the files, in messages. hint: of the error if downloads fail."""

    downloads: tuple[Download, ...]
    access: RepoAccess
    network: RepoNetwork
    what: str = "packages"
    hint: str = _GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagesJob:
    """Packages of repositories, by their location according to a lockfile. scratch: an existing directory."""

    files: tuple[File, ...]
    access: RepoAccess
    network: RepoNetwork
    scratch: str


def download(job: Job, reporter: Reporter) -> None:
    """Download every file. Raises FetchError naming those that failed, StorageError if the disk is full."""
    needed = {file.repo for file in job.downloads if file.repo}
    _Session(job.access, job.network, _sections(job.access, needed)).run(
        job.downloads, reporter, what=job.what, hint=job.hint
    )


def download_packages(job: PackagesJob, reporter: Reporter) -> None:
    """Download packages from their repositories, without the metadata. Raises as download() does."""
    sections = _sections(job.access, {file.package.repo for file in job.files})
    session = _Session(job.access, job.network, sections)
    places = {
        section.id: session.places(section, os.path.join(job.scratch, "mirrors"), reporter) for section in sections
    }
    session.run(tuple(_download_of(file, places[file.package.repo]) for file in job.files), reporter)


def _download_of(file: File, places: tuple[str, ...]) -> Download:
    package = file.package
    urls = _urls(package, places)
    return Download(
        urls=urls,
        path=file.path,
        name=str(package.nevra),
        origin=f" of repository {package.repo!r}",
        size=package.download_size,
        limit=package.download_size and package.download_size + MORE,
        repo=package.repo,
        # what comes from the only URL is verified like any other package, which tells more
        checksum=package.checksum if len(urls) > 1 else ("", ""),
    )


def _urls(package: ResolvedPackage, places: tuple[str, ...]) -> tuple[str, ...]:
    """Return the URLs to try for a package: first its own base, if it is a URL of any scheme, as in librepo."""
    own = (package.base,) if "://" in package.base else ()
    return tuple(f"{place.rstrip('/')}/{package.location}" for place in (*own, *places))


def _sections(access: RepoAccess, needed: set[str]) -> tuple[RepoSection, ...]:
    return tuple(section for section in enabled_repos(access) if section.id in needed) if needed else ()


class _Session:
    """A libdnf5 Base without any repository metadata loaded."""

    def __init__(self, access: RepoAccess, network: RepoNetwork, sections: tuple[RepoSection, ...]) -> None:
        import libdnf5

        self._dnf = libdnf5
        self._base = libdnf5.base.Base()
        root = os.path.join(network.metadata_dir, "empty-root")
        os.makedirs(root, mode=0o700, exist_ok=True)
        configure(self._base, access, network, root)
        self._base.setup()
        repos = add_repos(self._base, sections, Reporter())
        self._repos = {section.id: repo for section, repo in zip(sections, repos, strict=True)}
        self._hosts = {section.id: {*map(_host, self._named(section))} for section in sections}
        repos = add_repos(self._base, tuple(map(_anonymous, sections)), Reporter())
        self._anonymous_repos = {section.id: repo for section, repo in zip(sections, repos, strict=True)}
        self._transfers = Transfers(libdnf5, self._base, network)

    def run(
        self, downloads: tuple[Download, ...], reporter: Reporter, *, what: str = "packages", hint: str = _GONE
    ) -> None:
        """Download files. Raises as download() does."""
        places = max((len(each.urls) for each in downloads), default=0)
        self._transfers.run(downloads, self._start, reporter, places=places, what=what, hint=hint)

    def _start(self, downloads: Sequence[Download], attempt: int) -> Any:
        downloader = self._dnf.repo.FileDownloader(self._base)
        for download in downloads:
            url = download.urls[attempt % len(download.urls)]
            if download.repo:
                trusted = not download.own_hosts_only or _host(url) in self._hosts[download.repo]
                downloader.add((self._repos if trusted else self._anonymous_repos)[download.repo], url, download.path)
            else:
                downloader.add(url, download.path)
        return downloader

    def _named(self, section: RepoSection) -> Iterator[str]:
        """Yield all URLs that a section gives for its repository."""
        for key in _PLACES:
            if option := section.option(key):
                yield from split_list(value_of(self._base, section, option))

    def places(self, section: RepoSection, scratch: str, reporter: Reporter) -> tuple[str, ...]:
        """Return the base URLs of a repository; of a metalink or mirrorlist, the first few."""
        given = (option for key in _PLACES if (option := section.option(key)) is not None)
        # one without a value counts as absent, as in libdnf5; enabled_repos() rejects repositories without any
        option = next(option for option in given if option.value)
        value = value_of(self._base, section, option)
        if option.key == "baseurl":
            return tuple(split_list(value))
        listed = Download(
            urls=(value,),
            path=scratch,
            name=f"{option.key} of repository {section.id!r}",
            repo=section.id,
            limit=_MAX_LIST,
        )
        try:
            hint = f"check the network, and {option.key}= at {option.place}"
            self.run((listed,), reporter, what="lists of mirrors", hint=hint)
            with open(scratch, encoding="utf-8", errors="replace") as stream:
                text = stream.read(_MAX_LIST)
        finally:
            if os.path.exists(scratch):
                os.unlink(scratch)
        found = (
            _mirrors(text)
            if text.lstrip().startswith("<")
            else re.findall(r"(?m)^\s*((?:https?|ftp|file)://\S+)", text)
        )
        if not found:
            raise FetchError(f"{listed.name} ({section.place}) lists no mirror: {without_user(value)}")
        return tuple(found[:_MIRRORS])


def _host(url: str) -> tuple[str, str]:
    """Return the scheme of a URL, and its host with the port; for anything else, a pair that no URL has."""
    scheme, colon, rest = url.partition("://")
    return (scheme.lower(), re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()) if colon else ("", url)


def _anonymous(section: RepoSection) -> RepoSection:
    """Return the section without user and password, under another id."""
    options = tuple(option for option in section.options if option.key not in ("username", "password"))
    return replace(section, id=f"{section.id}:anonymous", options=options)


def _preference(url: ET.Element) -> int:
    """Return 1 to 100, the best having the highest; 0 for anything else."""
    text = url.get("preference") or ""
    return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else 0


def _mirrors(text: str) -> list[str]:
    """Return the http(s) base URLs of a metalink (metalinker.org, version 3.0), preferred ones first."""
    try:
        urls = list(ET.fromstring(text).iter(f"{_METALINK}url"))
    except ET.ParseError:
        return []
    urls.sort(key=_preference, reverse=True)
    found = [(url.text or "").strip() for url in urls if url.get("protocol") in ("https", "http")]
    # whatever the protocol is said to be: a server has no say in which local files are read
    return [url.removesuffix("repodata/repomd.xml") for url in found if _MIRROR.fullmatch(url)]

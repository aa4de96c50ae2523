"""Package repositories as a compose sees them, independent of the host's dnf configuration, variables, caches and keys.

`configure()` sets up a libdnf5 Base that the caller creates: this module does not import libdnf5 itself, so that it can
be used where the bindings are absent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compose import fs
from compose.errors import TreefileError
from compose.events import Reporter
from compose.rpm.repofile import RepoOption, RepoSection, absolute, read_repo_files, select, without_user

UNSET_RELEASEVER = "rpmostree-unset-releasever"
# of dnf5, by descending precedence; Fedora has its own in the last one since version 45
_REPO_DIRS = ("etc/yum.repos.d", "etc/distro.repos.d", "usr/share/dnf5/repos.d")
# of dnf5, by descending precedence; `dnf config-manager setopt` writes to the first one
_OVERRIDE_DIRS = ("etc/dnf/repos.override.d", "usr/share/dnf5/repos.override.d")
# of dnf5 and dnf4, by ascending precedence
_VARS_DIRS = ("usr/share/dnf5/vars.d", "etc/yum/vars", "etc/dnf/vars")
KEY_DIRS = ("/etc/pki/rpm-gpg/", "/usr/share/pki/rpm-gpg/")
"""Where distributions have their keys; Fedora 45 moved them from the first to the second."""
AUTHORITIES = ("CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Environment variables that name a file with certificates of authorities, by precedence, as the program curl has it."""

# $basearch is a family of architectures; dnf wants the best member of it (libdnf5's arch table).
_BEST_ARCH = {"i386": "i686", "arm": "armv7l", "armhfp": "armv7hl"}

# Options of real-world .repo files that have no meaning for a compose: it always refreshes metadata, fails if a
# repository does, and is not a machine to be counted.
_IGNORED = frozenset(
    {
        "async", "autorefresh", "basecachedir", "cachedir", "countme", "deltarpm", "deltarpm_percentage", "enabled",
        "enabled_metadata", "enablegroups", "failovermethod", "gpgcheck", "http_caching", "keepalive", "keepcache", "mediaid",
        "metadata_expire", "mdpolicy", "mirrorlist_expire", "module_hotfixes", "name", "pkg_gpgcheck", "protect",
        "protected_packages", "repositoryid", "retries", "skip_if_unavailable", "skip_md_filelists", "type",
        "ui_repoid_vars",
    }
)  # fmt: skip
_SAME_AS = {"exclude": "excludepkgs", "priorities": "priority"}
_LONGEST = 4096
"""Bytes of a variable's value that are read."""
_VARIABLE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoAccess:
    """Which repositories to use, and how to read their `.repo` files.

    repo_dirs: directories with .repo files, by descending precedence. override_dirs: directories with files that change
    options of these, by descending precedence. repos: ids to enable, None for all that have enabled=1. basearch, releasever:
    values of those variables; releasever is None if unset. repovars: further variables, (name, value). vars_dirs: directories
    with one file per variable, like etc/dnf/vars; later ones take precedence, repovars most of all. Missing directories of
    overrides and variables count as empty. root: --source-root, beneath which file:// keys are looked up first, and whose
    release is the last resort for releasever.
    """

    repo_dirs: tuple[str, ...]
    basearch: str
    releasever: str | None = None
    repovars: tuple[tuple[str, str], ...] = ()
    override_dirs: tuple[str, ...] = ()
    vars_dirs: tuple[str, ...] = ()
    repos: tuple[str, ...] | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoNetwork:
    """How to reach the repositories. cachedir: of the compose. cache_only: use what is cached, without a refresh.
    proxy: URL, None for that of the environment. attempts: how often to try a transfer that fails for a temporary
    reason. pause: seconds before the second attempt, doubled each time."""

    cachedir: str
    cache_only: bool = False
    proxy: str | None = None
    attempts: int = 3
    pause: float = 1.0

    @property
    def metadata_dir(self) -> str:
        return os.path.join(self.cachedir, "repomd")

    @property
    def solved_dir(self) -> str:
        return os.path.join(self.cachedir, "solved")

    @property
    def rpms_dir(self) -> str:
        return os.path.join(self.cachedir, "rpms")

    @property
    def scratch_dir(self) -> str:
        return os.path.join(self.cachedir, "work")


def repo_dirs_of(root: str) -> tuple[str, ...]:
    """The directories of a root that have .repo files, by descending precedence; the first one even if none of them exists."""
    found = [os.path.join(root, name) for name in _REPO_DIRS]
    return tuple(filter(os.path.isdir, found)) or tuple(found[:1])


def override_dirs_of(root: str) -> tuple[str, ...]:
    """Where a root may have files that change options of its repositories, by descending precedence."""
    return tuple(os.path.join(root, name) for name in _OVERRIDE_DIRS)


def vars_dirs_of(root: str) -> tuple[str, ...]:
    """Where a root may have variables of .repo files, by ascending precedence."""
    return tuple(os.path.join(root, name) for name in _VARS_DIRS)


def key_paths(path: str, access: RepoAccess) -> tuple[str, ...]:
    """Return where to look for a key file in turn: first below the source root, and of the directories of keys first in the one
    that is named."""
    paths = [path]
    for old, new in (KEY_DIRS, KEY_DIRS[::-1]):
        if path.startswith(old):
            paths.append(new + path.removeprefix(old))
    return (
        tuple(paths)
        if access.root is None
        else (*(os.path.join(access.root, each.lstrip("/")) for each in paths), *paths)
    )


def variables(access: RepoAccess) -> dict[str, str]:
    """Return the variables of .repo files. Raises TreefileError for what cannot be read."""
    found = {}
    for directory in access.vars_dirs:
        if not os.path.isdir(directory):
            continue
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            raise TreefileError(f"{directory}: cannot look for repository variables: {error.strerror}") from error
        for name in names:
            path = os.path.join(directory, name)
            if not _VARIABLE.fullmatch(name) or not os.path.isfile(path):
                continue
            try:
                with fs.open_regular(path) as stream:
                    found[name] = stream.readline(_LONGEST).decode().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise TreefileError(f"{path}: the repository variable cannot be read: {error}") from error
    found.update(access.repovars)
    found["basearch"] = access.basearch
    found["arch"] = _BEST_ARCH.get(access.basearch, access.basearch)
    if access.releasever is not None:
        found["releasever"] = access.releasever
    if "releasever" not in found and access.root is not None:
        # imported late: treefiles mostly set it
        from compose.rpm.release import releasever_of

        found["releasever"] = releasever_of(access.root) or UNSET_RELEASEVER
    found.setdefault("releasever", UNSET_RELEASEVER)
    return found


def enabled_repos(access: RepoAccess) -> tuple[RepoSection, ...]:
    """Return the repositories that take part, sorted by id.

    Raises TreefileError for faults in the files, an unknown id, no enabled repository, or one without a URL.
    """
    sections = read_repo_files(access.repo_dirs, access.override_dirs)
    chosen = select(sections, access.repos)
    if not chosen:
        raise TreefileError(
            f"no package repository is enabled: looked for .repo files in {', '.join(access.repo_dirs) or 'no place'}",
            hint="list some under repos:, or set enabled=1 in a .repo file",
            details=tuple(f"{section.id} ({section.place}) has enabled=0" for section in sections),
        )
    for section in chosen:
        if section.source is None:
            raise TreefileError(f"{section.place}: repository {section.id!r} has no baseurl, metalink or mirrorlist")
    return chosen


def raised(dnf: Any) -> tuple[type[Exception], ...]:
    """The exceptions that libdnf5 raises: its own, and those of libraries below it (std::filesystem, on a full disk)."""
    return dnf.exception.Error, dnf.exception.NonLibdnf5Exception, RuntimeError


def configure(base: Any, access: RepoAccess, network: RepoNetwork, installroot: str) -> None:
    """Configure a new libdnf5.base.Base, before its setup(). installroot: an empty directory."""
    config = base.get_config()
    settings: Mapping[str, object] = {
        "config_file_path": "/dev/null",
        "plugins": False,
        "cachedir": network.metadata_dir,
        "system_cachedir": network.metadata_dir,
        "persistdir": os.path.join(network.metadata_dir, "persist"),
        "logdir": os.path.join(installroot, "log"),
        "installroot": installroot,
        "use_host_config": False,
        "reposdir": [],
        "varsdir": [],
        "cacheonly": "all" if network.cache_only else "none",
        "ignorearch": True,
        "skip_if_unavailable": False,
        "skip_unavailable": False,
        "skip_broken": False,
        # like rpm-ostree, take an older build if the newest cannot be installed
        "best": False,
        "optional_metadata_types": ["filelists"],
        "user_agent": "compose (libdnf5)",
    }
    for name, value in settings.items():
        getattr(config, f"get_{name}_option")().set(value)
    if network.proxy is not None:
        config.get_proxy_option().set(network.proxy)
    # libcurl itself does not look at them; sslcacert= of a .repo file comes first
    if authorities := next(filter(None, map(os.environ.get, AUTHORITIES)), None):
        config.get_sslcacert_option().set(authorities)
    dnf_variables = base.get_vars()
    for name, text in variables(access).items():
        dnf_variables.set(name, text)


def add_repos(base: Any, sections: tuple[RepoSection, ...], reporter: Reporter) -> list[Any]:
    """Add repositories to a Base after its setup(), and return libdnf5's, in the order of sections. Loads no metadata.

    Raises TreefileError with file:line for a value that libdnf5 refuses. Warns of unknown options.
    """
    repos = []
    for section in sections:
        repo = base.get_repo_sack().create_repo(section.id)
        config = repo.get_config()
        for option in section.options:
            name = _SAME_AS.get(option.key, option.key)
            if name in _IGNORED:
                continue
            accessor = getattr(config, f"get_{name}_option", None)
            if accessor is None:
                reporter.warn(f"{option.place}: unknown option {option.key!r} of a repository is ignored")
                continue
            try:
                accessor().set(value_of(base, section, option))
            except Exception as error:  # libdnf5's, whose classes are not imported here
                fault = without_user(f"{option.key}={option.value} in repository {section.id!r}: {error}")
                raise TreefileError(f"{option.place}: {fault}") from error
        config.get_skip_if_unavailable_option().set(False)
        config.get_pkg_gpgcheck_option().set(section.gpgcheck)
        # modularity is off: no package is hidden by a module stream
        config.get_module_hotfixes_option().set(True)
        config.get_countme_option().set(False)
        config.get_metadata_expire_option().set(0)
        repos.append(repo)
    return repos


def value_of(base: Any, section: RepoSection, option: RepoOption) -> str:
    """Return an option's value with $name and ${name} replaced, unknown ones excepted, and paths made absolute."""
    return absolute(option.key, str(base.get_vars().substitute(option.value)), os.path.dirname(option.path))

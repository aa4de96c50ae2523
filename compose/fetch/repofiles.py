"""The `.repo` files of a compose made portable: variables substituted, paths absolute, no passwords."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compose.errors import FetchError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.repofile import RepoOption, RepoSection, without_user
from compose.rpm.repos import RepoAccess, RepoNetwork, configure, enabled_repos, value_of

_SECRETS = frozenset({"username", "password", "proxy_username", "proxy_password"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    access: RepoAccess
    network: RepoNetwork


def portable(access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> tuple[RepoSection, ...]:
    """Return the repositories that take part, made portable. Raises TreefileError for faults in .repo files."""
    return child.call(_portable, _Job(access=access, network=network), reporter, crash=_crashed)


def format_sections(sections: Sequence[RepoSection], keys: Mapping[str, Sequence[str]], *, enabled: bool = True) -> str:
    """Return the text of a .repo file. keys: entries of gpgkey=, by repository id. enabled: whether the repositories
    take part unless they are named."""
    lines: list[str] = []
    for section in sections:
        lines.append(f"[{section.id}]")
        if not enabled:
            lines.append("enabled=0")
        # of options that are given again, the last one counts
        for option in {each.key: each for each in section.options}.values():
            if option.key not in {"enabled", "gpgkey", *_SECRETS}:
                # continuation lines start with a blank
                lines.append(f"{option.key}=" + _without_secrets(option).replace("\n", "\n "))
        if keys.get(section.id):
            lines.append(f"gpgkey={' '.join(keys[section.id])}")
        lines.append("")
    return "\n".join(lines)


def _without_secrets(option: RepoOption) -> str:
    value = without_user(option.value)
    # curl takes that of a proxy without a scheme, too
    return value.rpartition("@")[2] if option.key == "proxy" and "://" not in value else value


def _portable(job: _Job, reporter: Reporter) -> tuple[RepoSection, ...]:
    import libdnf5

    del reporter
    root = os.path.join(job.network.metadata_dir, "empty-root")
    os.makedirs(root, mode=0o700, exist_ok=True)
    base = libdnf5.base.Base()
    configure(base, job.access, job.network, root)
    base.setup()
    found = []
    for section in enabled_repos(job.access):
        options = tuple(
            dataclasses.replace(option, value=value_of(base, section, option)) for option in section.options
        )
        found.append(dataclasses.replace(section, options=options))
    return tuple(found)


def _crashed(cause: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"libdnf5 died while reading .repo files: {cause}", hint="run it again", details=output)

"""What clients find in a repository that is served."""

from __future__ import annotations

from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.repo import Repo
from compose.ostree.signers import METADATA_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A ref. commit: 64 hex digits. signatures: the kinds that its commit has: "gpg", "ed25519", "spki"."""

    ref: str
    commit: str
    version: str | None
    signatures: tuple[str, ...]


def offered(repo: Repo, reporter: Reporter) -> tuple[Offered, ...]:
    """The refs, sorted. One whose commit cannot be read is warned of."""
    found = []
    for ref, checksum in repo.refs().items():
        try:
            version = _version(repo, checksum)
            detached = {key for key, _ in repo.read_detached(checksum)}
        except RepositoryError as error:
            reporter.warn(f"{ref} cannot be pulled: {error.message}")
            continue
        found.append(
            Offered(
                ref=ref,
                commit=checksum,
                version=version,
                signatures=tuple(kind for kind, key in METADATA_KEYS.items() if key in detached),
            )
        )
    return tuple(found)


def name_of(repo: Repo, commit: str) -> str:
    """What to call a commit in a line: its refs, version and first digits."""
    try:
        refs = [ref for ref, checksum in repo.refs().items() if checksum == commit]
        version = _version(repo, commit)
    except RepositoryError:
        # it was removed meanwhile
        refs, version = [], None
    facts = [commit[:12], *([version] if version else ())]
    return f"{' '.join(refs)} ({', '.join(facts)})" if refs else " ".join(facts)


def _version(repo: Repo, commit: str) -> str | None:
    """One that can be shown on a terminal: commits may be anybody's."""
    version = repo.read_commit(commit, ("version",)).get("version")
    return version if isinstance(version, str) and version.isprintable() else None


def check_served(repo: Repo) -> None:
    """Raise RepositoryError when clients could not pull from it over HTTP."""
    if repo.config.mode is not Mode.ARCHIVE:
        raise RepositoryError(
            f"{repo.path} is a {repo.config.mode} repository, which no client can pull from over HTTP",
            hint=f"compose into an archive repository, or pull into one and serve that: ostree --repo=ARCHIVE init "
            f"--mode=archive; ostree --repo=ARCHIVE pull-local {repo.path}",
        )
    if repo.config.parent is not None:
        raise RepositoryError(
            f"{repo.path} takes objects from {repo.config.parent} (core.parent), which is not served with it",
            hint=f"pull what is to be served into a repository of its own: ostree pull-local {repo.path}",
        )

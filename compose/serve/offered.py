"""What a served repository offers to clients."""

from __future__ import annotations

from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.repo import Repo
from compose.ostree.signers import METADATA_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A ref that clients can pull. commit: 64 hex digits. signatures: the kinds on its commit: "gpg", "ed25519", "spki"."""

    ref: str
    commit: str
    version: str | None
    signatures: tuple[str, ...]


def offered(repo: Repo, reporter: Reporter) -> tuple[Offered, ...]:
    """The refs, sorted. Warns of refs whose commit cannot be read, and leaves them out."""
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
    """A short description of a commit: its refs, abbreviated checksum and version."""
    try:
        refs = [ref for ref, checksum in repo.refs().items() if checksum == commit]
        version = _version(repo, commit)
    except RepositoryError:
        # removed meanwhile
        refs, version = [], None
    facts = [commit[:12], *([version] if version else ())]
    return f"{' '.join(refs)} ({', '.join(facts)})" if refs else " ".join(facts)


def _version(repo: Repo, commit: str) -> str | None:
    """Version of a commit; None if it is not printable, since commits may come from anyone."""
    version = repo.read_commit(commit, ("version",)).text("version")
    return version if version is not None and version.isprintable() else None


def check_served(repo: Repo) -> None:
    """Raise RepositoryError if clients could not pull from the repository over HTTP."""
    if repo.config.mode is not Mode.ARCHIVE:
        raise RepositoryError(
            f"{repo.path} is a {repo.config.mode} repository, which no client can pull from over HTTP",
            hint=f"compose into an archive repository, or pull into one and serve it: ostree --repo=ARCHIVE init "
            f"--mode=archive; ostree --repo=ARCHIVE pull-local {repo.path}",
        )
    if repo.config.parent is not None:
        raise RepositoryError(
            f"{repo.path} takes objects from {repo.config.parent} (core.parent), which is not served with it",
            hint=f"pull its commits into a separate archive repository and serve it: ostree --repo=ARCHIVE pull-local "
            f"{repo.path}",
        )

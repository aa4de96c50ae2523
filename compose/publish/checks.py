"""Refuse to publish what clients would refuse to pull."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from compose.errors import PolicyError, UsageError
from compose.ostree.objects import COLLECTION_BINDING, REF_BINDING, Commit
from compose.ostree.reachable import history, reader
from compose.ostree.repo import Repo
from compose.ostree.signers import Signer
from compose.ostree.summary import summary_signature_keys


def check_bindings(name: str, checksum: str, commit: Commit, collection: str | None) -> None:
    """Raise PolicyError if a commit is bound to other refs, or to another collection, than it is published under.

    collection: collection ID of the target repository, or None. Clients check the same (ostree-repo-pull-verify.c,
    _ostree_repo_verify_bindings()).
    """
    refs = _typed(commit, REF_BINDING, "as")
    if refs is None and collection is not None:
        raise PolicyError(
            f"{name}: {checksum} is bound to no ref ({REF_BINDING}), which clients of a collection require",
            hint=f"commit it bound: ostree commit --tree=ref={checksum} --branch={name}, with the same core.collection-id",
        )
    if refs is not None and name not in refs:
        bound = ", ".join(map(printable, refs)) or "no ref"
        raise PolicyError(
            f"{name}: {checksum} is bound to {bound}: clients refuse it under another name",
            hint="publish it under a ref it is bound to with --as, or compose it with the ref that clients pull",
        )
    found = _typed(commit, COLLECTION_BINDING, "s")
    if collection is not None and found != collection:
        bound = f"the collection {printable(found)}" if found else "no collection"
        raise PolicyError(
            f"{name}: {checksum} is bound to {bound}, the repository belongs to the collection {collection}",
            hint=f"compose into a repository with core.collection-id={collection}",
        )


def _typed(commit: Commit, key: str, kind: str) -> Any:
    """Value of a key of commit metadata; None if absent or of another type, which clients ignore."""
    return next((each.value for name, each in commit.metadata if name == key and each.type == kind), None)


def check_age(name: str, checksum: str, source: Repo, before: str | None, target: Repo, *, allowed: bool) -> bool:
    """Raise PolicyError if a commit is older than the published one, unless allowed; most clients refuse to downgrade.

    before: the published commit, if any. Returns whether the commit descends from it, as far as that is known; clients do not
    require that.
    """
    if before is None or before == checksum or not target.has(before, "commit"):
        return True
    old, new = target.read_commit(before, ()), source.read_commit(checksum, ())
    if new.timestamp < old.timestamp and not allowed:
        raise PolicyError(
            f"{name}: {checksum} of {_date(new)} is older than the published {before} of {_date(old)}: clients refuse it",
            hint="compose the old treefile and lockfile again, which all clients accept, or give --allow-downgrade",
        )
    return any(each == before for each, _, _ in history(checksum, reader(source, target)))


def check_summary(target: Repo, signers: Sequence[Signer]) -> None:
    """Raise UsageError if the new summary would lack a kind of signature that the current one has."""
    missing = summary_signature_keys(target) - {each.metadata_key for each in signers}
    if missing:
        raise UsageError(
            f"the summary of {target.path} has signatures ({', '.join(sorted(missing))}), and no key is given for the new one",
            hint="give its keys with --gpg-key, --sign or --sign-command; or remove summary.sig, if no client needs it",
        )


def printable(text: str) -> str:
    """Escape control characters, since commits may come from anyone."""
    return text if text.isprintable() else repr(text)


def _date(commit: Commit) -> str:
    try:
        return datetime.fromtimestamp(commit.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{commit.timestamp} s after 1970"

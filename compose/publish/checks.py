"""What clients would refuse, before they are offered it."""

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
    """Raise PolicyError when a commit says to be of other refs, or of another collection, than it is published under.

    collection: of the repository, None where it has none. Clients ask the same (ostree-repo-pull-verify.c,
    _ostree_repo_verify_bindings()).
    """
    refs = _typed(commit, REF_BINDING, "as")
    if refs is None and collection is not None:
        raise PolicyError(
            f"{name}: {checksum} is bound to no ref ({REF_BINDING}), which clients of a collection demand",
            hint=f"ostree commit --tree=ref={checksum} --branch={name}, with the same core.collection-id, binds one",
        )
    if refs is not None and name not in refs:
        bound = ", ".join(map(printable, refs)) or "no ref"
        raise PolicyError(
            f"{name}: {checksum} is bound to {bound}: clients refuse it under another name",
            hint="give that name with --as, or compose it with the ref that clients pull",
        )
    found = _typed(commit, COLLECTION_BINDING, "s")
    if collection is not None and found != collection:
        raise PolicyError(
            f"{name}: {checksum} is of {printable(found or 'no collection')}, the repository is of {collection}",
            hint="the repository that is committed to needs the same core.collection-id",
        )


def _typed(commit: Commit, key: str, kind: str) -> Any:
    """Of commit metadata; None also of what has another type, which clients pass over."""
    return next((each.value for name, each in commit.metadata if name == key and each.type == kind), None)


def check_age(name: str, checksum: str, source: Repo, before: str | None, target: Repo, *, allowed: bool) -> bool:
    """Raise PolicyError when a commit is older than the one that clients have, which most of them refuse.

    allowed: do not. False when that one is not among those before it either, which clients do not mind.
    """
    if before is None or before == checksum or not target.has(before, "commit"):
        return True
    has, gets = target.read_commit(before, ()), source.read_commit(checksum, ())
    if gets.timestamp < has.timestamp and not allowed:
        raise PolicyError(
            f"{name}: {checksum} is of {_date(gets)}, older than {before}, of {_date(has)}, which clients have: they refuse it",
            hint="a new compose of the old treefile and lockfile is taken by all; --allow-downgrade publishes this one",
        )
    return any(each == before for each, _, _ in history(checksum, reader(source, target)))


def check_summary(target: Repo, signers: Sequence[Signer]) -> None:
    """Raise UsageError when the next summary would lack a kind of signature that clients find at the present one."""
    missing = summary_signature_keys(target) - {each.metadata_key for each in signers}
    if missing:
        raise UsageError(
            f"the summary of {target.path} has signatures ({', '.join(sorted(missing))}), and no key is given for the next one",
            hint="give its keys: --gpg-key, --sign or --sign-command; or remove summary.sig, if no client asks for it",
        )


def printable(text: str) -> str:
    """For a terminal: commits may be anybody's."""
    return text if text.isprintable() else repr(text)


def _date(commit: Commit) -> str:
    try:
        return datetime.fromtimestamp(commit.timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{commit.timestamp} s after 1970"

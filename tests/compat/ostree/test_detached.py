"""Signatures and detached metadata, as the real client reads them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.errors import UsageError
from compose.events import Reporter
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.ostree.signers import GpgKey
from compose.ostree.transaction import Transaction
from tests.compat.ostree.test_commit import ostree, served
from tests.support import rpmrepo

KEY = rpmrepo.address("builder")


@pytest.fixture(scope="module", autouse=True)
def keys() -> Iterator[rpmrepo.Keys]:
    with rpmrepo.keyring("builder", "other") as made:
        yield made


def write(
    repo: Path, *, key: str | None = KEY, note: str = "first", before_publication: Callable[[str], object] | None = None
) -> str:
    with Repo.open(str(repo)) as opened, Transaction(opened, jobs=1, reporter=Reporter()) as transaction:
        meta = transaction.write_dirmeta(0, 0, 0o40755, ())
        commit = Commit(
            metadata=(),
            parent=b"",
            subject="s",
            body="",
            timestamp=1,
            root_tree=transaction.write_dirtree((), ()),
            root_meta=meta,
        )
        checksum = transaction.write_commit(
            commit, detached=(("note", Variant("s", note)),), signers=(GpgKey(key),) if key else ()
        )
        transaction.set_ref("main", checksum)
        if before_publication is not None:
            before_publication(checksum)
    return checksum


def signers(repo: Path, commit: str, keys: rpmrepo.Keys) -> list[str]:
    """Key IDs of all signatures, good ones, as ostree sees them."""
    trusted = repo.parent / "trusted"
    trusted.mkdir(exist_ok=True)
    (trusted / "all.gpg").write_bytes(keys.export("builder", "other", armor=False))
    shown = ostree(repo, "show", f"--gpg-homedir={trusted}", commit)
    assert shown.count("Good signature") == shown.count("Signature made"), shown
    return sorted(re.findall(r"Signature made .* key ID ([0-9A-F]{16})", shown))


def test_a_client_that_demands_signatures_pulls(tmp_path: Path, keys: rpmrepo.Keys) -> None:
    Repo.create(str(tmp_path / "repo"))
    checksum = write(tmp_path / "repo")
    assert "'first'" in ostree(tmp_path / "repo", "show", "--print-detached-metadata-key=note", checksum)
    ostree(tmp_path / "repo", "fsck")
    ostree(tmp_path / "client", "init", "--mode=archive")
    for name, key in (("right", "builder"), ("wrong", "other")):
        (tmp_path / name).write_bytes(keys.export(key))
        with served(tmp_path / "repo") as url:
            ostree(tmp_path / "client", "remote", "add", f"--gpg-import={tmp_path / name}", name, url)
            pull = ["ostree", f"--repo={tmp_path / 'client'}", "pull", name, "main"]
            done = subprocess.run(pull, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert (done.returncode == 0) == (name == "right"), done.stdout
    assert "Good signature" in ostree(tmp_path / "client", "show", "right:main")


def test_the_same_commit_again_gets_the_new_metadata(tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"))
    assert write(tmp_path / "repo") == write(tmp_path / "repo", note="second")
    assert "'second'" in ostree(tmp_path / "repo", "show", "--print-detached-metadata-key=note", "main")


def test_what_others_put_beside_a_commit_stays(tmp_path: Path, keys: rpmrepo.Keys) -> None:
    """`ostree commit` of the same again keeps signatures, and piles up those of one key."""
    repo = tmp_path / "repo"
    Repo.create(str(repo))
    builder, other = (keys.fingerprint(name)[-16:].upper() for name in ("builder", "other"))
    checksum = write(repo)

    def sign(commit: str) -> None:
        ostree(repo, "gpg-sign", f"--gpg-homedir={keys.home}", commit, keys.fingerprint("other"))

    # between the writing of the commit and its publication, of one that is there already
    assert write(repo, before_publication=sign) == checksum
    assert signers(repo, checksum, keys) == sorted((builder, other))
    for key, note in ((KEY, "second"), (KEY, "second"), (None, "third")):
        assert write(repo, key=key, note=note) == checksum
        assert signers(repo, checksum, keys) == sorted((builder, other))
        assert f"'{note}'" in ostree(repo, "show", "--print-detached-metadata-key=note", checksum)
    ostree(repo, "fsck")


def test_a_key_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"))
    with pytest.raises(UsageError, match=r"gpg cannot sign with nobody@example\.invalid") as caught:
        write(tmp_path / "repo", key="nobody@example.invalid")
    assert any("No secret key" in line for line in caught.value.details)
    assert not [path for path in (tmp_path / "repo/objects").rglob("*") if path.is_file()]
    assert not list((tmp_path / "repo/refs/heads").iterdir())

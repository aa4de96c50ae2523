"""Trees of commits whose contents are read only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import RepositoryError
from compose.layers import read_layer, survey
from compose.lint.subject import Subject
from compose.ostree.config import Mode
from compose.ostree.repo import Repo
from compose.tree import BlobRef
from tests.support.commits import Item, file, link, write_commit

ITEMS: Mapping[str, Item] = {
    "usr/a": file(b"text", 0o600, uid=3, xattrs=((b"user.x", b"y"),)),
    "usr/b": file(b"text"),
    "usr/empty": file(b""),
    "usr/large": file(b"large" * 100_000),
    "usr/link": link("a"),
}


@pytest.mark.parametrize("mode", [Mode.ARCHIVE, Mode.BARE_USER])
def test_the_same_as_with_all_contents(tmp_path: Path, mode: Mode) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    with Repo.create(str(tmp_path / "repo"), mode) as repo:
        commit = write_commit(repo, ITEMS)
        expected = read_layer(repo, commit, store)
        tree, contents = survey(repo, commit)
        assert [path for path, _ in tree.walk()] == [path for path, _ in expected.walk()]
        for path, entry in tree.walk():
            wanted = expected[path]
            assert (entry.mode, entry.uid, entry.xattrs, entry.target, entry.mtime) == (
                *(wanted.mode, wanted.uid, wanted.xattrs, wanted.target, wanted.mtime),
            )
            if wanted.blob is not None:
                blob = blob_of(entry.blob)
                assert (blob.size, blob.mode, blob.mtime) == (wanted.blob.size, wanted.blob.mode, wanted.blob.mtime)
                assert contents.read(blob) == store.read(wanted.blob)


def test_damage_is_found_when_it_is_read(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo"), Mode.BARE_USER) as repo:
        tree, contents = survey(repo, write_commit(repo, ITEMS))
        blob = blob_of(tree["usr/b"].blob)
        path = tmp_path / f"repo/objects/{blob.digest[:2]}/{blob.digest[2:]}.file"
        path.write_bytes(b"TEXT")
        with pytest.raises(RepositoryError, match="checksum differs"):
            contents.read(blob)
        assert contents.read(blob_of(tree["usr/a"].blob)) == b"text"
        path.unlink()
        with pytest.raises(RepositoryError):
            contents.read(blob)


def test_equal_contents_with_other_owners(tmp_path: Path) -> None:
    """Rules compare contents; the objects of these files differ."""
    with Repo.create(str(tmp_path / "repo")) as repo:
        tree, contents = survey(repo, write_commit(repo, ITEMS))
        subject = Subject(tree, contents, bootable=False, commit=None, labels=None, measured=None)
        one, other = blob_of(tree["usr/a"].blob), blob_of(tree["usr/b"].blob)
        assert one.digest != other.digest
        assert subject.same(one, other)
        assert not subject.same(one, blob_of(tree["usr/empty"].blob))


def blob_of(blob: BlobRef | None) -> BlobRef:
    assert blob is not None
    return blob

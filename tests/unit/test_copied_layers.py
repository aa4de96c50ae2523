"""Commits of layers that are copied to another repository."""

from __future__ import annotations

from pathlib import Path

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.layers import copy_layers, resolve_layers
from compose.ostree import refs
from compose.ostree.gvariant import decode, encode
from compose.ostree.objects import COMMIT_TYPE
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from tests.support.commits import file, write_commit


def test_a_commit_with_what_we_know_nothing_of_keeps_its_checksum(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "one")) as source, Repo.create(str(tmp_path / "other")) as target:
        plain = write_commit(source, {"usr/file": file(b"content")})
        values = list(decode(COMMIT_TYPE, source.read_metadata(plain, "commit")))
        # related objects, which today's ostree never writes
        values[2] = [("related", b"\1" * 32)]
        with Transaction(source, jobs=1, reporter=Reporter()) as transaction:
            transaction.copy_commit(encode(COMMIT_TYPE, values), detached=())
        (related,) = {path.parent.name + path.stem for path in Path(source.path).glob("objects/*/*.commit")} - {plain}
        refs.write_ref(source.fd, "layer", related, fsync=False)
        layers = resolve_layers(source, ["layer"], [], {})
        copy_layers(source, layers, BlobStore(str(tmp_path / "blobs")), target, 1, Reporter())
        assert target.read_metadata(related, "commit") == source.read_metadata(related, "commit")
        assert target.read_file(related, "usr/file") == b"content"

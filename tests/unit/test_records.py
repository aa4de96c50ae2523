"""The records of a commit, as they are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import zstandard

from compose.errors import FetchError
from compose.events import Reporter
from compose.inputhash import Input, InputKind
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions
from compose.pipeline.results import keep_records
from compose.records import Records, Run, decode, encode, forget_gone, keep, read_sources
from compose.treefile.model import Treefile


def test_what_is_kept_is_read_back() -> None:
    records = Records(
        writers={"usr": "step:root", "usr/bin": "package:a-1-1.noarch"},
        programs=(Run(owner="package:a-1-1.noarch", phase="%post", status=0, seconds=0.5, changed=("etc/a",)),),
        inputs=(Input(kind=InputKind.KEY, name="ref", value="x"),),
        places={"a": "x.yaml:1"},
        marks={"usr": "0" * 16},
    )
    assert decode(encode(records)) == records


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[" * 200_000, b'{"version": 1, "writers": [], "programs": []}'])
def test_what_is_damaged(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(zstandard.ZstdCompressor().compress(text))
    with pytest.raises(ValueError):
        decode(text)


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    assert read_sources(str(tmp_path / "missing"), str(tmp_path)) is None
    with pytest.raises(FetchError, match=r"cannot read .*: Is a directory"):
        read_sources(str(tmp_path), str(tmp_path))


def test_records_of_commits_that_are_gone_and_half_a_record(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        keep(repo, "0" * 64, Records(writers={}, programs=()))
        place = tmp_path / "repo/extensions/compose"
        # a killed process leaves the one, another process writes the other
        for name, age in (("0123456789ab", 4000), ("ba9876543210", 0)):
            (place / f"x.{name}.tmp").touch()
            os.utime(place / f"x.{name}.tmp", (time.time() - age,) * 2)
        forget_gone(repo)
        assert os.listdir(place) == ["x.ba9876543210.tmp"]


def test_what_claims_to_be_huge_is_not_believed() -> None:
    # a zstd frame with a content size of 8 bytes, RFC 8878
    with pytest.raises(ValueError):
        decode(b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00")


def test_a_treefile_that_was_broken_during_the_compose(tmp_path: Path) -> None:
    """The commit exists by then, so the compose must not fail."""
    (tmp_path / "top.yaml").write_text("packages: [")
    options = ComposeOptions(treefile=str(tmp_path / "top.yaml"), cachedir=str(tmp_path / "cache"))
    warnings: list[str] = []

    class Log(Reporter):
        def warn(self, message: str) -> None:
            warnings.append(message)

    with Repo.create(str(tmp_path / "repo")) as repo:
        keep_records(repo, options, Treefile(basearch="x86_64"), "0" * 64, Records(writers={}, programs=()), Log())
    assert "top.yaml:2:1: not YAML" in warnings[0]

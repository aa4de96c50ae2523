"""The files beside a root directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose.errors import ComposeError, FetchError, UsageError
from compose.pipeline import beside
from compose.pipeline.facts import Facts

FACTS = Facts(packages=(), epoch=1)


def test_any_name_of_the_root_leads_to_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, link = tmp_path / "out/rootfs", tmp_path / "link"
    root.mkdir(parents=True)
    link.symlink_to(root)
    beside.write_facts(str(root), FACTS)
    monkeypatch.chdir(root)
    for name in (str(root), f"{root}/", ".", str(link), f"{link}/"):
        assert beside.read_facts(name) == FACTS, name
    beside.write_facts(str(link), FACTS)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "out"]


@pytest.mark.parametrize(
    ("name", "read", "error"),
    [
        ("compose.json", beside.read_facts, UsageError),
        ("compose-records.json.zst", beside.read_records, UsageError),
        ("compose-sources.tar.zst", lambda root: beside.unpack_sources(root, f"{root}/unpacked"), FetchError),
    ],
)
def test_a_file_that_cannot_be_read(
    name: str, read: Callable[[str], object], error: type[ComposeError], tmp_path: Path
) -> None:
    root = tmp_path / "rootfs"
    root.mkdir()
    assert read(str(root)) is None
    (tmp_path / name).mkdir()
    with pytest.raises(error, match=rf"cannot read .*/{name}: Is a directory") as caught:
        read(str(root))
    assert caught.value.hint is not None
    assert "remove it" in caught.value.hint

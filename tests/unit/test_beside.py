"""The files beside a root directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.errors import ComposeError, FetchError, UsageError
from compose.pipeline import beside
from compose.pipeline.facts import Facts
from compose.records import Records
from compose.syscalls import exchange

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


def test_after_a_kill_each_root_has_its_own_files(tmp_path: Path) -> None:
    root, fresh = tmp_path / "rootfs", tmp_path / "fresh"
    later, records = dataclasses.replace(FACTS, epoch=2), Records(writers={"a": "b"}, programs=())
    root.mkdir()
    fresh.mkdir()
    beside.write_facts(str(root), FACTS)
    beside.announce(str(root), str(fresh), later, records)
    for name in ("compose.json.1", ".compose.json.x"):
        (tmp_path / name).write_text("mine")
    # killed before the exchange
    assert (beside.read_facts(str(root)), beside.read_records(str(root))) == (FACTS, None)
    exchange(str(root), str(fresh))
    # killed after it
    assert (beside.read_facts(str(root)), beside.read_records(str(root))) == (later, records)
    beside.settle(str(root))
    assert (beside.read_facts(str(root)), beside.read_records(str(root))) == (later, records)
    names = [".compose.json.x", "compose-records.json.zst", "compose.json", "compose.json.1", "fresh", "rootfs"]
    assert sorted(each.name for each in tmp_path.iterdir()) == names


def test_what_was_announced_for_a_root_that_never_came_goes(tmp_path: Path) -> None:
    root, fresh = tmp_path / "rootfs", tmp_path / "fresh"
    fresh.mkdir()
    beside.write_facts(str(root), FACTS)
    beside.announce(str(root), str(fresh), dataclasses.replace(FACTS, epoch=2), None)
    root.mkdir()
    beside.settle(str(root))
    assert beside.read_facts(str(root)) == FACTS
    assert not list(tmp_path.glob(".*"))


def test_what_was_announced_is_kept_without_a_root(tmp_path: Path) -> None:
    """The name may be misspelt, or an exchange in several steps was interrupted."""
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    beside.announce(str(tmp_path / "rootfs"), str(fresh), FACTS, None)
    beside.settle(str(tmp_path / "rootfs"))
    assert len(list(tmp_path.glob(".*"))) == 1
    beside.forget(str(tmp_path / "rootfs"))
    assert not list(tmp_path.glob(".*"))


def test_what_others_may_have_put_there(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    root.mkdir()
    (tmp_path / ".compose.json.1").mkdir()
    (tmp_path / f".compose.json.{root.stat().st_ino}").symlink_to("/etc/passwd")
    beside.settle(str(root))
    beside.forget(str(root))
    assert beside.read_facts(str(root)) is None
    assert len(list(tmp_path.glob(".*"))) == 2

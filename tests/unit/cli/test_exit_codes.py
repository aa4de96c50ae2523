"""The exit codes that the README promises are those there are."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from compose.cli.ending import limited
from compose.cli.flags import FOUND, UNCHANGED
from compose.errors import ComposeError, StorageError


def classes(root: type[ComposeError]) -> list[type[ComposeError]]:
    return [root, *(each for child in root.__subclasses__() for each in classes(child))]


def test_each_is_told() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    told = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", readme)}
    assert told == {0, FOUND, UNCHANGED, *(each.exit_code for each in classes(ComposeError))}


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread"), MemoryError()]
)
def test_a_machine_that_gives_no_more_is_no_fault_of_ours(error: Exception) -> None:
    told = limited(error)
    assert told is not None
    assert told.exit_code == 1
    assert "ulimit" in (told.hint or "")


@pytest.mark.parametrize("place", ["/srv/repo/x", None, 7])
def test_a_disk_that_fails_is_no_fault_of_ours(place: str | int | None) -> None:
    told = limited(OSError(errno.EIO, "Input/output error", place))
    where = place if isinstance(place, str) else "to the disk"
    assert isinstance(told, StorageError)
    assert told.message == f"cannot write {where}: Input/output error"
    assert "dmesg" in (told.hint or "")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "x"), RuntimeError("x"), StorageError("x"), KeyError("x")])
def test_others_are_told_as_they_are(error: Exception) -> None:
    assert limited(error) is None


def test_one_fault_is_the_message_and_several_are_listed() -> None:
    found = [
        StorageError.of(["a"], "many", hint="h", most=2),
        StorageError.of(["a", "b"], "many", most=2),
        StorageError.of(["a", "b", "c"], "many", most=2),
    ]
    assert [(each.message, each.hint, each.details) for each in found] == [
        ("a", "h", ()),
        ("many", None, ("a", "b")),
        ("many", None, ("a", "b", "and 1 more")),
    ]

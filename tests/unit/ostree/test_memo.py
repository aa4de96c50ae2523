"""What is remembered between commits: kept, merged, forgotten, and never believed when it is not as it was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from compose.errors import StorageError
from compose.ostree import memo as module
from compose.ostree.memo import ContentMemo

HEADER = b"header of 0:0 0644"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def remembered(path: Path, *texts: str, header: bytes = HEADER) -> None:
    """A commit of files with these texts."""
    memo = ContentMemo.open(str(path))
    for text in texts:
        if memo.get(header, digest(text)) is None:
            memo.put(header, digest(text), digest(f"checksum of {text}"))
    memo.save()


def known(path: Path, *texts: str, header: bytes = HEADER) -> list[bool]:
    memo = ContentMemo.open(str(path))
    found = [memo.get(header, digest(text)) for text in texts]
    assert all(each in (None, digest(f"checksum of {text}")) for each, text in zip(found, texts, strict=True))
    return [each is not None for each in found]


def test_the_next_commit_knows_and_another_owner_does_not(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    remembered(path, "a", "b")
    remembered(path, "c", header=b"another")
    assert known(path, "a", "b", "c") == [True, True, False]
    assert known(path, "c", "a", header=b"another") == [True, False]


def test_what_two_commits_learn_at_once_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "memo"
    remembered(path, "a")
    one, other = ContentMemo.open(str(path)), ContentMemo.open(str(path))
    one.put(HEADER, digest("b"), digest("checksum of b"))
    other.put(HEADER, digest("c"), digest("checksum of c"))
    one.save()
    other.save()
    assert known(path, "a", "b", "c") == [True, True, True]


def test_what_is_not_used_for_long_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    path = tmp_path / "memo"
    remembered(path, "old", "used")
    size = path.stat().st_size
    for _ in range(3):
        remembered(path, "used")
    assert known(path, "old", "used") == [False, True]
    assert path.stat().st_size < size


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "foreign", "directory", "link", "writable"])
def test_damage_is_noticed_and_healed(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "memo"
    remembered(path, "a", "b")
    data = path.read_bytes()
    assert known(path, "a") == [True]
    match damage:
        case "cut":
            path.write_bytes(data[:-1])
        case "bit":
            path.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.write_bytes(data.replace(b"memo 1", b"memo 2"))
        case "directory":
            path.unlink()
            path.mkdir()
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to("elsewhere")
        case "writable":
            path.chmod(0o622)
    assert known(path, "a") == [False]
    if damage == "directory":
        with pytest.raises(StorageError, match="memo"):
            remembered(path, "a")
    else:
        remembered(path, "a")
        assert known(path, "a") == [True]

"""Downloads that fail because the disk is full."""

from __future__ import annotations

import pytest

from compose import fs
from compose.errors import StorageError
from compose.fetch.transfers import stop_for_disk

_MISMATCH = {"a.rpm": "Downloading successful, but checksum doesn't match. Calculated: 1(sha256)  Expected: 2(sha256) "}


def test_a_wrong_checksum_on_a_full_disk_is_for_want_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_for_disk("/", _MISMATCH)
    monkeypatch.setattr(fs, "is_full", lambda place: True)
    with pytest.raises(StorageError, match="cannot store downloads in /: ") as caught:
        stop_for_disk("/", _MISMATCH)
    assert caught.value.hint == fs.FREE_SPACE

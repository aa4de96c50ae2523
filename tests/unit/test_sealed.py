"""Files of the cachedir that several composes forget at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.sealed import forget_oldest


def test_what_another_compose_forgets_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path / str(number), (number, number))
    found = [*tmp_path.iterdir(), tmp_path / "gone"]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(found))
    forget_oldest(str(tmp_path), 2)
    assert sorted(os.listdir(tmp_path)) == ["2", "3"]

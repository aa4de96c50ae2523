"""Commit metadata from JSON files."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.errors import UsageError
from compose.metadata import read_json_file


@pytest.mark.parametrize("text", ["{", "[" * 200_000, '{"a": ' + "1" * 5000 + "}", b"\xff"])
def test_what_is_not_json(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"metadata\.json: not JSON: "):
        read_json_file(str(path))

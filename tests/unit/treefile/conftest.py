"""Fixtures that load treefiles from text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compose.errors import TreefileError
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile

Load = Callable[..., LoadedTreefile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """load(top, "name.yaml"=text...): writes the files, loads top.yaml (or the file named `start`)."""

    def _load(top: str, /, start: str = "top.yaml", **files: str) -> LoadedTreefile:
        for name, text in {start: top, **files}.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml").replace("_json", ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return load_treefile(str(tmp_path / start), basearch="x86_64")

    return _load


@pytest.fixture
def faults(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """The error lines of a treefile that must not load, with relative file names."""

    def _faults(top: str, /, **files: str) -> list[str]:
        with pytest.raises(TreefileError) as caught:
            load(top, **files)
        lines = caught.value.details or (caught.value.message,)
        return [line.replace(f"{tmp_path}/", "") for line in lines]

    return _faults

"""The files beside a root directory."""

from __future__ import annotations

from pathlib import Path

import pytest

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

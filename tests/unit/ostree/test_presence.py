"""Which objects are in a repository."""

from __future__ import annotations

import os
from pathlib import Path

from compose.ostree.presence import Presence


def test_content_in_small_and_large_directories(tmp_path: Path) -> None:
    presence = Presence(str(tmp_path))
    here = [b"\1" + os.urandom(31) for _ in range(40)]
    absent = [b"\1" + os.urandom(31), b"\2" + os.urandom(31)]
    (tmp_path / "01").mkdir()
    for checksum in here:
        (tmp_path / "01" / f"{checksum.hex()[2:]}.filez").touch()
    assert presence.content([*here, *absent], ".filez") == set(here)
    # few of many, and one under another extension
    (tmp_path / "01" / f"{absent[0].hex()[2:]}.dirtree").touch()
    assert presence.content([here[7], here[19], *absent], ".filez") == {here[7], here[19]}
    assert presence.content(here, ".file") == set()


def test_metadata_of_directories_that_were_listed_and_others(tmp_path: Path, monkeypatch) -> None:
    checksum = b"\1" + os.urandom(31)
    for directory in ("01", "02"):
        (tmp_path / directory).mkdir()
        for extension in ("dirtree", "commit"):
            (tmp_path / directory / f"aa.{extension}").touch()
    presence = Presence(str(tmp_path))
    assert presence.content([checksum], ".filez") == set()
    answers = {f"{place}/{name}": name[:2] == "aa" for place in ("01", "02") for name in ("aa.dirtree", "bb.dirtree")}
    answers |= {"01/aa.commit": True, "01/bb.commit": False, "03/aa.dirtree": False}
    assert {name: presence.metadata(name) for name in answers} == answers
    # nothing is looked up that was listed
    monkeypatch.setattr(os.path, "lexists", None)
    assert presence.metadata("01/aa.dirtree")
    assert not presence.metadata("01/bb.dirmeta")

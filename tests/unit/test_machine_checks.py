"""What `compose doctor` says of a machine."""

from __future__ import annotations

import importlib.util
import platform

import pytest

from compose import doctor
from compose.doctor import Verdict


@pytest.mark.parametrize(
    ("system", "mend"),
    [
        ({"ID": "fedora"}, "as root: dnf install python3-pyyaml python3-jsonschema python3-zstandard python3-rich"),
        (
            {"ID": "ubuntu", "ID_LIKE": "debian"},
            "as root: apt-get install python3-yaml python3-jsonschema python3-zstandard python3-rich",
        ),
        ({}, "install python3-pyyaml python3-jsonschema python3-zstandard python3-rich"),
    ],
)
def test_missing_modules_come_from_the_distribution(
    system: dict[str, str], mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    found = doctor._modules()
    assert (found.verdict, found.found, found.mend) == (Verdict.MISSING, "no yaml, jsonschema, zstandard, rich", mend)

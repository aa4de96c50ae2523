"""Locations that stay inside a repository."""

from __future__ import annotations

import pytest

from compose.solve.resolution import lies_below


@pytest.mark.parametrize("location", ["a.rpm", "Packages/a/a-1..2.rpm", "a/...rpm", "./a.rpm"])
def test_a_package_of_its_repository(location: str) -> None:
    assert lies_below(location)


@pytest.mark.parametrize("location", ["/proc/kcore", "../a.rpm", "a/../../a.rpm", "a/.."])
def test_metadata_leads_nobody_elsewhere(location: str) -> None:
    assert not lies_below(location)

"""The tiny repository, made once; a place to compose in, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.support.rpmrepo import Keys


@pytest.fixture(scope="session")
def keys() -> Iterator[Keys]:
    keys = Keys()
    try:
        keys.make(tiny.SIGNER)
        keys.make("other")
        yield keys
    finally:
        keys.close()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    directory = tmp_path_factory.mktemp("tiny") / "packages"
    tiny.build_repository(directory, keys)
    return directory


@pytest.fixture(scope="session")
def shared_cachedir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, as on a server: what one compose leaves there must not harm another."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def site(tmp_path: Path, packages: Path, keys: Keys, shared_cachedir: Path) -> tiny.Site:
    """A good treefile, its repository of packages, and an empty archive repository."""
    site = tiny.Site(tmp_path, packages, keys.export(tiny.SIGNER), shared_cachedir)
    site.init()
    site.write_repo()
    site.write_treefile()
    return site

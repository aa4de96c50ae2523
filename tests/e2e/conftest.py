"""The tiny repository, made once; a place to compose in, for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.whole import Whole, compose_whole
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
    return make_site(tmp_path, packages, keys, shared_cachedir)


@pytest.fixture
def moving(site: tiny.Site, packages: Path, tmp_path: Path) -> tiny.Site:
    """A repository of its own, which goes on while the lock stays."""
    mine = tmp_path / "mine"
    shutil.copytree(packages, mine)
    here = tiny.Site(site.path, mine, site.key, site.path / "cache")
    here.write_repo()
    return here


@pytest.fixture(scope="session", params=["archive", "bare-user", "bare"])
def composed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    packages: Path,
    keys: Keys,
    shared_cachedir: Path,
) -> tiny.Site:
    """The good tree composed, in each kind of repository; not to be changed."""
    site = make_site(tmp_path_factory.mktemp(request.param), packages, keys, shared_cachedir, request.param)
    site.compose()
    return site


def make_site(path: Path, packages: Path, keys: Keys, cachedir: Path, mode: str = "archive") -> tiny.Site:
    """See site."""
    path.mkdir(exist_ok=True)
    site = tiny.Site(path, packages, keys.export(tiny.SIGNER), cachedir)
    site.init(mode)
    site.write_repo()
    site.write_treefile()
    return site


@pytest.fixture(scope="session")
def whole_sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """A set of the universe, composed when it is first asked for; not to be changed."""
    return cache(lambda name: compose_whole(name, tmp_path_factory.mktemp(name)))

from __future__ import annotations

import pytest

from tests.support.rpmrepo import Keys, Package, build, index

PACKAGES = [
    Package("base"),
    Package("lib", "Requires: base\nProvides: virtual = 3"),
    Package("app", "Requires: lib >= 1\nRecommends: nice"),
    Package("nice"),
    Package("rich", "Requires: (lib if app else base)"),
    Package("broken", "Requires: nonexist >= 4"),
    Package("needsbroken", "Requires: broken"),
    Package("enemy", "Conflicts: lib"),
    Package("picky", "Requires: either"),
    Package("either-a", "Provides: either"),
    Package("either-b", "Provides: either"),
]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A repository with PACKAGES, unsigned; do not change it."""
    directory = tmp_path_factory.mktemp("solve") / "repo"
    build(PACKAGES, directory)
    index(directory)
    return directory


@pytest.fixture(scope="session")
def keys():
    keys = Keys()
    keys.make("solver")
    keys.make("stranger")
    yield keys
    keys.close()

"""What the rows work on: the packages of a set, treefiles for them, one cold compose, and the tree that it made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from tests.bench.measure import Cost, Rates, best, measure, regular_files, without_journal
from tests.support import rpmrepo
from tests.universe.archive import read_roots

PROJECT = Path(__file__).parents[2]
LEAF_BYTES = 1 << 20
_FORGOTTEN_AFTER = 65
"""Seconds."""
_LEAF = """\
Name: leaf
Version: {version}
Release: 1
Summary: One file, another in each version
License: MIT
BuildArch: noarch
%description
x
%install
mkdir -p %{{buildroot}}/usr/share
cp {content} %{{buildroot}}/usr/share/leaf
%files
/usr/share/leaf
"""
_TREEFILE = """\
include: min.yaml
ref: bench/${{basearch}}/main
repos: [leaf-{version}]
packages: [leaf, {packages}]
"""


class Site:
    """A directory to measure in. Everything is made when first asked for, and nothing of it is removed before all is measured:
    see rest()."""

    def __init__(self, universe: Path, name: str, scratch: Path) -> None:
        """name: of a set of tests/universe, made already."""
        self.packages = universe / name / "Packages"
        self.scratch = scratch
        self._name = name

    def repo(self, name: str, mode: str = "archive") -> Path:
        """A new repository."""
        path = self.scratch / name
        subprocess.run(["ostree", f"--repo={path}", "init", f"--mode={mode}"], check=True, stdin=subprocess.DEVNULL)
        return path

    def rest(self) -> None:
        """Wait until what others wrote is on disk, and what they removed is forgotten.

        When ext4 without a journal makes a file, it looks at each inode nearby that was removed within the last minute, or
        within six as long as that is not on disk (recently_deleted() in the kernel's fs/ext4/ialloc.c): 250 us instead of 25.
        """
        subprocess.run(["sync"], check=True)
        if without_journal(self.scratch):
            time.sleep(_FORGOTTEN_AFTER)

    @cached_property
    def treefiles(self) -> Path:
        """Directory of v1.yaml to v4.yaml, which differ in one package, and of their .repo files. The RPMs are read once, so
        that they are in memory."""
        directory = self.scratch / "treefiles"
        directory.mkdir()
        shutil.copy(PROJECT / "treefiles/demo/min.yaml", directory)
        shutil.copy(self.packages.parent / "universe.repo", directory)
        roots = ", ".join(read_roots(PROJECT / f"tests/universe/sets/{self._name}.txt"))
        for version in (1, 2, 3, 4):
            place, content = self.scratch / f"leaf-{version}", self.scratch / "content"
            content.write_bytes(Random(version).randbytes(LEAF_BYTES))
            spec = self.scratch / "leaf.spec"
            spec.write_text(_LEAF.format(version=version, content=content))
            macros = (f"_topdir {self.scratch}/rpmbuild", f"_rpmdir {place}")
            rpmrepo.run(
                *("rpmbuild", "-bb", "--quiet"), *(word for each in macros for word in ("--define", each)), str(spec)
            )
            rpmrepo.index(place)
            (directory / f"leaf-{version}.repo").write_text(f"[leaf-{version}]\nbaseurl={place.as_uri()}\ngpgcheck=0\n")
            (directory / f"v{version}.yaml").write_text(_TREEFILE.format(version=version, packages=roots))
        for path in self.packages.iterdir():
            path.read_bytes()
        return directory

    @cached_property
    def composed(self) -> Path:
        """The repository that all composes go to."""
        return self.repo("composed")

    def compose(
        self, name: str, *flags: str, cache: Path | None = None, repo: Path | None = None
    ) -> tuple[Cost, dict[str, Any]]:
        """Run `compose tree` on one of the treefiles; what it took, and the result it wrote ({} when nothing changed)."""
        result = self.scratch / "compose.json"
        result.unlink(missing_ok=True)
        subprocess.run(["sync"], check=True)
        cost = measure(
            [
                *(
                    sys.executable,
                    "-m",
                    "compose",
                    "tree",
                    self.treefiles / f"{name}.yaml",
                    f"--repo={repo or self.composed}",
                ),
                *(f"--cachedir={cache or self.cache}", f"--write-composejson-to={result}", *flags),
            ]
        )
        return cost, json.loads(result.read_text()) if result.exists() else {}

    @property
    def cache(self) -> Path:
        return self.scratch / "cache"

    @cached_property
    def cold(self) -> tuple[Cost, dict[str, Any]]:
        """The first compose, with an empty cache into an empty repository. The better of two; the first is gone on with."""
        _ = self.treefiles
        self.rest()
        first = self.compose("v1")
        self.rest()
        again = self.compose("v1", cache=self.scratch / "cache-again", repo=self.repo("composed-again"))
        return best((first, again))

    @cached_property
    def tree(self) -> Path:
        """The composed tree, checked out."""
        _, result = self.cold
        path = self.scratch / "tree"
        subprocess.run(["ostree", f"--repo={self.composed}", "checkout", result["ostree-commit"], path], check=True)
        return path

    @cached_property
    def rates(self) -> Rates:
        return Rates(lambda: regular_files(self.tree), self.scratch / "rates")

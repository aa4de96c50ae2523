"""A directory of RPMs as a repository, complete or not there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.universe.errors import run

KEY = "RPM-GPG-KEY-universe"


def publish(directory: Path, rpms: Mapping[str, Path], key: Path) -> None:
    """Replace directory by a repository of the RPMs (by file name) and the public key."""
    new, old = directory.with_name(f".{directory.name}.new"), directory.with_name(f".{directory.name}.old")
    for each in (new, old):
        shutil.rmtree(each, ignore_errors=True)
    (new / "Packages").mkdir(parents=True)
    for name, path in rpms.items():
        shutil.copyfile(path, new / "Packages" / name)
    shutil.copyfile(key, new / KEY)
    run(["createrepo_c", "--quiet", str(new)], what=f"the index of {directory.name}")
    repo_file = f"{'unsigned' if directory.name == 'unsigned' else 'universe'}.repo"
    (new / repo_file).write_text(repo_text(repo_file.removesuffix(".repo"), directory))
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def repo_text(identifier: str, directory: Path) -> str:
    """A .repo file for a repository of publish(); directory is absolute."""
    return (
        f"[{identifier}]\nname={identifier}\nbaseurl={directory.as_uri()}\nenabled=1\n"
        f"gpgcheck=1\ngpgkey={(directory / KEY).as_uri()}\n"
    )

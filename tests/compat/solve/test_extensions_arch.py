"""Extensions for a tree of another architecture than this machine's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compose.architecture import host_basearch
from compose.errors import UsageError
from compose.events import Reporter
from compose.pipeline.extensions import fetch_extensions
from compose.pipeline.options import ComposeOptions
from tests.support.rpmrepo import Package, build, index, run

OTHER = "s390x" if host_basearch() == "x86_64" else "x86_64"


def test_another_architecture(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    for arch in (host_basearch(), OTHER):
        (base,) = build([Package("base", arch=arch)], packages).values()
        build([Package("extra", "Requires: base = 1.0", arch=arch)], packages)
    index(packages)
    root, database = tmp_path / "root", "/usr/lib/sysimage/rpm"
    (root / database[1:]).mkdir(parents=True)
    flags = ("--justdb", "--nodeps", "--ignorearch", "--define", "_db_backend sqlite")
    run("rpm", f"--root={root}", f"--dbpath={database}", *flags, "-i", str(base))
    (tmp_path / "a.repo").write_text(f"[a]\nbaseurl={packages}\ngpgcheck=0\n")
    (tmp_path / "tree.yaml").write_text("repos: [a]\npackages: [base]\n")
    (tmp_path / "extensions.json").write_text(json.dumps({"extensions": {"x": {"packages": ["extra"]}}}))

    def names(arch: str | None) -> list[str]:
        options = ComposeOptions(treefile=f"{tmp_path}/tree.yaml", cachedir=f"{tmp_path}/cache", basearch=arch)
        done = fetch_extensions(
            options,
            f"{tmp_path}/extensions.json",
            f"{tmp_path}/out",
            base=None,
            rootfs=str(root),
            reporter=Reporter(),
        )
        return [str(each.nevra) for each in done.packages]

    with pytest.raises(UsageError, match=f"the tree is for {OTHER}") as caught:
        names(None)
    assert caught.value.hint == f"give --arch={OTHER}"
    assert names(OTHER) == [f"extra-1.0-1.{OTHER}"]

"""A tiny system: a signed RPM repository of tests/specs, treefiles for it, and the command line that composes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import rpmrepo

SPECS = Path(__file__).parent.parent / "specs"
REF = "tiny/x86_64/main"
BASE = ("tiny-filesystem", "tiny-shell", "tiny-kernel", "tiny-release", "tiny-policy", "hello")
UNSIGNED = "unsigned"
SIGNER = "tiny"
EPOCH = 1_700_000_000


def build_packages(into: Path, *specs: str) -> None:
    """RPMs of specs (all by default) as INTO/NAME.rpm. Format 4, for that is what clients of every age read."""
    into.mkdir(parents=True, exist_ok=True)

    def build(name: str) -> None:
        rpmrepo.run(
            "rpmbuild", "-bb", "--quiet", "--define", f"_topdir {into.parent}/rpmbuild", "--define", f"_rpmdir {into}",
            "--define", "_build_name_fmt %{NAME}.rpm", "--define", "_rpmformat 4",
            "--define", "_binary_payload w3.zstdio", "--define", "__os_install_post %{nil}",
            "--define", "use_source_date_epoch_as_buildtime 1", "--define", "_buildhost tiny.example.com",
            str(SPECS / f"{name}.spec"), SOURCE_DATE_EPOCH=str(EPOCH),
        )  # fmt: skip

    # not all in one rpmbuild: it takes BuildArch of one spec for the next
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(build, specs or sorted(path.stem for path in SPECS.glob("*.spec"))))


def build_repository(into: Path, keys: rpmrepo.Keys) -> None:
    """All packages, signed but for the one named so, with metadata."""
    build_packages(into)
    keys.sign_all([rpm for rpm in sorted(into.glob("*.rpm")) if rpm.stem != UNSIGNED], SIGNER)
    rpmrepo.index(into)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a compose ended."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where a test composes: treefile and .repo files in `path`, the repository to commit to, the cache."""

    path: Path
    packages: Path
    key: bytes
    cachedir: Path

    @property
    def repo(self) -> Path:
        return self.path / "repo"

    @property
    def treefile(self) -> Path:
        return self.path / "tiny.yaml"

    def init(self, mode: str = "archive") -> None:
        self.ostree("init", f"--mode={mode}")

    def write_treefile(self, *more_packages: str, name: str = "tiny.yaml", **keys: Any) -> Path:
        """The good tree with further packages; keys override (None leaves one out). YAML, as JSON is."""
        tree = {
            "ref": REF,
            "repos": ["tiny"],
            "packages": [*BASE, *more_packages],
            "releasever": "1",
            "boot-location": "modules",
            "no-initramfs": True,
            "tmp-is-dir": True,
            "selinux": True,
        }
        tree |= {key.replace("_", "-"): value for key, value in keys.items()}
        path = self.path / name
        path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}, indent=2))
        return path

    def write_repo(self, *, name: str = "tiny", baseurl: str | None = None, gpgcheck: bool = True,
                   gpgkey: str | None = "tiny.key") -> None:  # fmt: skip
        lines = [f"[{name}]", f"baseurl={baseurl or self.packages.as_uri()}", f"gpgcheck={int(gpgcheck)}"]
        if gpgkey is not None:
            lines.append(f"gpgkey={gpgkey}")
        (self.path / f"{name}.repo").write_text("\n".join(lines) + "\n")
        (self.path / "tiny.key").write_bytes(self.key)

    def tool(self, *words: str | Path, status: int = 0, **environment: str) -> Done:
        """`compose WORDS`, which must end with a status."""
        done = subprocess.run(
            [sys.executable, "-m", "compose", *map(str, words)], env=os.environ | environment, check=False,
            cwd=SPECS.parents[1], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def command(self, *flags: str, treefile: Path | None = None, repo: bool = True) -> list[str]:
        where = [f"--repo={self.repo}"] if repo else []
        return [sys.executable, "-m", "compose", "tree", str(treefile or self.treefile), *where,
                f"--cachedir={self.cachedir}", *flags]  # fmt: skip

    def run(self, *flags: str, treefile: Path | None = None, repo: bool = True, **environment: str) -> Done:
        done = subprocess.run(
            self.command(*flags, treefile=treefile, repo=repo), env=os.environ | environment, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def compose(self, *flags: str, treefile: Path | None = None, repo: bool = True, **environment: str) -> str:
        """Compose what must succeed; returns what was printed."""
        done = self.run(*flags, treefile=treefile, repo=repo, **environment)
        assert done.status == 0, done.stdout + done.stderr
        return done.stdout

    def ostree(self, *arguments: str) -> str:
        return rpmrepo.run("ostree", f"--repo={self.repo}", *arguments)

    def head(self) -> str:
        return self.ostree("rev-parse", REF).strip()

    def snapshot(self) -> dict[str, bytes | None]:
        """Every path of the repository with its content; lock files left out, for taking one is no change."""
        return {
            str(path.relative_to(self.repo)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.repo.rglob("*"))
            if path != self.repo / ".lock"
        }


def release(
    site: Site,
    keys: rpmrepo.Keys,
    tmp_path: Path,
    name: str = "hello-lib",
    version: str = "2.0",
    spec: str | None = None,
) -> None:
    """The repository gets another build beside the old one: of the spec given, or of its own with another version."""
    text = spec if spec is not None else (SPECS / f"{name}.spec").read_text()
    (tmp_path / f"{name}.spec").write_text(
        re.sub(r"(?m)^Version: .*$", f"Version: {version}", text), errors="surrogateescape"
    )
    out = tmp_path / "built"
    rpmrepo.run(
        "rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/rpmbuild", "--define", f"_rpmdir {out}",
        "--define", "_build_name_fmt %{NAME}-%{VERSION}.rpm", "--define", "_rpmformat 4",
        str(tmp_path / f"{name}.spec"), SOURCE_DATE_EPOCH=str(EPOCH),
    )  # fmt: skip
    (rpm,) = out.glob(f"{name}-{version}.rpm")
    keys.sign(rpm, SIGNER)
    shutil.move(str(rpm), site.packages / rpm.name)
    rpmrepo.index(site.packages)

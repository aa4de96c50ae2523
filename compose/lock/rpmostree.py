"""rpm-ostree's lockfiles (lockfile.rs): JSON or YAML, one build per package name; later files override earlier ones.

{"packages": {"bash": {"evra": "5.3.0-2.fc43.x86_64", "digest": "sha256:...", "metadata": {"sourcerpm": "bash"}}},
 "metadata": {"generated": "2026-11-23T00:00:00Z", "rpmmd_repos": {"fedora": {"generated": "..."}}}}
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from typing import Any

from compose.errors import TreefileError
from compose.solve.locked import LockedBuild
from compose.solve.resolution import COMMAND_LINE, Resolution
from compose.treefile.source import Located

_EVR = re.compile(r"(?:\d+:)?[^-:\s/]+-[^-:\s/]+")
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]+")
_MEMBERS = frozenset({"evr", "evra", "digest", "metadata"})


def read_locked(source: Located) -> dict[str, LockedBuild]:
    """Locked builds by package name. Raises TreefileError listing every fault with its file:line:column."""
    faults: list[str] = []
    found: dict[str, LockedBuild] = {}
    for name, value in source.value.items():
        if name not in ("packages", "metadata"):
            faults.append(f"{value.place}: {name}: unknown key of a lockfile")
    packages = source.value.get("packages")
    if packages is None or not isinstance(packages.value, dict):
        faults.append(f"{(packages or source).place}: packages must be a mapping of names to builds")
    else:
        for name, row in packages.value.items():
            build = _build(name, row, faults)
            if build is not None:
                found[name] = build
    if faults:
        raise TreefileError.of(faults, f"{source.place.file}: {len(faults)} faults in the lockfile")
    return found


def _build(name: str, row: Located, faults: list[str]) -> LockedBuild | None:
    if not isinstance(row.value, dict):
        faults.append(f"{row.place}: {name} must be a mapping with evr or evra")
        return None
    for key, value in row.value.items():
        if key not in _MEMBERS:
            faults.append(f"{value.place}: {name}.{key}: unknown key of a locked package")
        elif key != "metadata" and not isinstance(value.value, str):
            faults.append(f"{value.place}: {name}.{key} must be a string")
            return None
    evr: str | None
    evr, evra, digest = (row.value[key].value if key in row.value else None for key in ("evr", "evra", "digest"))
    if (evr is None) == (evra is None):
        faults.append(f"{row.place}: {name} must have exactly one of evr and evra")
        return None
    arch = None
    if evra is not None:
        evr, _, arch = evra.rpartition(".")
    if evr is None or not _EVR.fullmatch(evr):
        faults.append(
            f"{row.place}: {name}: {evra or evr!r} is not [epoch:]version-release" + (".arch" if evra else "")
        )
        return None
    if digest is not None and not _DIGEST.fullmatch(digest):
        faults.append(f"{row.place}: {name}: the digest {digest!r} is not algorithm:digest")
        return None
    return LockedBuild(name=name, evr=evr.removeprefix("0:"), arch=arch, digest=digest)


def format_locked(resolution: Resolution, *, generated: int) -> tuple[str, tuple[str, ...]]:
    """The JSON text, and the names of packages with several builds, of which it has only the last. generated: seconds since
    1970, recorded with the precision of a day."""
    packages: dict[str, Any] = {}
    repeated: list[str] = []
    for package in resolution.packages:
        if package.repo == COMMAND_LINE:
            continue
        nevra = package.nevra
        if nevra.name in packages:
            repeated.append(nevra.name)
        packages[nevra.name] = {
            "evra": f"{nevra.evr}.{nevra.arch}",
            "digest": ":".join(package.checksum),
            "metadata": {"sourcerpm": source_name(package.source_rpm)},
        }
    text = json.dumps(
        {
            "packages": packages,
            "metadata": {
                "generated": _rfc3339(generated - generated % 86400),
                "rpmmd_repos": {repo.id: {"generated": _rfc3339(repo.timestamp)} for repo in resolution.repos},
            },
        },
        indent=2,
    )
    return text + "\n", tuple(dict.fromkeys(repeated))


def overlay(files: Iterable[dict[str, LockedBuild]]) -> tuple[LockedBuild, ...]:
    """Merge lockfiles; for each name the last file that has it wins."""
    merged: dict[str, LockedBuild] = {}
    for builds in files:
        merged |= builds
    return tuple(merged[name] for name in sorted(merged))


def source_name(file: str) -> str:
    """The name of a source package, from its file name."""
    return file.removesuffix(".rpm").removesuffix(".src").removesuffix(".nosrc").rsplit("-", 2)[0]


def _rfc3339(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

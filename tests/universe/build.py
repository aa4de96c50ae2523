"""Packages to RPMs: the same bytes for the same input, and nothing built twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.universe import knowledge
from tests.universe.errors import UniverseError, run
from tests.universe.model import Kind, Package
from tests.universe.spec import file_list, spec

# What would otherwise depend on the machine, its clock or its distribution's macros.
MACROS = {
    "_rpmformat": "4",
    "_buildhost": "universe.invalid",
    "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    "use_source_date_epoch_as_buildtime": "1",
    "source_date_epoch_from_changelog": "0",
    "build_mtime_policy": "clamp_to_source_date_epoch",
    "_smp_build_ncpus": "1",
    "_smp_build_nthreads": "1",
    "_smp_nthreads_max": "1",
    "_build_id_links": "none",
    "debug_package": "%{nil}",
    "__spec_install_pre": "%{nil}",
    "__os_install_post": "%{nil}",
    "__brp_mangle_shebangs": "%{nil}",
    "__check_files": "%{nil}",
    "_unpackaged_files_terminate_build": "0",
    "_invalid_encoding_terminates_build": "0",
}
_TOP = ("BUILD", "BUILDROOT", "RPMS", "SOURCES", "SPECS", "SRPMS")


@dataclass(frozen=True, slots=True)
class Build:
    """path: where the RPM is, named after what it was made of."""

    package: Package
    path: Path


def generator_digest() -> str:
    """Of the sources of this program: another program may make other RPMs."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(each for each in here.rglob("*") if each.is_file() and each.suffix != ".pyc"):
        digest.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def planned(package: Package, inputs: str, store: Path) -> Build:
    """inputs: digest of what the content comes from; with the spec it names the RPM in the store."""
    text = inputs + spec(package, Path(package.name)) + file_list(package) + _payload(package)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Build(package, store / f"{digest}-{package.filename}")


def build(builds: Sequence[Build], work: Path, jobs: int, progress: Callable[[int], None]) -> None:
    """Make the RPMs, unsigned, the largest first; progress is told how many are done."""
    for each in _TOP:  # parallel builds race for them
        (work / "top" / each).mkdir(parents=True)
    (work / "out").mkdir()
    ordered = sorted(builds, key=lambda each: -_size(each.package))
    with ThreadPoolExecutor(jobs) as pool:
        for count, _ in enumerate(pool.map(lambda each: _rpmbuild(each, work), ordered), 1):
            progress(count)


def _rpmbuild(build: Build, work: Path) -> None:
    package = build.package
    specfile, files = work / f"{package.name}.spec", work / f"{package.name}.files"
    try:
        files.write_text(file_list(package))
    except ValueError as error:
        raise UniverseError(f"{package.name}: {error}") from error
    specfile.write_text(spec(package, files))
    macros = MACROS | {
        "_topdir": str(work / "top"),
        "_rpmdir": str(work / "out"),
        "_binary_payload": _payload(package),
    }
    command = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--buildroot", str(package.root)]
    command += ["--target", f"{package.arch}-unknown-linux"]
    for name, value in macros.items():
        command += ["--define", f"{name} {value}"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(package.mtime), "LC_ALL": "C.UTF-8", "HOME": str(work)}
    run([*command, str(specfile)], what=package.name, env=environment)
    made = work / "out" / package.filename
    if not made.exists():
        raise UniverseError(f"{package.name}: rpmbuild made no {package.filename}")
    made.rename(build.path)


def _payload(package: Package) -> str:
    return knowledge.PAYLOADS.get(package.name, knowledge.PAYLOAD)


def _size(package: Package) -> int:
    """Bytes of its files."""
    return sum(package.place(path).lstat().st_size for path, entry in package.files.items() if entry.kind is Kind.FILE)

"""python3 -m tests.universe SET --output DIRECTORY: make the repository SET, or see that it is made already."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.universe import build, convert, knowledge, policy, repository
from tests.universe.archive import SUITE, Archive, Lock, read_roots
from tests.universe.errors import UniverseError
from tests.universe.model import Context
from tests.universe.sign import Key

SETS = Path(__file__).parent / "sets"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    name: str
    output: Path
    jobs: int
    refresh: bool

    @property
    def cache(self) -> Path:
        return self.output / "cache"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.universe", description="RPM repositories made of real Debian packages")
    parser.add_argument("set", choices=sorted(path.stem for path in SETS.glob("*.txt")))
    parser.add_argument("--output", type=Path, default=Path("build/universe"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--refresh", action="store_true", help="ask the archive for its current versions")
    values = parser.parse_args()
    options = Options(name=values.set, output=values.output.resolve(), jobs=max(1, values.jobs), refresh=values.refresh)
    options.cache.mkdir(parents=True, exist_ok=True)
    with (options.cache / ".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        try:
            make(options, lambda line: print(line, flush=True))
        except UniverseError as error:
            print(f"universe: {error}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(options.cache / "work", ignore_errors=True)
    return 0


def make(options: Options, say: Say) -> None:
    """Make what is not there yet. Raises UniverseError."""
    start = time.monotonic()
    archive = Archive(options.cache / "apt")
    lock = _locked(options, archive, say)
    stamp = _Stamp(options, lock)
    if stamp.holds():
        count = len(lock.debs) + len(knowledge.ADDED)
        say(f"universe: {count} packages, nothing to do, {time.monotonic() - start:.1f} s")
        return
    work = options.cache / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    store = options.cache / f"rpms-{options.name}"
    store.mkdir(exist_ok=True)

    debs = options.cache / "debs"
    megabytes = sum(deb.size for deb in lock.debs) / 1e6
    say(f"fetch: {len(lock.debs)} packages, {megabytes:.0f} MB")
    fetched = archive.fetch(lock.debs, debs)

    paths = {deb.name: debs / deb.file for deb in lock.debs}
    digests = {deb.name: deb.sha256 for deb in lock.debs}
    say("policy: built by semodule, or cached")
    tree = policy.build(paths, digests, options.cache, work / "policy")
    context = Context(names=frozenset(paths), policy=tree)

    say(f"unpack: {len(paths)} packages")
    packages = convert.convert(paths.values(), work / "roots", context, options.jobs)
    generator = build.generator_digest()
    builds = [
        build.planned(package, f"{generator} {digests.get(package.name, '')} {tree.name}", store)
        for package in packages
    ]
    unsigned = build.planned(knowledge.unsigned(work / "roots/unsigned-thing"), f"{generator} unsigned", store)
    new = [each for each in [*builds, unsigned] if not each.path.exists()]

    def progress(count: int) -> None:
        if count % 25 == 0 or count == len(new):
            say(f"convert: {count}/{len(new)}")

    staged = [build.Build(each.package, work / each.path.name) for each in new]
    build.build(staged, work / "build", options.jobs, progress)

    key = Key(options.cache / "key")
    key.ensure()
    to_sign = [each.path for each in staged if each.path.name != unsigned.path.name]
    say(f"sign: {len(to_sign)} packages")
    key.sign(to_sign)
    for each in staged:
        each.path.rename(store / each.path.name)

    say("index")
    repository.publish(options.output / options.name, {each.package.filename: each.path for each in builds}, key.public)
    repository.publish(options.output / "unsigned", {unsigned.package.filename: unsigned.path}, key.public)
    stamp.write()
    used = {each.path for each in [*builds, unsigned]}
    for path in store.iterdir():
        if path not in used:
            path.unlink()
    say(
        f"universe: {len(builds)} packages, {fetched} fetched, {len(new)} built, {len(to_sign)} signed,"
        f" {time.monotonic() - start:.1f} s; {options.output / options.name / 'universe.repo'}"
    )


def _locked(options: Options, archive: Archive, say: Say) -> Lock:
    path = options.cache / f"lock-{options.name}.json"
    roots = read_roots(SETS / f"{options.name}.txt")
    lock = None if options.refresh else Lock.load(path)
    if lock is None or (lock.suite, lock.roots) != (SUITE, roots):
        say(f"resolve: {len(roots)} packages and what they need, in {SUITE}")
        lock = archive.resolve(roots)
        lock.save(path)
    return lock


class _Stamp:
    """That the output was made of this lock by this program, for this place."""

    def __init__(self, options: Options, lock: Lock) -> None:
        self._output = options.output
        self._name = options.name
        self._path = options.cache / f"made-{options.name}"
        inputs = [str(options.output), build.generator_digest(), *(deb.sha256 for deb in lock.debs)]
        self._digest = hashlib.sha256("\n".join(inputs).encode()).hexdigest()

    def holds(self) -> bool:
        """All the files it made are there, as large as they were."""
        try:
            value = json.loads(self._path.read_text())
        except FileNotFoundError:
            return False
        return bool(value["digest"] == self._digest and value["files"] == self._files())

    def write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"digest": self._digest, "files": self._files()}))
        temporary.rename(self._path)

    def _files(self) -> dict[str, int]:
        paths: list[Path] = []
        for name in (self._name, "unsigned"):
            paths += [path for path in (self._output / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(self._output)): path.stat().st_size for path in paths}


if __name__ == "__main__":
    sys.exit(main())

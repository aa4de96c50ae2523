"""The same treefile, packages and time give the same commit, whatever is different around it.

`min` is composed with everything changed at once, against a compose with nothing changed; when that differs, each factor is
tried alone, so that the failure has a name. `big` is composed so that each two factors meet in all four ways, with a clock
that is years ahead as one of them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compose.diff import diff_commits
from compose.ostree.repo import Repo
from tests.compat.ostree.test_commit import ostree
from tests.e2e.tiny import build_packages
from tests.e2e.whole import UNIVERSE, Whole, treefile_in
from tests.support import rpmrepo

pytestmark = [pytest.mark.root, pytest.mark.universe]
PROJECT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")

# What programs and libraries look at; none of it is for a compose.
NOISE = {
    "GZIP": "-9", "XZ_DEFAULTS": "-T7", "ZSTD_CLEVEL": "19", "ZSTD_NBTHREADS": "3", "POSIXLY_CORRECT": "1",
    "BASH_ENV": "/nonexistent", "ENV": "/nonexistent", "PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1",
    "PERL5OPT": "-w", "COLUMNS": "20", "USER": "nobody", "LOGNAME": "nobody", "SHELL": "/bin/false",
    "LD_BIND_NOW": "1", "DNF_VAR_releasever": "99", "SYSTEMD_LOG_LEVEL": "debug", "MAKEFLAGS": "-j9",
    "OSTREE_REPO": "/nonexistent", "GNUPGHOME": "/nonexistent", "DRACUT_INSTALL": "/bin/false", "CDPATH": "/",
}  # fmt: skip
MACROS = (
    "%_install_langs xx\n%_excludedocs 1\n%_dbpath /nonexistent\n%_netsharedpath /usr/share\n%_pkgverify_level all\n"
)


@dataclass(frozen=True)
class Factor:
    """One thing that is different: words before the command, variables, flags."""

    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    umask: int = 0o022


def factors(home: Path) -> dict[str, Factor]:
    """By name. home: an existing directory."""
    (home / ".rpmmacros").write_text(MACROS)
    (home / "tmp").mkdir(exist_ok=True)
    # uname tells of a kernel 2.6; addresses are not random
    kernel = ("prlimit", "--nofile=512", "--stack=16777216", "--core=0", "setarch", "--uname-2.6", "-R")
    rename = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere.example.com && exec "$@"', "-")
    return {
        "one core": Factor(words=("taskset", "-c", "0"), flags=("--jobs=1",)),
        "umask": Factor(umask=0o077),
        "TMPDIR": Factor(environment={"TMPDIR": str(home / "tmp")}),
        "locale": Factor(environment={"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "LANGUAGE": "tr"}),
        "time zone": Factor(environment={"TZ": "Pacific/Kiritimati"}),
        "host name and kernel": Factor(words=(*kernel, *rename)),
        "environment": Factor(environment={**NOISE, "HOME": str(home)}),
    }


# Programs that the tree brings see it, when the tree has another-clock.
CLOCK = Factor(words=("unshare", "--time", "--fork", "--boottime=100000000"))


def compose(
    treefile: Path, place: Path, cachedir: Path, applied: Sequence[Factor] = (), *, mode: str = "archive"
) -> str:
    """Compose into a new repository PLACE/repo; the commit."""
    place.mkdir(parents=True)
    ostree(place / "repo", "init", f"--mode={mode}")
    command = [*itertools.chain.from_iterable(each.words for each in applied)]
    command += [
        sys.executable,
        "-m",
        "compose",
        "tree",
        str(treefile),
        f"--repo={place}/repo",
        f"--cachedir={cachedir}",
    ]
    command += [f"--write-commitid-to={place}/commit", *itertools.chain.from_iterable(each.flags for each in applied)]
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "PYTHONPATH": str(PROJECT)}
    for each in applied:
        environment |= each.environment
    umask = next((each.umask for each in applied if each.umask != 0o022), 0o022)
    done = subprocess.run(command, env=environment, umask=umask, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (place / "commit").read_text()


def differing(one: Path, before: str, other: Path, after: str) -> list[str]:
    """Paths in which commits of two repositories differ, and how."""
    with Repo.open(str(one)) as repo, Repo.open(str(other)) as other_repo:
        found = diff_commits(repo, before, after, other_repo=other_repo)
    return [f"/{each.path} {' '.join(each.aspects) or 'in one only'}" for each in found.paths]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A directory on another kind of filesystem: another order of names, other places for all files."""
    place = MEMORY / f"compose-{os.getpid()}"
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)


def test_everything_else_may_differ(whole_sets: Callable[[str], Whole], tmp_path: Path, in_memory: Path) -> None:
    base = whole_sets("min")
    expected = base.result.commit
    assert expected is not None
    (tmp_path / "home").mkdir()
    known = factors(tmp_path / "home")
    found = compose(base.treefile, tmp_path / "all", in_memory / "cache", [*known.values()], mode="bare-user")
    if found == expected:
        return
    paths = differing(base.top / "repo", expected, tmp_path / "all/repo", found)
    shutil.rmtree(in_memory / "cache")
    culprits = []
    for name, factor in known.items():
        if compose(base.treefile, tmp_path / name, tmp_path / f"{name} cache", [factor]) != expected:
            culprits.append(name)
        shutil.rmtree(tmp_path / f"{name} cache")
    if compose(base.treefile, tmp_path / "memory", in_memory / "cache") != expected:
        culprits.append("filesystem of the cachedir")
    pytest.fail(f"differs by {culprits or 'no single factor'}, in {len(paths)} paths:\n" + "\n".join(paths[:40]))


def test_a_warm_cache_makes_no_difference(whole_sets: Callable[[str], Whole], tmp_path: Path) -> None:
    base = whole_sets("min")
    found = compose(base.treefile, tmp_path / "again", base.top / "cache")
    assert base.result.commit is not None
    assert not differing(base.top / "repo", base.result.commit, tmp_path / "again/repo", found)
    assert found == base.result.commit


def test_nothing_of_what_is_removed_stays(whole_sets: Callable[[str], Whole], tmp_path: Path) -> None:
    """A tree does not depend on the commit before it, but for what it is meant to: ids that stay, and version."""
    base = whole_sets("min")
    more = tmp_path / "more.yaml"
    more.write_text(json.dumps({"include": str(base.treefile), "postprocess": ["echo x >/etc/leftover"]}))
    shutil.copy(base.treefile.with_name("universe.repo"), tmp_path)
    compose(more, tmp_path / "then", base.top / "cache")
    ostree(tmp_path / "then/repo", "refs", "--create=demo/x86_64/min", (tmp_path / "then/commit").read_text())
    command = [sys.executable, "-m", "compose", "tree", str(base.treefile), f"--repo={tmp_path}/then/repo"]
    command += [f"--cachedir={base.top}/cache", f"--write-commitid-to={tmp_path}/now"]
    subprocess.run(command, check=True, capture_output=True)
    assert base.result.commit is not None
    assert not differing(base.top / "repo", base.result.commit, tmp_path / "then/repo", (tmp_path / "now").read_text())


def pairwise(count: int) -> list[tuple[bool, ...]]:
    """Six rows of `count` (at most ten) switches; each two of these are in all four states (Katona; Kleitman and Spencer)."""
    columns = [(False, *(row in on for row in range(5))) for on in itertools.combinations(range(5), 3)]
    return list(zip(*columns[:count], strict=True))


def test_pairwise_has_all_pairs() -> None:
    rows = pairwise(10)
    assert len(rows) == 6
    for one, other in itertools.combinations(range(10), 2):
        assert len({(row[one], row[other]) for row in rows}) == 4


@pytest.mark.slow
def test_no_two_factors_make_a_difference(tmp_path: Path, in_memory: Path) -> None:
    if not (UNIVERSE.with_name("big") / "universe.repo").exists():
        pytest.skip("make e2e makes the set")
    packages = tmp_path / "packages"
    build_packages(packages, "clock/another-clock")
    rpmrepo.index(packages)
    treefile = treefile_in(tmp_path / "treefile", "big")
    (treefile.parent / "clock.repo").write_text(f"[clock]\nbaseurl={packages.as_uri()}\ngpgcheck=0\n")
    document = json.loads(treefile.read_text())
    treefile.write_text(
        json.dumps({**document, "repos": ["clock"], "packages": [*document["packages"], "another-clock"]})
    )
    (tmp_path / "home").mkdir()
    known = {**factors(tmp_path / "home"), "clock": CLOCK}
    rows = pairwise(len(known) + 2)
    # caches that are cold must come before those that an earlier compose has filled
    rows.sort(key=lambda row: row[-1])
    made: list[tuple[str, Path, list[str]]] = []
    for number, row in enumerate(rows):
        *switches, memory, warm = row
        names = [name for name, on in zip(known, switches, strict=True) if on]
        place = tmp_path / str(number)
        cachedir = (in_memory if memory else tmp_path) / "cache"
        # programs are to run in each: what is remembered of them no factor touches
        shutil.rmtree(cachedir / "programs" if warm else cachedir, ignore_errors=True)
        assert cachedir.exists() is warm
        commit = compose(treefile, place, cachedir, [known[name] for name in names])
        made.append((commit, place / "repo", [*names, *(["memory"] if memory else []), "warm" if warm else "cold"]))
        print(f"{commit[:12]} {', '.join(made[-1][2])}")
    first, repo, _ = made[0]
    for commit, other, names in made[1:]:
        paths = differing(repo, first, other, commit) if commit != first else []
        assert commit == first, f"{names} differs in {len(paths)} paths:\n" + "\n".join(paths[:40])

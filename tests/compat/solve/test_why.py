"""`compose why` and `compose why-not`, with libsolv's own reasons as judge of the chains."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose.errors import SolveError, UsageError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions
from compose.pipeline.why import why, why_not
from compose.solve.resolution import Reason
from tests.e2e.whole import UNIVERSE
from tests.support.rpmrepo import Package, build, index

PROJECT = Path(__file__).parents[3]


class Asking:
    """A treefile over the repository of these tests; places are told as t.yaml:LINE."""

    def __init__(self, path, repository):
        self.path = path
        self.repository = repository
        self.repo("test", repository)

    def repo(self, name, directory, more=""):
        (self.path / f"{name}.repo").write_text(f"[{name}]\nbaseurl=file://{directory}\ngpgcheck=0\n{more}")

    def options(self, *lines, **more):
        treefile = self.path / "t.yaml"
        treefile.write_text("\n".join(lines) + "\n")
        return ComposeOptions(treefile=str(treefile), cachedir=str(self.path / "cache"), **more)

    def plain(self, text):
        return text.replace(f"{self.path}/", "")

    def why(self, subject, *lines):
        (found,) = why(self.options(*lines), subject, Reporter())
        return [
            [self.plain(chain.root.place), *(f"{link.need} {link.dependency}" for link in chain.links)]
            for chain in found.chains
        ]

    def why_not(self, subject, *lines, **more):
        found = why_not(self.options(*lines, **more), subject, Reporter())
        return found, [self.plain(each) for each in (found.reason, *found.details)]


@pytest.fixture
def asking(tmp_path, repository):
    return Asking(tmp_path, repository)


def test_the_chain_begins_at_a_line(asking):
    assert asking.why("base", "packages:", "  - app") == [["t.yaml:2:5", "requires lib >= 1", "requires base"]]


def test_weak_dependencies_are_told(asking):
    assert asking.why("nice", "packages:", "  - app") == [["t.yaml:2:5", "recommends nice"]]


def test_every_line_that_leads_there(asking):
    found = asking.why("base", "packages:", "  - app", "  - lib", "  - base", "  - nice")
    assert [chain[0] for chain in found] == ["t.yaml:4:5", "t.yaml:3:5", "t.yaml:2:5"]


def test_the_condition_of_a_rich_dependency(asking):
    assert asking.why("lib", "packages: [rich, lib]") == [["t.yaml:1:18"]]
    assert asking.why("base", "packages: [rich]") == [["t.yaml:1:12", "requires (lib if app else base)"]]


def test_a_package_that_is_not_there_is_for_why_not(asking):
    with pytest.raises(UsageError, match="base is not in the compose") as caught:
        asking.why("base", "packages: [nice]")
    assert "compose why-not base" in caught.value.hint
    with pytest.raises(UsageError, match="is in the compose"):
        asking.why_not("base", "packages: [app]")
    # what provides it is
    with pytest.raises(UsageError, match="is in the compose"):
        asking.why_not("virtual", "packages: [app]")


def test_a_compose_that_cannot_be_solved_is_told_as_such(asking):
    with pytest.raises(SolveError, match="needsbroken"):
        asking.why_not("base", "packages: [needsbroken]")


@pytest.mark.parametrize(
    ("subject", "lines", "expected"),
    [
        ("nicer", ["packages: [app]"], ["there is no package 'nicer' in any enabled repository; did you mean nice?"]),
        (
            "lib-9",
            ["packages: [app]"],
            ["there is no package 'lib-9' in any enabled repository, only lib-1.0-1.noarch"],
        ),
        (
            "nice",
            ["packages: [app]", "exclude-packages: [nice]"],
            ["nice-1.0-1.noarch is filtered out by exclude-packages (t.yaml:2:20)"],
        ),
        (
            "enemy",
            ["packages: [app]"],
            [
                "the packages cannot be installed together",
                "if it were asked for: enemy",
                "  enemy-1.0-1.noarch (test) conflicts with lib provided by lib-1.0-1.noarch (test)",
                "t.yaml:1:12: app",
            ],
        ),
        (
            "needsbroken",
            ["packages: [app]"],
            [
                "the packages cannot be installed together (if it were asked for: needsbroken)",
                "if it were asked for: needsbroken",
                "  needsbroken-1.0-1.noarch (test) requires broken",
                "    broken-1.0-1.noarch (test) requires nonexist >= 4, which no enabled repository provides",
            ],
        ),
    ],
)
def test_what_keeps_a_package_out(asking, subject, lines, expected):
    _, told = asking.why_not(subject, *lines)
    assert told[: len(expected)] == expected


def test_nobody_asks_for_it(asking):
    found, told = asking.why_not("lib", "packages: [nice]")
    assert told[0].startswith("nothing asks for it")
    assert [each.nevra.name for each in found.brings] == ["base", "lib"]


def test_only_weak_dependencies_ask_for_it(asking):
    found, told = asking.why_not("nice", "packages: [app]", "recommends: false")
    assert told[0].endswith("(recommends: false at t.yaml:2:1)")
    assert [(link.source.name, link.dependency) for link in found.wanted] == [("app", "nice")]


def test_another_build_is_taken(asking, tmp_path):
    build([Package("nice", version="0.9"), Package("base", version="2.0")], tmp_path / "other")
    index(tmp_path / "other")
    asking.repo("other", tmp_path / "other", "priority=120\n")
    _, told = asking.why_not("nice-0.9", "packages: [nice]")
    assert told == [
        "nice-1.0-1.noarch of repository 'test' is taken, whose priority=99 goes before priority=120 of 'other'"
    ]
    _, told = asking.why_not("base-2.0-1.noarch", "packages: [base]")
    assert told[0].startswith("base-1.0-1.noarch of repository 'test' is taken, whose priority=99")
    asking.repo("other", tmp_path / "other")
    _, told = asking.why_not("nice-0.9", "packages: [nice]")
    assert told == ["nice-1.0-1.noarch of repository 'test' is taken, which is newer"]


def test_a_lock_keeps_it_out(asking, tmp_path):
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"packages": {"app": {"evra": "1.0-1.noarch"}, "lib": {"evra": "1.0-1.noarch"},
                                             "base": {"evra": "1.0-1.noarch"}}}))  # fmt: skip
    _, told = asking.why_not("nice", "packages: [app]", lockfiles=(str(lock),), lockfile_strict=True)
    assert told == [f"nice-1.0-1.noarch is not locked in {asking.plain(str(lock))}"]


def test_the_commands(asking):
    def run(*words):
        asking.options("packages: [app]")
        command = [sys.executable, "-m", "compose", *words, str(asking.path / "t.yaml"),
                   f"--cachedir={asking.path}/cache", "--progress=none"]  # fmt: skip
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return asking.plain(done.stdout)

    assert run("why", "nice").splitlines() == [
        "nice-1.0-1.noarch (test)",
        "  t.yaml:1:12: app",
        "    app-1.0-1.noarch recommends nice (weak)",
        "      nice-1.0-1.noarch",
        "  only through weak dependencies: recommends: false leaves it out",
    ]
    (found,) = json.loads(run("why", "base", "--format=json"))
    assert [link["to"] for link in found["chains"][0]["links"]] == ["lib-1.0-1.noarch", "base-1.0-1.noarch"]
    assert run("why-not", "nicer").splitlines()[0].endswith("did you mean nice?")
    assert json.loads(run("why-not", "picky", "--format=json"))["brings"][-1]["package"] == "picky-1.0-1.noarch"


@pytest.mark.universe
def test_of_a_real_system_the_chains_agree_with_the_solver(tmp_path, monkeypatch):
    if not (UNIVERSE / "universe.repo").exists():
        pytest.skip("make universe first")
    shutil.copy(UNIVERSE / "universe.repo", tmp_path)
    text = "releasever: 13\nrepos: [universe]\npackages: [systemd, ostree, openssh-server, dracut, rpm]\n"
    # a solve for each name would take long
    monkeypatch.setattr("compose.pipeline.why._matches", lambda subject, nevra: True)

    def everything(name, more=""):
        (tmp_path / name).write_text(text + more)
        return why(ComposeOptions(treefile=str(tmp_path / name), cachedir=str(tmp_path / "cache")), "", Reporter())

    found = everything("all.yaml")
    best = {each.package.nevra: each.chains[0] for each in found}
    assert len(best) > 100
    for each in found:
        assert bool(best[each.package.nevra].links) == (each.package.reason is not Reason.REQUESTED)
    weak = {nevra for nevra, chain in best.items() if chain.weak}
    without = {each.package.nevra for each in everything("without.yaml", "recommends: false\n")}
    assert len(weak) > 5
    assert not weak & without

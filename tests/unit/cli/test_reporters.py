"""What machines and CI services are told."""

from __future__ import annotations

import contextlib
import io
import json
import os
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.cli import github
from compose.cli.app import main
from compose.cli.codequality import CodeQuality
from compose.cli.ending import Interrupted, describe, exit_code_of
from compose.cli.github import GitHubReporter, harmless
from compose.cli.jsonlines import INTERVAL, JsonReporter
from compose.cli.places import Place, faults_of, place_in
from compose.cli.services import GitLabReporter
from compose.cli.terminal import TerminalReporter
from compose.errors import SolveError, TreefileError

SCHEMA = json.loads(resources.files("compose.cli").joinpath("events.schema.json").read_text())
# jsonschema.validate() checks the schema too, each time
EVENTS = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text("packages: [a]\n")
    Path("sub").mkdir()
    Path("sub/x.repo").write_text("")
    Path("sub/my tree (1).yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t.yaml:2:5: there is no package 'x'", Place(file="t.yaml", line=2, column=5)),
        ("the packages cannot be installed together (t.yaml:3:1: x)", Place(file="t.yaml", line=3, column=1)),
        ("repository 'x' (sub/x.repo:4): metadata", Place(file="sub/x.repo", line=4)),
        ("cannot connect to 127.0.0.1:8080", None),
        ("sub/my tree (1).yaml:2:5: x", Place(file="sub/my tree (1).yaml", line=2, column=5)),
        ("nofile.yaml:3:1: x", None),
        ("bash-1:5.2-1.x86_64 and t.yaml", None),
        ("app-1:2.0: see t.yaml:7:1", Place(file="t.yaml", line=7, column=1)),
    ],
)
def test_places_are_found_in_messages(tree, text, expected):
    assert place_in(text) == expected


def test_no_text_commands_a_terminal_or_pretends_to_be_another_line(capsys):
    hostile = "/usr/\033]52;c;eA==\a\033[0Ksection_start:1:x\r\u202e\x9b2J\n[    1.0s] Committed x"
    stream = io.StringIO()
    for reporter in (GitLabReporter(stream), TerminalReporter()):
        reporter.warn(hostile)
        reporter.info(hostile)
    printed = describe(SolveError(hostile, details=[hostile], hint=hostile))
    for text in (stream.getvalue(), capsys.readouterr().err, printed):
        assert "\\x1b]52" in text
        assert not set("\033\a\r\u202e\x9b") & set(text)
        assert "\n[    1.0s] Committed" not in text


def test_several_faults_have_a_place_each_and_a_chain_has_one(tree):
    several = TreefileError("2 faults", details=["t.yaml:1:1: a", "t.yaml:2:1: b"])
    assert [(text, place.line) for text, place in faults_of(several)] == [("t.yaml:1:1: a", 1), ("t.yaml:2:1: b", 2)]
    chain = SolveError("they conflict", details=["t.yaml:3:1: a", "  a-1 conflicts with b"])
    ((text, place),) = faults_of(chain)
    assert (text.splitlines()[0], place.line) == ("they conflict", 3)


def events(*calls):
    """What a JsonReporter writes when it is told something."""
    read, write = os.pipe()
    reporter = JsonReporter(write, "compose tree")
    for call in calls:
        call(reporter)
    os.close(write)
    with open(read) as stream:
        found = [json.loads(line) for line in stream]
    for each in found:
        EVENTS.validate(each)
    return found


def test_the_schema_is_one():
    EVENTS.check_schema(SCHEMA)


def test_every_event_fits_the_schema(tree, monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("compose.cli.jsonlines.time.monotonic", lambda: next(ticks) * INTERVAL)

    def work(reporter):
        with contextlib.suppress(ValueError), reporter.task("Importing", total=3, unit="packages") as task:
            task.advance(2, detail="x")
            raise ValueError

    found = events(
        lambda r: r.stage_begun("solve"),
        lambda r: r.stage_ended("solve", 1.5, failed=False),
        work,
        lambda r: r.info("hello"),
        lambda r: r.warn("t.yaml:1:2: odd"),
        lambda r: r.result("committed", commit="0" * 64, packages=3, stage_seconds={"solve": 1.5}),
        lambda r: r.done(),
    )
    assert [(each["event"], each.get("state")) for each in found] == [
        ("begin", None), ("stage", "begun"), ("stage", "ended"), ("task", "begun"), ("task", "running"), ("task", "failed"),
        ("notice", None), ("warning", None), ("result", None),
    ]  # fmt: skip
    assert found[7]["place"] == {"file": "t.yaml", "line": 1, "column": 2}


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (SolveError("no", hint="yes", details=["a"]), 3, "SolveError"),
        (Interrupted(15), 143, "Interrupted"),
        (KeyError("x"), 1, "KeyError"),
    ],
)
def test_errors(error, code, kind):
    *_, last = events(lambda r: r.failed(error), lambda r: r.done())
    assert (last["event"], last["exit_code"], last["kind"]) == ("error", code, kind)
    assert exit_code_of(error) == code


def test_the_schema_refuses_what_is_no_event():
    for wrong in ({"event": "other", "time": 0}, {"event": "notice", "time": 0}, {"event": "notice", "message": "x"},
                  {"event": "result", "time": 0, "outcome": "maybe"}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            EVENTS.validate(wrong)


def test_a_reader_that_goes_away():
    read, write = os.pipe()
    reporter = JsonReporter(write, "compose tree")
    os.close(read)
    reporter.info("nobody hears this")
    reporter.info("nor this")
    os.close(write)


def test_github_annotations_groups_and_summary(tree):
    stream, summary = io.StringIO(), tree / "summary.md"
    reporter = GitHubReporter({"GITHUB_WORKSPACE": str(tree), "GITHUB_STEP_SUMMARY": str(summary)}, stream)
    reporter.stage_begun("solve")
    reporter.warn(f"{tree}/sub/x.repo:4: 100% odd\nreally")
    reporter.stage_ended("solve", 1.0, failed=True)
    reporter.failed(TreefileError("2 faults", details=["t.yaml:1:1: a", "t.yaml:2:1: b, c"], hint="mend it"))
    assert [line for line in stream.getvalue().splitlines() if line.startswith("::")] == [
        "::group::solve",
        f"::warning title=compose,file=sub/x.repo,line=4::{tree}/sub/x.repo:4: 100%25 odd%0Areally",
        "::endgroup::",
        "::error title=compose,file=t.yaml,line=1,col=1::t.yaml:1:1: a",
        "::error title=compose,file=t.yaml,line=2,col=1::t.yaml:2:1: b, c",
    ]
    assert "2 faults" in summary.read_text()
    assert "What to do: `mend it`" in summary.read_text()
    reporter.summarise(["## more"])
    assert summary.read_text().endswith("\n\n## more\n\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::set-output name=x::y", ":\\:set-output name=x::y"),
        ("a\n  ::stop-commands::x", "a\n  :\\:stop-commands::x"),
        ("x ##[add-path]/tmp", "x ##\\[add-path]/tmp"),
        ("perl(A::B) a::b :x", "perl(A::B) a::b :x"),
        ("a\r::x", "a\r:\\:x"),
        ("a ::x", "a ::x"),
    ],
)
def test_what_is_not_ours_gives_no_command(text, expected):
    assert harmless(text) == expected


def test_github_outputs(tree):
    reporter = GitHubReporter({"GITHUB_OUTPUT": str(tree / "out")}, io.StringIO())
    reporter.result("committed", ref="a/b", commit="0" * 64, version="1\ncommit=x", packages=3)
    assert (tree / "out").read_text() == f"outcome=committed\nref=a/b\ncommit={'0' * 64}\n"


def test_a_summary_ends_before_github_refuses_it(tree, monkeypatch):
    monkeypatch.setattr(github, "_SUMMARY_LIMIT", 100)
    summary = tree / "summary.md"
    reporter = GitHubReporter({"GITHUB_STEP_SUMMARY": str(summary)}, io.StringIO())
    reporter.summarise(["ü" * 300])
    assert "Truncated" in summary.read_text()
    assert summary.stat().st_size < 200


def test_bars_of_one_compose_are_not_those_of_the_next(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with TerminalReporter() as reporter:
        for name in ("first", "second"):
            task = reporter.task(name, total=2)
            task.advance()
            task.close()
            reporter.result("committed")
            # a thread that comes late
            task.advance()
            task.close()
        printed = stream.getvalue()
    assert printed.count("first") == printed.count("second") == 1


def test_gitlab_sections():
    stream = io.StringIO()
    reporter = GitLabReporter(stream)
    reporter.stage_begun("solve")
    reporter.info("x")
    reporter.stage_ended("solve", 1.0, failed=False)
    first, *_, last = stream.getvalue().split("\n")[:-1]
    assert first.startswith("\033[0Ksection_start:")
    assert first.endswith(":compose_solve[collapsed=true]\r\033[0Ksolve")
    assert last.endswith(":compose_solve\r\033[0K")


def test_a_code_quality_report(tree):
    report = CodeQuality(str(tree / "out.json"), {"CI_PROJECT_DIR": str(tree)})
    report.warn("nowhere")
    report.warn("sub/x.repo:4: odd")
    report.failed(SolveError("no", details=["t.yaml:3:1: a"]))
    report.write()
    rows = json.loads((tree / "out.json").read_text())
    assert [(row["severity"], row["location"]) for row in rows] == [
        ("minor", {"path": "sub/x.repo", "lines": {"begin": 4}}),
        ("major", {"path": "t.yaml", "lines": {"begin": 3}}),
    ]
    assert len({row["fingerprint"] for row in rows}) == 2


def test_names_that_are_not_utf_8(tree):
    error = TreefileError("cannot read \udcff.yaml", details=["t.yaml:1:1: \udcff"])
    reporter = GitHubReporter({"GITHUB_STEP_SUMMARY": str(tree / "summary.md")}, io.StringIO())
    reporter.failed(error)
    assert "cannot read \\udcff.yaml" in (tree / "summary.md").read_text()
    report = CodeQuality(str(tree / "out.json"), {})
    report.failed(error)
    report.write()
    assert json.loads((tree / "out.json").read_text())[0]["description"] == "t.yaml:1:1: \udcff"


def test_damage_that_is_found_is_an_error_event(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = BlobStore(CacheDir(str(tmp_path)).join("blobs"))
    Path(store.path(store.add_bytes(b"content"))).write_bytes(b"damaged")
    assert main(["cache", "verify", f"--cachedir={tmp_path}", "--progress=json"]) == 1
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["event"], last["exit_code"], len(last["details"])) == ("error", 1, 1)

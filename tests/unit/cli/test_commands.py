"""What `compose --help` lists without importing it is what the commands are."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from compose.cli import parts
from compose.cli.app import COMMANDS, Filled, load, main
from compose.cli.flags import source_date_epoch
from compose.cli.progress import quantity
from compose.cli.sizes import delta, parse_size
from compose.errors import SandboxError, UsageError
from compose.sizes import size


@pytest.mark.parametrize("name", COMMANDS)
def test_each_is_listed_with_its_own_words(name):
    assert load(name).get_short_help_str(limit=1000) == COMMANDS[name][1]


def test_the_list_has_whole_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


@cache
def commands(name: str) -> tuple[click.Command, ...]:
    """The command of a name, or those of a group. Only to be read: tests share what takes longer to make than each of them."""
    return tuple(leaves(load(name)))


def leaves(command: click.Command) -> Iterator[click.Command]:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from leaves(each)
    else:
        yield command


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_only_flags_that_the_command_has(name: str) -> None:
    for command in commands(name):
        options = [each for each in command.params if isinstance(each, click.Option)]
        known = {flag for each in options if not each.hidden for flag in (*each.opts, *each.secondary_opts)}
        for text in (command.help, *(getattr(each, "help", None) for each in command.params)):
            # without what it says of other commands
            own = re.sub(r"compose [a-z-]+ --\S+", "", text or "")
            assert set(re.findall(r"--[a-z][a-z-]+", own)) <= known, own


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_no_flag_without_effect(name: str) -> None:
    for command in commands(name):
        assert command.callback is not None
        body = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(command.callback))))
        unused = {each.id for node in ast.walk(body) if isinstance(node, ast.Delete) for each in ast.walk(node)
                  if isinstance(each, ast.Name)}  # fmt: skip
        assert not {each.name for each in command.params if not getattr(each, "hidden", False)} & unused


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_in_the_documentation(name: str) -> None:
    top = Path(__file__).parents[3]
    text = "".join(page.read_text() for page in (top / "README.md", *(top / "docs").glob("*.md")))
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    for command in commands(name):
        for each in command.params:
            if isinstance(each, click.Option) and not each.hidden:
                assert documented & {*each.opts, *each.secondary_opts}, each.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_who_uses_cores_can_be_given_fewer(name: str) -> None:
    for command in commands(name):
        assert command.callback is not None
        uses = "jobs_or_all(" in inspect.getsource(inspect.unwrap(command.callback))
        assert not uses or "--jobs" in {flag for each in command.params for flag in each.opts}


def test_help_uses_the_columns_there_are_and_has_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("TERMINAL_WIDTH", raising=False)
    assert main(["tree", "--help"]) == 0
    text = capsys.readouterr().out
    assert "\\" not in text
    assert 100 < max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.parametrize("text", ["now", "-1", "1795727808219994271", "9223372036854775807", "²"])
def test_dates_that_are_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        source_date_epoch()


@pytest.mark.parametrize("text", ["", "1.5G", "1E", "G", "-1", "9" * 5000])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--max-size="):
        parse_size("--max-size", text)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["rootfs", "t.yaml", "/nowhere/dest"], 1, "cannot write /nowhere/dest: No such file or directory"),
        (["install", "t.yaml", "/proc/dest"], 1, "cannot write /proc/dest: No such file or directory"),
        (["install", "t.yaml", "/dev/null/dest"], 1, "cannot write /dev/null/dest: Not a directory"),
        (["fetch", "t.yaml", "--bundle=/nowhere/x"], 1, "cannot write /nowhere/x: No such file or directory"),
        (["lock", "t.yaml", "--lockfile=/nowhere/x"], 1, "cannot write /nowhere/x: No such file or directory"),
        (["extensions", "t.yaml", "e", "--repo=r", "--output-dir=/proc/x"], 1, "cannot write /proc/x: No such file"),
        (["tree", "t.yaml", "--progress=json", f"--progress-fd={1 << 40}"], 2, "is not open"),
        (
            ["tree", "t.yaml", "--repo=r", "--add-metadata-string=a=\udcff"],
            2,
            "--add-metadata-string=a=\\udcff: not UTF-8",
        ),
        (["provenance", "x", "--repo=x", "--builder-id=http://["], 2, "is not a URI"),
        (["provenance", "x", "--repo=x", "--builder-id=x:\0"], 2, "is not a URI"),
        (["cache", "show", "--cachedir=/nowhere"], 2, "there is no cachedir /nowhere"),
        (["lint", "os/stable"], 2, "for a commit give --repo"),
        (["lock", "updat", "t.yaml"], 2, "No such command 'updat'"),
        (["lock", "t.yaml"], 2, "t.yaml: cannot read the treefile"),
    ],
)
def test_wrong_values(words: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["watch", "t.yaml", "--port=8081"], "--port needs --serve"),
        (["watch", "t.yaml", "--bind=127.0.0.1"], "--bind needs --serve"),
        (["size", "os/stable", "--repo=r", "--depth=2"], "--depth needs --by=directory"),
        (["lint", "os/stable", "--repo=r", "--container"], "--container is for a root directory or an image"),
        (["why", "a", "--repo=r", "--ref=os/stable", "--arch=s390x"], "--arch needs a TREEFILE: a commit has its own"),
        (["why", "a", "--repo=r", "--ref=os/stable", "--ex-lockfile=l"], "--lockfile needs a TREEFILE"),
        (["why", "a", "--repo=r", "--ref=os/stable", "--source-root=/"], "--source-root needs a TREEFILE"),
        (["why", "a", "--repo=r", "--ref=os/stable", "--cache-only"], "--cache-only needs a TREEFILE"),
        (["diff", "a", "b", "--repo=r", "--only=mode", "--no-paths"], "--only and --no-paths exclude each other"),
        (["lock", "update", "t.yaml", "bash", "--keep"], "--keep and PACKAGE exclude each other"),
        (["rootfs", "t.yaml", "out", "--source-root=/", "--source-root-rw=/"], "exclude each other"),
        (["tree", "--bundle=b", "--accept-new-ids"], "--accept-new-ids writes to the file of id-lock"),
    ],
)
def test_flags_that_would_have_no_effect(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["tree", "t.yaml", "--repo="], "--repo"),
        (["tree", "t.yaml", "-r", ""], "--repo"),
        (["tree", "t.yaml", "--repo=r", "--cachedir="], "--cachedir"),
        (["tree", "t.yaml", "--repo=r", "--write-commitid-to="], "--write-commitid-to"),
        (["tree", "t.yaml", "--ex-lockfile="], "--lockfile"),
        (["tree", "t.yaml", "--parent="], "--parent"),
        (["tree", ""], "TREEFILE"),
        (["commit", "t.yaml", "", "--repo=r"], "ROOTFS"),
        (["cache", "show", "--cachedir="], "--cachedir"),
        (["lock", "t.yaml", "--lockfile="], "--lockfile"),
        (["treefile", "fmt", ""], "TREEFILE"),
    ],
)
def test_a_path_that_is_empty(words: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a script's variable is not set. It is not the current directory."""
    assert main(words) == 2
    assert f"error: {name} is empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_is_looked_at(name: str) -> None:
    for command in commands(name):
        for each in command.params:
            text = each.metavar or ""
            if isinstance(each, click.Option) and re.search("FILE|DIR|PATH|REPO|REV", text) and "=" not in text:
                assert isinstance(each.type, Filled), each.opts


@pytest.mark.parametrize(
    "words",
    [["install", "t.yaml", "out"], ["postprocess", "out"], ["commit", "t.yaml", "out"], ["rootfs", "t.yaml", "out"]],
)
def test_a_user_who_cannot_become_root_is_an_event(
    words: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise SandboxError("too few ids")

    monkeypatch.setattr(parts, "become_root", refuse)
    assert main([*words, "--progress=json"]) == 1
    begin, error = map(json.loads, capfd.readouterr().err.splitlines())
    assert (begin["event"], error["event"], error["message"]) == ("begin", "error", "too few ids")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image", "t.yaml", "quay.io/os/base:43"], "there is no directory quay.io"),
        (["image", "t.yaml", "localhost:5000/base", "--format=oci"], "there is no directory localhost:5000"),
    ],
)
def test_a_registry_without_its_format(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    text = capsys.readouterr().err
    assert message in text
    assert "--format=registry" in text


@pytest.mark.parametrize(
    ("count", "text", "difference"),
    [
        (0, "0 B", "0"),
        (512, "512 B", "+512 B"),
        (999, "999 B", "+999 B"),
        (1000, "1.0 kB", "+1.0 kB"),
        (99_999, "100.0 kB", "+100.0 kB"),
        (2_000_000, "2.0 MB", "+2.0 MB"),
        (-512, "-512 B", "-512 B"),
    ],
)
def test_sizes(count: int, text: str, difference: str) -> None:
    assert (size(count), delta(count), quantity(count, "bytes")) == (text, difference, text)


def test_the_treefile_is_called_so_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rootfs", "--help"]) == 0
    assert "rootfs [OPTIONS] TREEFILE DEST" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["treefile", "show", "t.yaml"], ["plan", "t.yaml"]])
def test_a_current_directory_that_is_gone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    there.rmdir()
    (tmp_path / "t.yaml").write_text("ref: os\n")
    assert main([*words[:-1], str(Path("..", words[-1]))]) == 2
    assert "error: the current directory was removed" in capsys.readouterr().err

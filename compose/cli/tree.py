"""`compose tree`: the flags of `rpm-ostree compose tree`, under their names."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from compose.cli.progress import PlainReporter, TerminalReporter
from compose.errors import UsageError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.run import compose_tree, flattened_treefile

_SETUP = "Where and how"
_INPUT = "Packages"
_COMMIT = "Commit"
_RESULT = "Results"


class ProgressStyle(StrEnum):
    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    NONE = "none"


def command(
    treefile: Annotated[str, typer.Argument(metavar="TREEFILE", help="Treefile to compose, YAML or JSON.")],
    repo: Annotated[
        str | None,
        typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository to commit to; without it a preview one."),
    ] = None,
    cachedir: Annotated[
        str | None,
        typer.Option("--cachedir", metavar="DIR", help="What to remember between composes.", rich_help_panel=_SETUP),
    ] = None,
    source_root: Annotated[
        str | None,
        typer.Option(
            "--source-root", metavar="PATH", help="Root whose etc/yum.repos.d is read.", rich_help_panel=_SETUP
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Cores to use; all by default.", rich_help_panel=_SETUP)
    ] = None,
    progress: Annotated[
        ProgressStyle, typer.Option("--progress", help="How progress is shown.", rich_help_panel=_SETUP)
    ] = ProgressStyle.AUTO,
    proxy: Annotated[
        str | None, typer.Option("--proxy", metavar="URL", help="HTTP proxy.", rich_help_panel=_SETUP)
    ] = None,
    cache_only: Annotated[
        bool, typer.Option("--cache-only", help="Do not refresh repository metadata.", rich_help_panel=_INPUT)
    ] = False,
    force_nocache: Annotated[
        bool, typer.Option("--force-nocache", help="Compose even when nothing changed.", rich_help_panel=_INPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the packages and stop.", rich_help_panel=_INPUT)
    ] = False,
    download_only: Annotated[
        bool, typer.Option("--download-only", help="Stop after packages are imported.", rich_help_panel=_INPUT)
    ] = False,
    download_only_rpms: Annotated[
        bool, typer.Option("--download-only-rpms", help="Stop after packages are downloaded.", rich_help_panel=_INPUT)
    ] = False,
    print_only: Annotated[
        bool, typer.Option("--print-only", help="Print the flattened treefile and stop.", rich_help_panel=_INPUT)
    ] = False,
    disable_selinux: Annotated[
        bool,
        typer.Option("--disable-selinux", help="Do not label, whatever the treefile says.", rich_help_panel=_INPUT),
    ] = False,
    add_metadata_string: Annotated[
        list[str] | None,
        typer.Option("--add-metadata-string", metavar="KEY=VALUE", help="Commit metadata.", rich_help_panel=_COMMIT),
    ] = None,
    add_metadata_from_json: Annotated[
        list[str] | None,
        typer.Option("--add-metadata-from-json", metavar="FILE", help="Commit metadata.", rich_help_panel=_COMMIT),
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="REV", help="Parent of the commit.", rich_help_panel=_COMMIT)
    ] = None,
    no_parent: Annotated[
        bool, typer.Option("--no-parent", help="Commit without a parent.", rich_help_panel=_COMMIT)
    ] = False,
    previous_commit: Annotated[
        str | None,
        typer.Option(
            "--previous-commit", metavar="REV", help="Compare with this, not the ref.", rich_help_panel=_COMMIT
        ),
    ] = None,
    previous_inputhash: Annotated[
        str | None,
        typer.Option("--previous-inputhash", metavar="HEX", help="Compare with this hash.", rich_help_panel=_COMMIT),
    ] = None,
    previous_version: Annotated[
        str | None,
        typer.Option(
            "--previous-version", metavar="VERSION", help="Base of automatic versioning.", rich_help_panel=_COMMIT
        ),
    ] = None,
    write_commitid_to: Annotated[
        str | None,
        typer.Option(
            "--write-commitid-to",
            metavar="FILE",
            help="Write the commit here; the ref is not moved.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    write_composejson_to: Annotated[
        str | None,
        typer.Option(
            "--write-composejson-to", metavar="FILE", help="Write the result as JSON.", rich_help_panel=_RESULT
        ),
    ] = None,
    touch_if_changed: Annotated[
        str | None,
        typer.Option(
            "--touch-if-changed", metavar="FILE", help="Touch this if there is a new commit.", rich_help_panel=_RESULT
        ),
    ] = None,
    unified_core: Annotated[bool, typer.Option("--unified-core", "--ex-unified-core", hidden=True)] = False,
    workdir: Annotated[str | None, typer.Option("--workdir", hidden=True)] = None,
) -> None:
    """Compose a tree: solve, install, label and commit what TREEFILE describes."""
    # accepted because callers of rpm-ostree pass them; there is one core here, and it works in the cachedir
    del unified_core, workdir
    if print_only:
        typer.echo(flattened_treefile(treefile), nl=False)
        return
    if no_parent and parent is not None:
        raise UsageError("--no-parent and --parent exclude each other")
    options = ComposeOptions(
        treefile=treefile,
        repo=repo,
        cachedir=cachedir or _default_cachedir(),
        source_root=source_root,
        jobs=jobs or len(os.sched_getaffinity(0)),
        proxy=proxy if proxy is not None else os.environ.get("http_proxy"),
        cache_only=cache_only,
        force_nocache=force_nocache,
        dry_run=dry_run,
        download_only=download_only,
        download_only_rpms=download_only_rpms,
        disable_selinux=disable_selinux,
        metadata_strings=tuple(_key_value(each) for each in add_metadata_string or ()),
        metadata_files=tuple(add_metadata_from_json or ()),
        parent=parent,
        no_parent=no_parent,
        previous_commit=previous_commit,
        previous_inputhash=previous_inputhash,
        previous_version=previous_version,
        write_commitid_to=write_commitid_to,
        write_composejson_to=write_composejson_to,
        touch_if_changed=touch_if_changed,
        source_date_epoch=_source_date_epoch(),
    )
    with _reporter(progress) as reporter:
        result = compose_tree(options, reporter)
    typer.echo(_summary(result), nl=False)


def _default_cachedir() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "compose")


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--add-metadata-string={text}: expected KEY=VALUE")
    return key, value


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)


@contextlib.contextmanager
def _reporter(style: ProgressStyle) -> Iterator[Reporter]:
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    if style is ProgressStyle.TTY or (style is ProgressStyle.AUTO and terminal):
        with TerminalReporter() as reporter:
            yield reporter
    elif style is ProgressStyle.NONE:
        yield Reporter()
    else:
        yield PlainReporter()


def _summary(result: ComposeResult) -> str:
    """What stdout gets: packages for a dry run, else where the commit is and how to look at it."""
    lines: list[str] = []
    match result.outcome:
        case Outcome.DRY_RUN:
            lines += [f"{each.nevra} ({each.repo})" for each in result.packages]
            lines.append(f"{len(result.packages)} packages")
        case Outcome.UNCHANGED:
            lines.append("No apparent changes since previous commit; use --force-nocache to override")
        case Outcome.DOWNLOADED:
            lines.append(f"{len(result.packages)} packages downloaded")
        case Outcome.COMMITTED:
            assert result.commit is not None
            lines.append(f"{result.ref} => {result.commit}" if result.ref_moved else result.commit)
            lines.append(f"version: {result.version or '(none)'}")
            seconds = ", ".join(f"{name} {spent:.1f}s" for name, spent in result.stage_seconds)
            lines.append(f"{len(result.packages)} packages; {seconds}")
            if result.preview:
                name = result.ref if result.ref_moved else result.commit
                lines += [
                    f"This is a preview in {result.repo} (no --repo was given). To look at it and to serve it:",
                    f"  ostree --repo={result.repo} ls -R {name}",
                    f"  python3 -m http.server --bind 127.0.0.1 --directory {result.repo} 8000",
                ]
    return "".join(f"{line}\n" for line in lines)

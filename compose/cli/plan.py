"""`compose plan`: what a compose would change, before anything is built."""

from __future__ import annotations

import difflib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli import flags, markdown
from compose.cli.ending import visible
from compose.cli.flags import ProgressStyle, ReportFormat
from compose.cli.plain import plain
from compose.cli.sizes import counted, delta
from compose.pipeline.options import ComposeOptions
from compose.sizes import size

if TYPE_CHECKING:
    from compose.plan import AccountChange, Cause, Plan, PlannedPackage, ScriptChange
    from compose.rpm.changelog import Changelog
    from compose.solve.resolution import Advisory

_SIGNS = {"added": "+", "removed": "-", "upgraded": "^", "downgraded": "v", "rebuilt": "="}
_SHOWN = 80
_ADVISORIES_UNKNOWN = "not known: the lockfile lacks them (compose lock update --keep adds them)"


def command(
    treefile: flags.Treefile,
    arch: flags.Arch = None,
    repo: flags.PreviousRepo = None,
    layer_repo: flags.LayerRepo = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    disable_selinux: flags.DisableSelinux = False,
    previous_commit: flags.PreviousCommit = None,
    previous_inputhash: flags.PreviousInputhash = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download new and changed packages first, to show their scriptlets too.")
    ] = False,
    form: flags.ReportForm = ReportFormat.TEXT,
    write_codequality_to: flags.CodeQualityFile = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
) -> None:
    """Show what a compose would change.

    Packages, downloads, disk space, scriptlets, users and groups, advisories, and the inputs that changed since the last
    commit.
    """
    from compose.pipeline.planning import plan

    options = ComposeOptions(
        treefile=treefile,
        basearch=arch,
        repo=repo,
        layer_repo=layer_repo,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        disable_selinux=disable_selinux,
        previous_commit=previous_commit,
        previous_inputhash=previous_inputhash,
        source_date_epoch=flags.source_date_epoch(),
    )
    with flags.reporter_of(progress, progress_fd, write_codequality_to) as reporter:
        found = plan(options, reporter, download=download)
        reporter.result("planned" if found.changed else "unchanged", plan=plain(found))
        reporter.summarise(list(as_markdown(found)))
    match form:
        case ReportFormat.JSON:
            typer.echo(json.dumps(plain(found), indent=2))
        case ReportFormat.MARKDOWN:
            typer.echo("\n".join(as_markdown(found)))
        case ReportFormat.TEXT:
            typer.echo("\n".join(map(visible, _text(found))))
    if unchanged_exit_77 and not found.changed:
        raise typer.Exit(flags.UNCHANGED)


def _text(plan: Plan) -> Iterator[str]:
    yield f"{plan.ref or 'the commit'}: {_headline(plan)}"
    if not plan.changed:
        return
    yield from _section("why:", _causes(plan))
    if plan.causes is None:
        yield f"why: not known: {plan.why_not_known}"
    yield from _section(f"packages: {_counts(plan)}", [_package(each) for each in plan.packages])
    yield f"size: {_sizes(plan)}"
    for need in plan.disk:
        missing = "" if need.enough else ": NOT ENOUGH"
        yield f"disk: up to {size(need.needed)} in {need.path}, {size(need.free)} free{missing}"
    yield from _section("scriptlets:", [_script(each) for each in plan.scripts])
    yield from _section("users and groups:", [_account(each) for each in plan.accounts])
    if plan.unread:
        yield _unread(plan)
    yield from _section("security advisories:", [describe_advisory(each) for each in plan.advisories or ()])
    if plan.advisories is None:
        yield f"security advisories: {_ADVISORIES_UNKNOWN}"
    yield from changelog_lines(plan.changelogs)


def as_markdown(plan: Plan) -> Iterator[str]:
    """Lines of markdown for a pull request or a step summary."""
    yield f"## {markdown.code(plan.ref or 'commit')}: {_headline(plan)}"
    yield ""
    if not plan.changed:
        return
    yield f"Packages: {_counts(plan)}. Size: {_sizes(plan)}."
    yield ""
    for need in plan.disk:
        if not need.enough:
            yield f"**Not enough disk space**: up to {size(need.needed)} in {need.path}, {size(need.free)} free"
            yield ""
    yield from _heading("Why", _causes(plan))
    if plan.causes is None:
        yield f"Which inputs changed is not known: {plan.why_not_known}."
        yield ""
    if plan.packages:
        yield "### Packages"
        yield ""
        yield from markdown.table(
            ("", "package", "before", "after", "repository", "size"), [_row(each) for each in plan.packages]
        )
    if plan.scripts:
        yield "### Scriptlets"
        yield ""
        for script in plan.scripts:
            yield from markdown.folded(_script(script), markdown.fenced(_script_diff(script), "diff"))
    yield from _heading("Users and groups", [_account(each) for each in plan.accounts])
    if plan.unread:
        yield f"{_unread(plan)}."
        yield ""
    yield from _heading("Security advisories", [describe_advisory(each) for each in plan.advisories or ()])
    if plan.advisories is None:
        yield f"Security advisories: {_ADVISORIES_UNKNOWN}."
        yield ""
    yield from changelog_section(plan.changelogs)


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield title
        yield from (f"  {line}" for line in lines)


def _heading(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"### {title}"
        yield ""
        yield from (f"- {markdown.code(line)}" for line in lines)
        yield ""


def _headline(plan: Plan) -> str:
    if plan.previous is None:
        return "a first commit"
    version = f", version {plan.previous_version}" if plan.previous_version else ""
    after = f"{plan.previous[:12]}{version}"
    return f"a new commit after {after}" if plan.changed else f"nothing changed since {after}"


def _counts(plan: Plan) -> str:
    counts = Counter(str(each.change) for each in plan.packages)
    changed = [f"{counts[each]} {each}" for each in _SIGNS if counts[each]]
    return f"{', '.join(changed) or 'none changed'}; {plan.total} in all"


def _sizes(plan: Plan) -> str:
    change = "" if plan.size_before is None else f" ({delta(plan.size - plan.size_before)})"
    return f"{size(plan.size)} installed{change}, {size(plan.download)} to download"


def _causes(plan: Plan) -> list[str]:
    """One line for each changed input; all packages, which have their own section, share one."""
    packages = [each for each in plan.causes or () if each.change.kind == "package"]
    others = [_cause(each) for each in plan.causes or () if each.change.kind != "package"]
    return [*others, f"{counted(len(plan.packages), 'package')} changed"] if packages else others


def _cause(cause: Cause) -> str:
    change = cause.change
    place = f" ({cause.place})" if cause.place else ""
    match change.kind:
        case "treefile":
            return f"{change.name}: {_difference(change.before, change.after)}{place}"
        case "file" | "layer":
            event = "new" if change.before is None else "gone" if change.after is None else "changed"
            return f"{change.kind} {change.name}: {event}{place}"
        case "repository":
            return f"the repository's config asks for {change.name}: {change.before or 'none'} -> {change.after}"
        case _:
            return f"{change.name}: {change.before} -> {change.after}"


def _difference(before: str | None, after: str | None) -> str:
    """Show the difference between two JSON texts; for lists, the items added and removed."""
    old, new = (None if each is None else json.loads(each) for each in (before, after))
    if isinstance(old or [], list) and isinstance(new or [], list) and (old or new):
        rows = [[json.dumps(each) if not isinstance(each, str) else each for each in side or ()] for side in (old, new)]
        changed = [f"+ {each}" for each in rows[1] if each not in rows[0]]
        changed += [f"- {each}" for each in rows[0] if each not in rows[1]]
        return _short(", ".join(changed) or "reordered")
    return f"{_short(before or 'not set')} -> {_short(after or 'not set')}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _package(each: PlannedPackage) -> str:
    sides = [side for side in (each.before, each.after) if side is not None]
    builds = " -> ".join(dict.fromkeys(side.evr for side in sides))
    notes = [each.repo, _change_of_size(each), f"{size(each.download)} to download" if each.download else ""]
    return f"{_SIGNS[each.change]} {each.nevra.name}.{each.nevra.arch} {builds} ({', '.join(filter(None, notes))})"


def _change_of_size(each: PlannedPackage) -> str:
    return "" if each.size_before is None else delta(each.size - each.size_before)


def _row(each: PlannedPackage) -> tuple[str, ...]:
    return (
        each.change,
        markdown.code(f"{each.nevra.name}.{each.nevra.arch}"),
        markdown.code(each.before.evr if each.before else ""),
        markdown.code(each.after.evr if each.after else ""),
        markdown.code(each.repo),
        _change_of_size(each),
    )


def _script(each: ScriptChange) -> str:
    event = "new" if each.before is None else "gone" if each.after is None else "changed"
    skipped = f", not run: {each.skipped}" if each.skipped else ""
    return f"{event} {each.phase} of {each.package}{skipped}"


def _script_diff(each: ScriptChange) -> list[str]:
    before, after = (
        [f"#!{' '.join(script.interpreter)}", *script.body.splitlines()] if script else []
        for script in (each.before, each.after)
    )
    # skip the first two lines, which name files
    return list(difflib.unified_diff(before, after, lineterm=""))[2:]


def _account(each: AccountChange) -> str:
    by = f", declared by {each.by}" if each.by else ""
    unlocked = "; not in id-lock: give --accept-new-ids" if each.locked is False else ""
    if each.before is None:
        number = "id chosen by the compose" if each.after is None else f"id {each.after}"
        return f"new {each.kind} {each.name}, {number}{by}{unlocked}"
    return f"{each.kind} {each.name}: id {each.before} -> {each.after}{by}{unlocked}"


def _unread(plan: Plan) -> str:
    return (
        f"Not downloaded yet: {counted(len(plan.unread), 'package')}, whose scriptlets, accounts and changelogs are not known; "
        "--download fetches them first"
    )


def changelog_lines(changelogs: Iterable[Changelog]) -> Iterator[str]:
    for changelog in changelogs:
        yield f"changelog of {', '.join(str(each) for each in changelog.packages)}:"
        yield from (f"  {line}" for line in _entries(changelog))


def changelog_section(changelogs: Sequence[Changelog]) -> Iterator[str]:
    """Lines of markdown, each changelog in a collapsed section."""
    if changelogs:
        yield "### Changelogs"
        yield ""
    for changelog in changelogs:
        title = ", ".join(str(each) for each in changelog.packages)
        yield from markdown.folded(title, markdown.fenced(_entries(changelog)))


def _entries(changelog: Changelog) -> Iterator[str]:
    for entry in changelog.entries:
        yield f"* {time.strftime('%Y-%m-%d', time.gmtime(entry.time))} {entry.author}"
        yield from entry.text.splitlines()


def describe_advisory(each: Advisory) -> str:
    """Describe an advisory in one line."""
    severity = f" ({each.severity})" if each.severity else ""
    titles = [row.title for row in each.references]
    return f"{each.id}{severity}: {', '.join((*each.packages, *titles))}"

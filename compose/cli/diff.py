"""`compose diff`: what changes for a client that updates from one commit to another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags, markdown
from compose.cli.ending import visible
from compose.cli.flags import ReportFormat
from compose.cli.plain import plain
from compose.cli.plan import changelog_lines, changelog_section, describe_advisory
from compose.cli.sizes import delta
from compose.sizes import size

if TYPE_CHECKING:
    from compose.diff import Attributes, PackageChange, PathChange
    from compose.rpm.nevra import Nevra
    from compose.systemdiff import AccountDiff, PrivilegeChange, SystemDiff, UnitChange

_PATHS_SHOWN = 200


class Aspect(StrEnum):
    CONTENT = "content"
    MODE = "mode"
    OWNER = "owner"
    LABEL = "label"
    CAPABILITY = "capability"
    XATTRS = "xattrs"
    KIND = "kind"


def command(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Old ref or commit.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="New ref or commit.")],
    repo: flags.CommitRepo,
    form: flags.ReportForm = ReportFormat.TEXT,
    only: Annotated[
        list[Aspect] | None, typer.Option("--only", help="Show only paths in both commits that differ in this.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths/--no-paths", help="Show every path that differs.")] = True,
) -> None:
    """Show what differs between two commits.

    Packages with sizes and changelogs, systemd units, users and groups, programs with privileges (setuid, setgid,
    capabilities), security advisories, and each path with its content, mode, owner and label. As
    markdown, it makes release notes.
    """
    if not paths:
        flags.refuse("and --no-paths exclude each other", "only")
    from compose.pipeline.inspect import diff_revisions

    found = diff_revisions(repo, before, after)
    changed = [each for each in found.commits.paths if only is None or set(only) & set(each.aspects)] if paths else []
    match form:
        case ReportFormat.JSON:
            typer.echo(json.dumps(_document(found, changed), indent=2))
        case ReportFormat.MARKDOWN:
            typer.echo("\n".join(_markdown(found, changed)))
        case ReportFormat.TEXT:
            for line in (
                *(text_lines(found) if only is None else _version(found)),
                *(line_of(each) for each in changed),
            ):
                typer.echo(visible(line))


def _version(found: SystemDiff) -> Iterator[str]:
    before, after = found.commits.versions
    if before != after:
        yield f"version: {before} -> {after}"


def text_lines(found: SystemDiff) -> Iterator[str]:
    """Describe all differences except the paths."""
    yield from _version(found)
    sizes = _size_changes(found)
    if found.commits.packages is None and found.commits.before != found.commits.after:
        yield "packages: not known, because a commit has neither a package list nor an rpm database"
    for each in found.commits.packages or ():
        builds = " -> ".join(side.evr for side in (each.before, each.after) if side is not None)
        nevra = _nevra(each)
        size_ = sizes.get((nevra.name, nevra.arch, nevra.evr), "")
        yield f"{each.change.name.lower()}: {nevra.name}.{nevra.arch} {builds}" + (f" ({size_})" if size_ else "")
    if found.commits.before != found.commits.after:
        yield f"size: {_sizes(found)}"
    for unit in found.units:
        yield f"{_unit_name(unit)} {unit.event}: {unit.unit}"
    for account in found.accounts:
        yield f"{account.kind} {_account_line(account)}"
    yield from map(_privilege_line, found.privileges)
    for event, advisories in (("added", found.advisories_added), ("gone", found.advisories_gone)):
        for advisory in advisories or ():
            yield f"advisory {event}: {describe_advisory(advisory)}"
    yield from changelog_lines(found.changelogs)


def _markdown(found: SystemDiff, paths: Sequence[PathChange]) -> Iterator[str]:
    """Lines of markdown for release notes."""
    before, after = (
        version or commit[:12]
        for version, commit in zip(found.commits.versions, (found.commits.before, found.commits.after), strict=True)
    )
    yield f"## {markdown.code(before)} to {markdown.code(after)}"
    yield ""
    if found.commits.before == found.commits.after:
        return
    yield f"Size: {_sizes(found)}."
    yield ""
    yield from _list("Security advisories", (describe_advisory(each) for each in found.advisories_added or ()))
    if found.commits.packages:
        sizes = _size_changes(found)
        yield "### Packages"
        yield ""
        yield from markdown.table(
            ("", "package", "before", "after", "size"),
            [
                (
                    each.change.name.lower(),
                    markdown.code(f"{_nevra(each).name}.{_nevra(each).arch}"),
                    markdown.code(each.before.evr if each.before else ""),
                    markdown.code(each.after.evr if each.after else ""),
                    sizes.get((_nevra(each).name, _nevra(each).arch, _nevra(each).evr), ""),
                )
                for each in found.commits.packages
            ],
        )
    yield from changelog_section(found.changelogs)
    yield from _list("Units", (f"{_unit_name(each)} {each.event}: {each.unit}" for each in found.units))
    yield from _list("Users and groups", (f"{each.kind} {_account_line(each)}" for each in found.accounts))
    yield from _list("Privileges", map(_privilege_line, found.privileges))
    if paths:
        shown = [line_of(each) for each in paths[:_PATHS_SHOWN]]
        if len(paths) > _PATHS_SHOWN:
            shown.append(f"and {len(paths) - _PATHS_SHOWN} more")
        yield from markdown.folded(f"{len(paths)} paths", markdown.fenced(shown))


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    rows = [f"- {markdown.code(line)}" for line in lines]
    if rows:
        yield from (f"### {title}", "", *rows, "")


def _nevra(each: PackageChange) -> Nevra:
    nevra = each.after or each.before
    assert nevra is not None
    return nevra


def _size_changes(found: SystemDiff) -> dict[tuple[str, str, str], str]:
    """By name, arch and evr."""
    return {(each.name, each.arch, each.evr): delta((each.after or 0) - (each.before or 0)) for each in found.sizes}


def _sizes(found: SystemDiff) -> str:
    before, after = found.installed
    files = f"files {delta(found.files)}"
    return files if before is None or after is None else f"{size(after)} of packages ({delta(after - before)}), {files}"


def _unit_name(unit: UnitChange) -> str:
    return "user unit" if unit.manager == "user" else "unit"


def _account_line(each: AccountDiff) -> str:
    if each.before is None or each.after is None:
        account = each.after or each.before
        assert account is not None
        fields = (f"{name}={value}" for name, value in plain(account).items() if value not in (None, "", []))
        return f"{'added' if each.before is None else 'removed'}: {each.name} ({', '.join(fields)})"
    old, new = plain(each.before), plain(each.after)
    changes = ", ".join(f"{name} {old[name]} -> {new[name]}" for name in old if old[name] != new[name])
    return f"changed: {each.name} ({changes})"


def _privilege_line(each: PrivilegeChange) -> str:
    if each.before and each.after:
        return f"privileges changed: {each.path} ({each.before} -> {each.after})"
    return f"privileges {'added' if each.after else 'removed'}: {each.path} ({each.after or each.before})"


def line_of(change: PathChange) -> str:
    """Describe a changed path in one line."""
    path = f"/{change.path}"
    if change.before is None or change.after is None:
        only = change.after or change.before
        assert only is not None
        return f"{'+' if change.before is None else '-'} {path} ({_attributes(only)})"
    values = [
        f"{aspect} {_value(change.before, aspect)} -> {_value(change.after, aspect)}" for aspect in change.aspects
    ]
    return f"~ {path} ({'; '.join(values)})"


def _attributes(each: Attributes) -> str:
    label = f" {each.label}" if each.label else ""
    size = f" {each.size} bytes" if each.kind == "file" else f" to {each.content}" if each.kind == "symlink" else ""
    return f"{each.kind} {each.mode:04o} {each.uid}:{each.gid}{label}{size}"


def _value(each: Attributes, aspect: str) -> str:
    match aspect:
        case "content":
            return each.content if each.kind == "symlink" else f"{each.content[:12]} ({each.size} bytes)"
        case "mode":
            return f"{each.mode:04o}"
        case "owner":
            return f"{each.uid}:{each.gid}"
        case "xattrs":
            return ",".join(f"{name}={value}" for name, value in each.xattrs) or "none"
        case _:
            return str(getattr(each, aspect)) or "none"


def _document(found: SystemDiff, paths: Sequence[PathChange]) -> dict[str, Any]:
    commits = found.commits
    rest = {key: value for key, value in plain(found).items() if key not in ("commits", "installed", "files")}
    before, after = found.installed
    return {
        "before": {"commit": commits.before, "version": commits.versions[0], "installed": before},
        "after": {"commit": commits.after, "version": commits.versions[1], "installed": after},
        "packages": plain(commits.packages),
        "files_delta": found.files,
        **rest,
        "paths": [
            {
                "path": f"/{each.path}",
                "changed": list(each.aspects),
                "before": plain(each.before),
                "after": plain(each.after),
            }
            for each in paths
        ],
    }

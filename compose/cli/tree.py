"""`compose tree`: the flags of `rpm-ostree compose tree`, under their names."""

# no `from __future__ import annotations`: typer would evaluate eighty strings, 1% of the time of an unchanged compose

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from compose.cli import flags, markdown
from compose.cli.flags import ProgressStyle
from compose.cli.reporter import CommandReporter
from compose.cli.sizes import counted
from compose.cli.timings import table
from compose.errors import UsageError
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome

if TYPE_CHECKING:
    from compose.solve.resolution import ResolvedPackage

NOTHING_CHANGED = "No apparent changes since previous commit; use --force-nocache to override"


def command(
    treefile: flags.OptionalTreefile = None,
    arch: flags.Arch = None,
    repo: flags.Repo = None,
    layer_repo: flags.LayerRepo = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    offline: flags.Offline = False,
    bundle: flags.Bundle = None,
    force_nocache: flags.ForceNocache = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    dry_run: flags.DryRun = False,
    download_only: flags.DownloadOnly = False,
    download_only_rpms: flags.DownloadOnlyRpms = False,
    print_only: flags.PrintOnly = False,
    disable_selinux: flags.DisableSelinux = False,
    accept_new_ids: flags.AcceptNewIds = False,
    add_metadata_string: flags.MetadataStrings = None,
    add_metadata_from_json: flags.MetadataFiles = None,
    parent: flags.Parent = None,
    no_parent: flags.NoParent = False,
    previous_commit: flags.PreviousCommit = None,
    previous_inputhash: flags.PreviousInputhash = None,
    previous_version: flags.PreviousVersion = None,
    write_commitid_to: flags.CommitIdFile = None,
    write_composejson_to: flags.ResultFile = None,
    timings: flags.Timings = False,
    write_timings_to: flags.TimingsFile = None,
    write_lockfile_to: flags.WriteLockfile = None,
    write_codequality_to: flags.CodeQualityFile = None,
    touch_if_changed: flags.TouchFile = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
    unified_core: flags.UnifiedCore = False,
    workdir: flags.Workdir = None,
    workdir_tmpfs: flags.WorkdirTmpfs = False,
    postprocess: flags.Postprocess = False,
) -> None:
    """Compose a tree and commit it.

    Solves, fetches, installs, postprocesses, labels and commits what TREEFILE describes.
    """
    del unified_core, workdir, workdir_tmpfs, postprocess
    if (treefile is None) is (bundle is None):
        raise UsageError(
            "give a TREEFILE"
            if bundle is None
            else "a bundle contains its own treefile and lockfile: do not give a TREEFILE"
        )
    if bundle is not None:
        flags.refuse(
            "and --bundle exclude each other: a bundle has its own treefile, architecture, lockfile, repositories and layers",
            *("arch", "lockfile", "source_root", "layer_repo", "print_only"),
        )
        flags.refuse(
            "writes to the file of id-lock, of which a bundle has a copy: compose the TREEFILE with it",
            "accept_new_ids",
        )
    if print_only:
        from compose.pipeline.flat import flattened_treefile

        typer.echo(flattened_treefile(treefile or "", basearch=arch), nl=False)
        return
    # imported late, because the stages take a while to import
    from compose.pipeline.run import compose_tree

    if no_parent and parent is not None:
        raise UsageError("--no-parent and --parent exclude each other")
    options = ComposeOptions(
        treefile=treefile or "",
        basearch=arch,
        repo=repo,
        layer_repo=layer_repo,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only or offline,
        force_nocache=force_nocache,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        write_lockfile_to=write_lockfile_to,
        dry_run=dry_run,
        download_only=download_only,
        download_only_rpms=download_only_rpms,
        disable_selinux=disable_selinux,
        accept_new_ids=accept_new_ids,
        metadata_strings=flags.key_values(add_metadata_string),
        metadata_files=tuple(add_metadata_from_json or ()),
        parent=parent,
        no_parent=no_parent,
        previous_commit=previous_commit,
        previous_inputhash=previous_inputhash,
        previous_version=previous_version,
        write_commitid_to=write_commitid_to,
        write_composejson_to=write_composejson_to,
        write_timings_to=write_timings_to,
        touch_if_changed=touch_if_changed,
        source_date_epoch=flags.source_date_epoch(),
    )
    with flags.reporter_of(progress, progress_fd, write_codequality_to) as reporter:
        if bundle is None:
            result = compose_tree(options, reporter)
        else:
            from compose.pipeline.bundling import compose_bundle

            result = compose_bundle(options, bundle, reporter)
        rows = table(result.timings) if timings and result.timings is not None else ""
        if rows and flags.events_only(progress, progress_fd):
            reporter.info(rows)
            rows = ""
        report_result(result, reporter)
    if rows:
        typer.echo(rows, err=True, nl=False)
    typer.echo(summary(result, dry_run=options.dry_run), nl=False)
    if unchanged_exit_77 and result.outcome is Outcome.UNCHANGED:
        raise typer.Exit(flags.UNCHANGED)


def report_result(result: ComposeResult, reporter: CommandReporter, **more: Any) -> None:
    """Report a result, also to the summary page of a CI run. more: further facts for the result event."""
    facts: dict[str, Any] = {"packages": result.package_count, "repo": result.repo, "preview": result.preview}
    facts |= {"ref": result.ref, "commit": result.commit, "version": result.version}
    facts["stage_seconds"] = {name: round(seconds, 3) for name, seconds in result.stage_seconds}
    reporter.result(result.outcome.name.lower(), **facts, pkgdiff=result.pkgdiff, **more)
    reporter.summarise(list(_as_markdown(result)))


def _as_markdown(result: ComposeResult) -> Iterator[str]:
    yield f"## {markdown.code(result.ref or 'commit')}: {result.outcome.name.lower().replace('_', ' ')}"
    yield ""
    if result.commit is None:
        yield f"{counted(result.package_count, 'package')}."
        return
    version = f", version {markdown.code(result.version)}" if result.version else ""
    yield f"Commit {markdown.code(result.commit)}{version}; {counted(result.package_count, 'package')}."
    yield ""
    if result.pkgdiff:
        # imports librpm
        from compose.rpm.compare import Change

        yield from markdown.table(
            ("", "package", "before", "after"),
            [
                (
                    Change(kind).name.lower(),
                    markdown.code(name),
                    markdown.code(_evr(sides, "PreviousPackage")),
                    markdown.code(_evr(sides, "NewPackage")),
                )
                for name, kind, sides in result.pkgdiff
            ],
        )
    if result.stage_seconds:
        yield f"Seconds: {', '.join(f'{name} {spent:.1f}' for name, spent in result.stage_seconds)}."


def _evr(sides: dict[str, list[str]], key: str) -> str:
    return sides[key][1] if key in sides else ""


def package_line(package: "ResolvedPackage") -> str:
    return f"{package.nevra} ({package.repo})"


def summary(result: ComposeResult, *, dry_run: bool = False) -> str:
    """Text for stdout: packages for a dry run, otherwise the commit and how to inspect it."""
    lines: list[str] = []
    if dry_run:
        lines += map(package_line, result.packages)
        lines.append(counted(result.package_count, "package"))
    match result.outcome:
        case Outcome.DRY_RUN:
            pass
        case Outcome.UNCHANGED:
            lines.append(NOTHING_CHANGED)
        case Outcome.DOWNLOADED:
            lines.append(f"{counted(result.package_count, 'package')} downloaded")
        case Outcome.INSTALLED:
            pass
        case Outcome.COMMITTED:
            assert result.commit is not None
            lines.append(f"{result.ref} => {result.commit}" if result.ref_moved else result.commit)
            lines.append(f"version: {result.version or '(none)'}")
            if result.package_count and result.timings is not None:
                seconds = ", ".join(f"{name} {spent:.1f}s" for name, spent in result.timings.stages)
                lines.append(f"{counted(result.package_count, 'package')}; {seconds}")
            if result.labels is not None:
                labels = result.labels
                lines.append(
                    f"labels: {labels.checked} paths compared with the policy {labels.policy}: {labels.equal} equal, "
                    f"{labels.inherited} inherited, {len(labels.mislabelled)} differ"
                )
            if result.preview:
                name = result.ref if result.ref_moved else result.commit
                lines += [
                    f"This is a preview in {result.repo} (no --repo was given). To inspect and serve it:",
                    f"  ostree --repo={result.repo} ls -R {name}",
                    f"  compose serve --repo={result.repo}",
                ]
    return "".join(f"{line}\n" for line in lines)

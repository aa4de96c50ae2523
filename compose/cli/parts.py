"""`compose install`, `postprocess`, `commit`, `rootfs`: parts of a compose, with rpm-ostree's names and flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from compose import fs
from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.cli.sizes import counted
from compose.cli.tree import NOTHING_CHANGED, package_line, report_result, summary
from compose.errors import ComposeError, UsageError
from compose.pipeline.flat import flattened_treefile
from compose.pipeline.options import ComposeOptions, Outcome
from compose.sandbox.identity import become_root
from compose.scratch import directory_beside

# the commands import the stages, which takes a while
if TYPE_CHECKING:
    from compose.pipeline.parts import Installed

_Directory = Annotated[str, typer.Argument(metavar="DESTDIR", help="Install into DESTDIR/rootfs.")]
_Rootfs = Annotated[str, typer.Argument(metavar="ROOTFS", help="Root directory.")]


def install_command(
    treefile: flags.Treefile,
    destdir: _Directory,
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
    force_nocache: flags.ForceNocache = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    dry_run: flags.DryRun = False,
    download_only: flags.DownloadOnly = False,
    download_only_rpms: flags.DownloadOnlyRpms = False,
    print_only: flags.PrintOnly = False,
    disable_selinux: flags.DisableSelinux = False,
    accept_new_ids: flags.AcceptNewIds = False,
    postprocess: Annotated[bool, typer.Option("--postprocess", help="Postprocess the root too.")] = False,
    previous_commit: flags.PreviousCommit = None,
    previous_inputhash: flags.PreviousInputhash = None,
    previous_version: flags.PreviousVersion = None,
    write_lockfile_to: flags.WriteLockfile = None,
    touch_if_changed: Annotated[
        str | None, typer.Option("--touch-if-changed", metavar="FILE", help="Touch this file if anything changed.")
    ] = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
    unified_core: flags.UnifiedCore = False,
    workdir: flags.Workdir = None,
) -> None:
    """Install packages into a root directory.

    Installs what TREEFILE describes into DESTDIR/rootfs, to be inspected, changed, postprocessed and committed.
    """
    del unified_core, workdir
    if print_only:
        typer.echo(flattened_treefile(treefile, basearch=arch), nl=False)
        return
    if not (dry_run or download_only or download_only_rpms):
        _become_root(progress, progress_fd)
    from compose.pipeline.parts import install

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
        force_nocache=force_nocache,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        write_lockfile_to=write_lockfile_to,
        dry_run=dry_run,
        download_only=download_only,
        download_only_rpms=download_only_rpms,
        disable_selinux=disable_selinux,
        accept_new_ids=accept_new_ids,
        previous_commit=previous_commit,
        previous_inputhash=previous_inputhash,
        previous_version=previous_version,
        touch_if_changed=touch_if_changed,
        source_date_epoch=flags.source_date_epoch(),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        result = install(options, destdir, reporter, finish=postprocess)
        reporter.result(result.outcome.name.lower(), packages=len(result.packages), rootfs=result.rootfs)
    typer.echo(_installed(result, dry_run=dry_run), nl=False)
    if unchanged_exit_77 and result.outcome is Outcome.UNCHANGED:
        raise typer.Exit(flags.UNCHANGED)


def postprocess_command(
    rootfs: _Rootfs,
    treefile: Annotated[
        str | None, typer.Argument(metavar="[TREEFILE]", help="Treefile; by default an empty one.")
    ] = None,
    arch: flags.Arch = None,
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    unified_core: flags.UnifiedCore = False,
) -> None:
    """Turn a root directory into a deployable one.

    Arranges kernel, initramfs, accounts, /var and /usr/etc as clients need them, in place.
    """
    del unified_core
    if treefile is None:
        flags.refuse("needs a TREEFILE", "arch")
    _become_root(progress, progress_fd)
    from compose.pipeline.parts import postprocess_rootfs

    with flags.reporter_of(progress, progress_fd) as reporter:
        changed = postprocess_rootfs(
            rootfs.rstrip("/"),
            treefile,
            arch,
            flags.cachedir_or_default(cachedir),
            flags.source_date_epoch(),
            flags.jobs_or_all(jobs),
            reporter,
        )
    typer.echo(f"{rootfs} is postprocessed" if changed else f"{rootfs} was already postprocessed")


def commit_command(
    treefile: flags.Treefile,
    rootfs: _Rootfs,
    arch: flags.Arch = None,
    repo: flags.Repo = None,
    layer_repo: flags.NoLayerRepo = None,
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    disable_selinux: flags.DisableSelinux = False,
    add_metadata_string: flags.MetadataStrings = None,
    add_metadata_from_json: flags.MetadataFiles = None,
    parent: flags.Parent = None,
    no_parent: flags.NoParent = False,
    previous_commit: flags.PreviousCommit = None,
    previous_version: Annotated[
        str | None,
        typer.Option(
            "--previous-version",
            metavar="VERSION",
            help="Base of automatic versioning; of no effect if compose install has given the root a version.",
        ),
    ] = None,
    write_commitid_to: flags.CommitIdFile = None,
    write_composejson_to: flags.ResultFile = None,
    touch_if_changed: flags.TouchFile = None,
    unified_core: flags.UnifiedCore = False,
    workdir: flags.Workdir = None,
) -> None:
    """Label a root directory and commit it."""
    del unified_core, workdir, layer_repo
    if no_parent and parent is not None:
        raise UsageError("--no-parent and --parent exclude each other")
    _become_root(progress, progress_fd)
    from compose.pipeline.parts import commit_rootfs

    options = ComposeOptions(
        treefile=treefile,
        basearch=arch,
        repo=repo,
        cachedir=flags.cachedir_or_default(cachedir),
        jobs=flags.jobs_or_all(jobs),
        disable_selinux=disable_selinux,
        metadata_strings=flags.key_values(add_metadata_string),
        metadata_files=tuple(add_metadata_from_json or ()),
        parent=parent,
        no_parent=no_parent,
        previous_commit=previous_commit,
        previous_version=previous_version,
        write_commitid_to=write_commitid_to,
        write_composejson_to=write_composejson_to,
        touch_if_changed=touch_if_changed,
        source_date_epoch=flags.source_date_epoch(),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        result = commit_rootfs(options, rootfs, reporter)
        report_result(result, reporter)
    typer.echo(summary(result), nl=False)


def rootfs_command(
    manifest: flags.Treefile,
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Directory to create.", show_default=False)],
    layer_repo: Annotated[
        str | None, typer.Option("--layer-repo", "--ostree-repo", metavar="REPO", help="Repository of ostree-layers.")
    ] = None,
    arch: flags.Arch = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    source_root_rw: Annotated[str | None, typer.Option("--source-root-rw", hidden=True)] = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
) -> None:
    """Compose a plain root for a container image.

    It has /etc rather than /usr/etc, no labels, and is not committed.
    """
    if source_root is not None and source_root_rw is not None:
        raise UsageError("--source-root and --source-root-rw exclude each other")
    _become_root(progress, progress_fd)
    from compose.pipeline.parts import ROOTFS, SCRATCH, install

    dest = os.path.abspath(dest)
    if os.path.lexists(dest):
        raise UsageError(f"{dest} already exists", hint="choose another name")
    fs.check_place(dest)
    options = ComposeOptions(
        treefile=manifest,
        basearch=arch,
        layer_repo=layer_repo,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root or source_root_rw,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        force_nocache=True,
        disable_selinux=True,
        source_date_epoch=flags.source_date_epoch(),
    )
    # beside DEST, so that the root can be renamed to it at the end
    with directory_beside(dest, SCRATCH) as scratch:
        directory = os.path.join(scratch, "installed")
        with flags.reporter_of(progress, progress_fd) as reporter:
            install(options, directory, reporter, finish=True, plain_etc=True)
        os.rename(os.path.join(directory, ROOTFS), dest)
    typer.echo(dest)


def _become_root(progress: ProgressStyle, progress_fd: int | None) -> None:
    """See identity.become_root(), which starts the program again, so that a reporter of before would be a second one."""
    try:
        become_root()
    except ComposeError:
        with flags.reporter_of(progress, progress_fd):
            raise


def _installed(result: Installed, *, dry_run: bool) -> str:
    count = counted(len(result.packages), "package")
    lines = [*map(package_line, result.packages), count] if dry_run else []
    match result.outcome:
        case Outcome.DRY_RUN:
            pass
        case Outcome.UNCHANGED:
            lines.append(NOTHING_CHANGED)
        case Outcome.DOWNLOADED:
            lines.append(f"{count} downloaded")
        case _:
            lines.append(f"{result.rootfs}: {count}")
    return "".join(f"{line}\n" for line in lines)

"""`compose why` and `compose why-not`: what the solver knows about one package."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags
from compose.cli.flags import Format, ProgressStyle
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.pipeline.options import ComposeOptions
from compose.sizes import size

if TYPE_CHECKING:
    from compose.pipeline.why import Absence, Presence
    from compose.solve.chains import Chain
    from compose.solve.links import Link
    from compose.solve.resolution import ResolvedPackage

_Package = Annotated[
    str, typer.Argument(metavar="PACKAGE", help="NAME, NAME.ARCH, NAME-VERSION or NAME-[EPOCH:]VERSION-RELEASE.ARCH.")
]


def why_command(
    package: _Package,
    treefile: Annotated[
        str, typer.Argument(metavar="[TREEFILE]", help="Treefile; none with --ref.", show_default=False)
    ] = "",
    repo: Annotated[
        str | None, typer.Option("--repo", "-r", metavar="REPO", help="Repository with the commit.")
    ] = None,
    ref: Annotated[
        str | None, typer.Option("--ref", metavar="REV", help="Ref or commit, instead of a treefile.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show a chain from every treefile line that leads to it.")
    ] = False,
    form: flags.Form = Format.TEXT,
    arch: flags.Arch = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    cache_only: flags.CacheOnly = False,
    proxy: flags.Proxy = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Show why a package is in a compose, or in a commit.

    Shows the shortest chain from a treefile line to the package, preferably without weak dependencies. For a commit (--repo and
    --ref), uses its own packages and the record of the compose, not the current package repositories.
    """
    from compose.pipeline.why import why, why_in_commit

    if (ref is None) is not bool(treefile):
        raise UsageError("give a TREEFILE, or --repo and --ref")
    if (ref is None) is not (repo is None):
        raise UsageError("--repo and --ref belong together")
    if ref is not None:
        names = ("arch", "source_root", "lockfile", "lockfile_strict", "cache_only", "proxy")
        flags.refuse("needs a TREEFILE: a commit has its own architecture and packages", *names)
    options = _options(treefile, arch, cachedir, source_root, lockfile, lockfile_strict, cache_only, proxy)
    with flags.reporter_of(progress, progress_fd) as reporter:
        if repo is not None and ref is not None:
            found = why_in_commit(repo, ref, package, options.cachedir, reporter)
        else:
            found = why(options, package, reporter)
    if form is Format.JSON:
        typer.echo(json.dumps([_presence(each, every=every) for each in found], indent=2))
        return
    for each in found:
        typer.echo(f"{each.package.nevra} ({each.package.repo})")
        for chain in each.chains if every else each.chains[:1]:
            for line in _chain(chain, each.package):
                typer.echo(f"  {line}")
        if not each.chains:
            typer.echo("  no treefile line leads to it, only rpm-files")
        elif each.chains[0].weak:
            typer.echo("  only through weak dependencies: recommends: false leaves it out")
        if len(each.chains) > 1 and not every:
            typer.echo(f"  requested by {counted(len(each.chains) - 1, 'more treefile line')}; --all shows every chain")


def why_not_command(
    package: _Package,
    treefile: flags.Treefile,
    form: flags.Form = Format.TEXT,
    arch: flags.Arch = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    cache_only: flags.CacheOnly = False,
    proxy: flags.Proxy = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Show why a package is not in a compose.

    It may be excluded, locked out, superseded by another version or repository, in conflict, in no repository, or just not
    requested.
    """
    from compose.pipeline.why import why_not

    options = _options(treefile, arch, cachedir, source_root, lockfile, lockfile_strict, cache_only, proxy)
    with flags.reporter_of(progress, progress_fd) as reporter:
        found = why_not(options, package, reporter)
    if form is Format.JSON:
        typer.echo(json.dumps(_absence(package, found), indent=2))
        return
    typer.echo(f"{package}: {found.reason}")
    for detail in found.details:
        typer.echo(f"  {detail}")
    for link in found.wanted:
        typer.echo(f"  {_link(link)}")
    if found.brings:
        total = size(sum(each.install_size for each in found.brings))
        typer.echo(f"  requesting it brings {counted(len(found.brings), 'package')}, {total} installed:")
        for each in found.brings:
            typer.echo(f"    {each.nevra} ({each.repo})")
    elif found.hint:
        typer.echo(f"hint: {found.hint}")


def _options(
    treefile: str,
    arch: str | None,
    cachedir: str | None,
    source_root: str | None,
    lockfile: list[str] | None,
    lockfile_strict: bool,
    cache_only: bool,
    proxy: str | None,
) -> ComposeOptions:
    return ComposeOptions(
        treefile=treefile,
        basearch=arch,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        cache_only=cache_only,
        proxy=flags.proxy_or_environment(proxy),
    )


def _chain(chain: Chain, package: ResolvedPackage) -> list[str]:
    """Lines of a chain: each package indented below the one that requires it."""
    lines = [f"{chain.root.place}: {chain.root.text}"]
    for depth, link in enumerate(chain.links, start=1):
        lines.append(f"{'  ' * depth}{_link(link)}")
    lines.append(f"{'  ' * (len(chain.links) + 1)}{package.nevra}")
    return lines


def _link(link: Link) -> str:
    if link.need == "supplements":
        return f"{link.source} is supplemented by {link.target.name} ({link.dependency}; weak)"
    return f"{link.source} {link.need} {link.dependency}" + (" (weak)" if link.weak else "")


def _presence(found: Presence, *, every: bool) -> dict[str, Any]:
    return {
        "package": str(found.package.nevra),
        "repo": found.package.repo,
        "reason": found.package.reason,
        "chains": [
            {
                "place": chain.root.place,
                "spec": chain.root.text,
                "weak": chain.weak,
                "links": [_row(link) for link in chain.links],
            }
            for chain in (found.chains if every else found.chains[:1])
        ],
    }


def _row(link: Link) -> dict[str, str]:
    return {
        "from": str(link.source),
        "need": link.need,
        "dependency": link.dependency,
        "to": str(link.target),
    }


def _absence(subject: str, found: Absence) -> dict[str, Any]:
    return {
        "package": subject,
        "reason": found.reason,
        "details": list(found.details),
        "hint": found.hint,
        "instead": None if found.instead is None else str(found.instead.nevra),
        "wanted": [_row(link) for link in found.wanted],
        "brings": [{"package": str(each.nevra), "repo": each.repo} for each in found.brings],
    }

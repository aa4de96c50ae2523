"""`compose serve`: serve a repository over HTTP, and print the commands for a client."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from compose.cachedir import PREVIEW
from compose.cli import flags
from compose.cli.ending import Interrupted
from compose.cli.flags import Format, ProgressStyle
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.serve.offered import Offered, offered
from compose.serve.server import Server

_REMOTE = "preview"
_SIGN_VERIFY = {"ed25519": "--sign-verify=ed25519=file:KEY.pub", "spki": "--sign-verify=spki=file:KEY.pem"}

Bind = Annotated[
    str,
    typer.Option(
        "--bind", metavar="ADDRESS", help="Address to listen on; any but loopback can be reached from outside."
    ),
]
Port = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 for any free one.")
]


def command(
    repo: Annotated[
        str | None,
        typer.Option(
            "--repo", "-r", metavar="REPO", help="Archive repository to serve; the preview repository by default."
        ),
    ] = None,
    cachedir: flags.CacheDirectory = None,
    bind: Bind = "127.0.0.1",
    port: Port = 8080,
    form: flags.Form = Format.TEXT,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Serve a repository over HTTP.

    To try a compose on a client: prints the commands for the client, then a line for each pull. Ctrl-C or SIGTERM ends it with
    exit code 0.
    """
    with (
        flags.reporter_of(progress, progress_fd) as reporter,
        until_stopped(),
        _open(repo, flags.cachedir_or_default(cachedir)) as opened,
        Server(opened, bind, port, reporter) as server,
    ):
        warn_of_reach(server, reporter)
        typer.echo(introduction(server, offered(opened, reporter), form), nl=False)
        server.run()


@contextmanager
def until_stopped() -> Iterator[None]:
    """Treat SIGINT and SIGTERM as the normal end of serving or watching."""
    try:
        yield
    except Interrupted as stop:
        if stop.number not in (signal.SIGINT, signal.SIGTERM):
            raise


def warn_of_reach(server: Server, reporter: Reporter) -> None:
    if not server.is_local:
        reporter.warn(f"anyone who can reach {server.url} can read all of {server.repo.path}: --bind={server.host}")


def introduction(server: Server, rows: Sequence[Offered], form: Format) -> str:
    """Describe what is served, with the commands for a client."""
    if form is Format.JSON:
        refs = [{"ref": each.ref, "commit": each.commit, "version": each.version} for each in rows]
        return json.dumps({"repo": server.repo.path, "url": server.url, "refs": refs}) + "\n"
    lines = [f"Serving {server.repo.path} at {server.url}"]
    if server.host == "127.0.0.1":
        lines.append(f"(from a virtual machine on QEMU's user network: http://10.0.2.2:{server.port}/)")
    lines += [f"  {each.ref}  {each.version or '(no version)'}  {each.commit}" for each in rows]
    if not rows:
        lines.append("There are no refs yet.")
        return "".join(f"{line}\n" for line in lines)
    kinds = sorted({kind for each in rows for kind in each.signatures})
    lines.append("On a client:")
    if kinds:
        lines.append(f"  ostree remote add {_verifying(kinds)} {_REMOTE} {server.url}")
        lines.append("or, without verifying signatures:")
    lines.append(f"  ostree remote add --no-gpg-verify {_REMOTE} {server.url}")
    lines.append("then (without rpm-ostree, use ostree admin switch):")
    lines += [f"  rpm-ostree rebase {shlex.quote(f'{_REMOTE}:{each.ref}')}" for each in rows]
    return "".join(f"{line}\n" for line in lines)


def _verifying(kinds: Sequence[str]) -> str:
    """Flags of `ostree remote add` to verify these kinds of signatures."""
    gpg = "--gpg-import=KEY.gpg" if "gpg" in kinds else "--no-gpg-verify"
    return " ".join((gpg, *(_SIGN_VERIFY[kind] for kind in kinds if kind in _SIGN_VERIFY)))


def _open(given: str | None, cachedir: str) -> Repo:
    path = given or os.path.join(cachedir, PREVIEW)
    if given is None and not os.path.exists(path):
        raise RepositoryError(
            f"there is no preview repository in {cachedir}",
            hint="create one with compose tree TREEFILE, without --repo; or serve another repository with --repo",
        )
    return Repo.open(path)

"""`compose sbom` and `compose provenance`: what a commit is made of, in standard formats for audits."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from compose import fs
from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.errors import UsageError


class BillFormat(StrEnum):
    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


_Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Output file; standard output by default.")
]


def sbom_command(
    revision: flags.Revision,
    repo: flags.CommitRepo,
    form: Annotated[
        BillFormat, typer.Option("--format", help="SPDX 2.3 or CycloneDX 1.6, both as JSON.")
    ] = BillFormat.SPDX,
    output: _Output = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Write the bill of materials of a commit.

    Version, license, source package, package URL and requirements of its packages come from its rpm database; RPM checksum,
    repository and signer from the record of the compose. The same commit gives the same bytes.
    """
    from compose.pipeline.accounting import bill_of_materials
    from compose.supplychain.cyclonedx import cyclonedx
    from compose.supplychain.spdx import spdx

    _check(output)
    with flags.reporter_of(progress, progress_fd) as reporter:
        bill = bill_of_materials(repo, revision, reporter)
        document = cyclonedx(bill) if form is BillFormat.CYCLONEDX else spdx(bill)
    _write(document, output)


def provenance_command(
    revision: flags.Revision,
    repo: flags.CommitRepo,
    builder_id: Annotated[
        str,
        typer.Option(
            "--builder-id",
            metavar="URI",
            help="URI of the builder that vouches for the compose, such as a CI system.",
            show_default=False,
        ),
    ],
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="IMGREF",
            help="Container image made from the commit: it becomes a subject too, by its digest (repeatable).",
        ),
    ] = None,
    authfile: flags.AuthFile = None,
    output: _Output = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Write the provenance of a commit.

    An in-toto statement with SLSA provenance (v1): treefile and its files, packages and layers, each with its digest, and the
    versions of the tools. It is not signed; that is up to whoever vouches for it.
    """
    from compose.oci.reference import parse_reference
    from compose.oci.skopeo import Access
    from compose.pipeline.accounting import image_of, provenance_of
    from compose.supplychain.provenance import provenance

    if not _is_uri(builder_id):
        raise UsageError(
            f"--builder-id={builder_id} is not a URI", hint="name who vouches for it: https://ci.example.com/composes"
        )
    references = [parse_reference(each) for each in image or ()]
    _check(output)
    with flags.reporter_of(progress, progress_fd) as reporter:
        bill, making = provenance_of(repo, revision, reporter)
        images = [image_of(each, bill, reporter, Access(authfile=authfile)) for each in references]
    _write(provenance(bill, making, builder_id, images), output)


def _is_uri(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme) and text.isprintable() and " " not in text
    except ValueError:
        return False


def _check(output: str | None) -> None:
    """Raises StorageError now if the output could not be written later."""
    if output is not None:
        fs.check_place(output)


def _write(document: dict[str, Any], output: str | None) -> None:
    """Raises StorageError."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    fs.atomic_write(output, text.encode())

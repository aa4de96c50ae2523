"""The files that report on a compose: --write-composejson-to, --write-commitid-to, --touch-if-changed, and its records."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compose import fs, records
from compose.commit import Committed
from compose.diff import packages_of
from compose.errors import ComposeError, StorageError
from compose.events import Reporter
from compose.label import Audit
from compose.ostree.repo import Repo
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions, ComposeResult
from compose.pipeline.requests import known_files
from compose.pipeline.timings import usage_document
from compose.records import Records
from compose.rpm.compare import package_changes
from compose.rpm.nevra import Nevra
from compose.treefile.model import Treefile
from compose.treefile.origin import origins


def package_diff(repo: Repo, parent: str | None, packages: Sequence[Nevra]) -> list[Any] | None:
    """rpm-ostree's pkgdiff; None when the parent or its package list is missing."""
    before = packages_of(repo.read_commit(parent)) if parent and repo.has(parent, "commit") else None
    if before is None:
        return None
    found = []
    for change, old, new in package_changes(before, packages):
        sides = {"PreviousPackage": old, "NewPackage": new}
        named = {key: [each.name, each.evr, each.arch] for key, each in sides.items() if each is not None}
        found.append([(new or old or before[0]).name, int(change), named])
    return found


def touch(options: ComposeOptions) -> None:
    """Create the file of --touch-if-changed, or update its times. Raises StorageError."""
    if options.touch_if_changed is not None:
        with fs.storage_errors(options.touch_if_changed):
            os.close(os.open(options.touch_if_changed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            os.utime(options.touch_if_changed)


def touch_for_download(inputs: Inputs, options: ComposeOptions) -> None:
    """The same after a download, if a compose would make a commit of it, as with rpm-ostree. Raises StorageError."""
    if inputs.changed(options):
        touch(options)


def write_results(
    options: ComposeOptions, result: ComposeResult, committed: Committed, digest: str, epoch: int
) -> None:
    """Write the requested files. The keys are rpm-ostree's and more; docs/composejson.md lists all of them.

    Raises StorageError, whose message says that the commit exists.
    """
    stats = committed.stats
    report: dict[str, Any] = {
        "ostree-commit": committed.checksum,
        "ostree-content-checksum": committed.content_checksum,
        "ostree-timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
        "ostree-n-metadata-total": stats.metadata_total,
        "ostree-n-metadata-written": stats.metadata_written,
        "ostree-n-content-total": stats.content.objects,
        "ostree-n-content-written": stats.content.written,
        "ostree-n-cache-hits": stats.content.known,
        "ostree-content-bytes-written": stats.content.bytes_written,
        "content-bytes-hashed": stats.content.bytes_hashed,
        "content-bytes-compressed": stats.content.bytes_deflated,
        "packages": result.package_count,
        "dropped": [{"path": f"/{path}", "reason": reason} for path, reason in result.dropped],
    }
    if result.timings is not None:
        report["stage-seconds"] = {name: round(seconds, 3) for name, seconds in result.timings.stages}
        report |= usage_document(result.timings.usage)
    if digest:
        report["rpm-ostree-inputhash"] = digest
    if result.ref_moved:
        report["ref"] = result.ref
    if result.labels is not None:
        report["labels"] = _labels(result.labels)
    if result.version is not None:
        report["ostree-version"] = result.version
    if result.pkgdiff is not None:
        report["pkgdiff"] = result.pkgdiff
    try:
        if options.write_composejson_to is not None:
            text = json.dumps(report, indent=2, sort_keys=True) + "\n"
            fs.atomic_write(options.write_composejson_to, text.encode())
        if options.write_commitid_to is not None:
            fs.atomic_write(options.write_commitid_to, committed.checksum.encode())
        touch(options)
    except (StorageError, OSError) as error:
        raise StorageError(
            f"{committed.checksum} is committed, but {error}",
            hint="once that is fixed, use --force-nocache to commit again and write the files",
        ) from error


def _labels(audit: Audit) -> dict[str, Any]:
    return {
        "policy": audit.policy,
        "checked": audit.checked,
        "equal": audit.equal,
        "inherited": audit.inherited,
        "unlabelled": audit.unlabelled,
        "differing": [
            {"path": f"/{each.path}", "label": each.label, "policy": each.expected} for each in audit.mislabelled
        ],
    }


def keep_records(
    repo: Repo,
    options: ComposeOptions,
    treefile: Treefile,
    commit: str,
    known: Records,
    reporter: Reporter,
    *,
    unpacked: str = "",
) -> None:
    """Keep the records of a commit for `compose blame` and `compose plan`.

    An error, such as a full disk or a treefile that was broken meanwhile, is reported as a warning: a commit is worth more.
    unpacked: the temporary directory of the treefile, which is stripped from places; "" for none.
    """
    try:
        records.keep(repo, commit, replace(known, places=_places(treefile, options, unpacked)))
    except (ComposeError, OSError) as error:
        reporter.warn(f"the record is not kept, and compose blame and plan will not work for this commit: {error}")


def _places(treefile: Treefile, options: ComposeOptions, unpacked: str) -> dict[str, str]:
    """Places in the treefile of what `compose blame` may find: packages, scripts by their programs' names, added files."""
    found: dict[str, str] = {}
    for each in origins(options.treefile, basearch=treefile.basearch, known=known_files(options)):
        key, _, rest = each.path.partition("[")
        place = str(each.place).removeprefix(f"{unpacked}/" if unpacked else "")
        if key == "packages":
            found[f"packages {str(each.value).split()[0]}"] = place
        elif key == "postprocess":
            found[each.path] = place
        elif key == "postprocess-script" and treefile.postprocess_script is not None:
            found[treefile.postprocess_script.path] = place
        elif key == "add-files" and rest.endswith("[1]"):
            found[f"add-files {str(each.value).strip('/')}"] = place
    return found

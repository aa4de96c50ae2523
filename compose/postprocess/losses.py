"""Finds files that disappeared during postprocessing without being reported by any step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compose.postprocess.options import Dropped
from compose.process import ProgramRecord
from compose.tree import Entry, Tree, TreeLookupError


def losses(
    before: Tree,
    after: Tree,
    reported: Iterable[Dropped],
    records: Sequence[ProgramRecord],
    removed: Sequence[str],
) -> tuple[Dropped, ...]:
    """Files and symlinks of `before` whose path is not in `after`, and whose content is nowhere in it.

    reported: losses that steps have reported already. records: of the programs that ran in between. removed: paths of
    remove-files. Symlinks and empty files in /var and /run do not count, because tmpfiles.d creates them at boot.
    """
    kept = {_content(entry) for entry in after.entries.values() if not entry.is_dir}
    present = {*after.entries, *(loss.path for loss in reported)}
    # a file moved and rewritten by a step is recognized by the last two components of its path
    rewritten = {_end(path) for path, entry in after.entries.items() if entry.writer.startswith("step:")}
    programs = {path: record.program.phase for record in records for path in record.changed}
    requested = tuple(f"{_place(before, path)}/" for path in removed)
    found = []
    for path, entry in before.walk():
        if entry.is_dir or _content(entry) in kept or _end(path) in rewritten:
            continue
        place = _place(after, path)
        if present & {path, place, f"usr/{path}"}:
            continue
        # files that scripts left for themselves need no report
        scratch = entry.writer.startswith(("scriptlet:", "step:", "treefile:"))
        if place.startswith(("var/", "run/")):
            if entry.blob is not None and entry.blob.size:
                found.append(Dropped(path=path, reason=f"/{place[:3]} belongs to the machine", expected=scratch))
        elif f"{path}/".startswith(requested) or f"usr/{path}/".startswith(requested):
            found.append(Dropped(path=path, reason="remove-files", expected=True))
        elif path in programs:
            found.append(Dropped(path=path, reason=f"removed by {programs[path]}", expected=True))
        else:
            found.append(Dropped(path=path, reason="not part of an image", expected=scratch))
    return tuple(found)


def _content(entry: Entry) -> tuple[str | None, str | None]:
    return (entry.blob.digest if entry.blob is not None else None, entry.target)


def _end(path: str) -> str:
    return "/".join(path.split("/")[-2:])


def _place(tree: Tree, path: str) -> str:
    """Where a path leads in a tree: /usr/local/x may be /var/usrlocal/x."""
    try:
        return tree.resolve(path, follow_last=False)
    except TreeLookupError:
        return path

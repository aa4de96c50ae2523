"""The assemble stage.

merge manifests -> run %pretrans in an empty root -> add the rpm database, open a workroot -> run sysusers, %pre -> resolve
owners -> run %post, %posttrans and transaction file triggers -> absorb what changed
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from compose import fs
from compose.assemble import sysusers
from compose.assemble.accounts import parse_ids, resolve_owners, with_more
from compose.assemble.early import lay_under, run_first, settle
from compose.assemble.layers import lay_over
from compose.assemble.merge import merge
from compose.assemble.options import Assembled, AssembleOptions
from compose.assemble.relinked import unpack_later, writers
from compose.assemble.scripts import Plan, ignored_scriptlets, plan
from compose.blobs import BlobStore
from compose.errors import ScriptError, TreeError
from compose.events import Reporter, Task
from compose.process import Program
from compose.rpm.database import DATABASE_PATH, FileState, make_database, same_records
from compose.rpm.manifest import PackageManifest
from compose.tree import BlobRef, Tree
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot

_SHOWN_LINES = 30
_DATABASE_WRITER = "step:rpmdb"
_DATABASE_LINKS = (("usr/lib/sysimage/rpm", "../../share/rpm"), ("var/lib/rpm", "../../usr/share/rpm"))


def assemble(
    ordered: Sequence[PackageManifest],
    options: AssembleOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Assembled:
    """Assemble packages into one tree. ordered: in install order. workdir: a private directory on a filesystem that can be
    a lower layer of an overlay. memory: results of programs in earlier composes.

    Raises AssembleError if the packages conflict, ScriptError if a scriptlet fails, SandboxError and StorageError for
    problems of the machine.
    """
    # rpm sets this macro for its own %lang filter, and scriptlets that build locale archives expand it
    macros = (("_install_langs", ":".join(options.install_langs)),) if options.install_langs is not None else ()
    ignored = ignored_scriptlets(options.ignore_scriptlets, by_default=options.default_ignored_scriptlets)
    # librpm writes the database in a separate process, which needs only the states of the files
    with ThreadPoolExecutor(1) as background:
        database: list[Future[BlobRef]] = []

        def write_rpmdb(states: Mapping[tuple[str, str], FileState]) -> None:
            database.append(background.submit(_database, ordered, options, store, workdir, states))

        merged = merge(ordered, options, write_rpmdb)
        scripts = plan(
            ordered,
            ignored=ignored,
            epoch=options.epoch,
            macros=macros,
            skipped=merged.skipped,
            absent=merged.absent,
        )
        may_fail = _may_fail(scripts, ordered, options, reporter)
        tree, owners = lay_over(merged, options.layers)
        rpmdb = database[0].result()
    for package, phase, reason in scripts.skipped:
        reporter.info(f"Skipping {phase} of {package}: {reason}")
    accounts = sysusers.programs(tree, ordered, options.epoch)
    count = len(scripts.first) + len(accounts) + len(scripts.before) + len(scripts.after)
    with reporter.task("Running scriptlets", total=count, unit="scriptlets") as task:

        def run(root: Workroot, program: Program) -> None:
            _run_checked(root, program, may_fail, task, reporter)

        found, records = run_first(
            scripts.first, tree, store, workdir, reporter, options.epoch, memory, run, options.foreign
        )
        tree, owners = lay_under(tree, owners, found, ordered)
        tree = _with_database(tree, rpmdb)
        tree = _with_accounts(tree, options, store)
        with Workroot(
            tree,
            store,
            os.path.join(workdir, "assemble"),
            reporter=reporter,
            epoch=options.epoch,
            memory=memory,
            foreign=options.foreign,
        ) as root:
            for program in (*accounts, *scripts.before):
                run(root, program)
            packages = {path: owner.package for path, owner in owners.items()}
            settle(root, tree, root.records, ordered, packages)
            positions = {str(manifest.nevra): position for position, manifest in enumerate(ordered)}
            tree, owners = unpack_later(root, tree, owners, positions, writers(root.records, positions))
            users, groups = (parse_ids(root.read(f"etc/{name}") or b"") for name in ("passwd", "group"))
            tree = resolve_owners(tree, owners, users, groups)
            root.apply(tree)
            for program in scripts.after:
                run(root, program)
                updated, owners = unpack_later(root, tree, owners, positions, writers(root.records[-1:], positions))
                if updated is not tree:
                    tree = updated
                    root.apply(tree)
            tree = _restore_database(root.absorb(), rpmdb, store, reporter)
            return Assembled(tree=tree, records=(*records, *root.records), dropped=merged.dropped)


def _may_fail(
    scripts: Plan, ordered: Sequence[PackageManifest], options: AssembleOptions, reporter: Reporter
) -> Mapping[tuple[str, str], str]:
    """(owner, phase) of programs that may fail -> the reason. Warns of unused exceptions in the treefile."""
    nevras: dict[str, list[str]] = {}
    for manifest in ordered:
        nevras.setdefault(manifest.nevra.name, []).append(str(manifest.nevra))
    skipped = {(nevra, phase) for nevra, phase, _ in scripts.skipped}
    run = {
        (program.owner.partition(":")[2], program.phase)
        for program in (*scripts.first, *scripts.before, *scripts.after)
    }
    allowed: dict[tuple[str, str], str] = {}
    for key, rows, found in (
        ("ignore-scriptlets", options.ignore_scriptlets, skipped),
        ("allow-scriptlet-failures", options.allow_scriptlet_failures, run),
    ):
        for package, kind, reason in rows:
            matching = [(nevra, f"%{kind}") for nevra in nevras.get(package, ()) if (nevra, f"%{kind}") in found]
            if not matching:
                reporter.warn(f"{key}: no %{kind} of {package} would run, so the exception can be removed")
            elif key == "allow-scriptlet-failures":
                allowed |= {(f"scriptlet:{nevra}", phase): reason for nevra, phase in matching}
    return allowed


def _run_checked(
    root: Workroot, program: Program, may_fail: Mapping[tuple[str, str], str], task: Task, reporter: Reporter
) -> None:
    """Run a program and report what it prints. Raises ScriptError with its last lines if it hangs, or fails and may not."""
    record = root.run(program)
    kind, _, owner = program.owner.partition(":")
    task.advance(detail=f"{owner} {program.phase}")
    lines, reason = record.lines, may_fail.get((program.owner, program.phase))
    fatal = record.timed_out or (record.status != 0 and reason is None)
    if kind != "step":
        for line in lines[:-_SHOWN_LINES] if fatal else lines:
            reporter.info(f"{program.phase} of {owner}: {line}")
    if not record.failure:
        return
    if not fatal:
        last = lines[-1] if lines else "(no output)"
        reporter.warn(f"{program.phase} of {owner} {record.failure}: {last} (allowed: {reason})")
        return
    raise ScriptError(
        f"{program.phase} of {owner} {record.failure}",
        details=lines[-_SHOWN_LINES:] or ("(no output)",),
        hint="fix the package, leave it out with exclude-packages, or allow the failure with allow-scriptlet-failures",
    )


def _with_accounts(tree: Tree, options: AssembleOptions, store: BlobStore) -> Tree:
    """Add known users and groups before sysusers and scriptlets run, so that their ids do not change."""
    editor = tree.edit()
    for known in options.accounts:
        path = f"etc/{known.file}"
        entry = tree.get(path)
        shipped = store.read(entry.blob) if entry is not None and entry.blob is not None else b""
        if known.override:
            data = with_more(with_more(b"", known.entries), shipped)
        else:
            data = with_more(shipped, known.entries)
        if data != shipped:
            new_mode = 0 if known.file.endswith("shadow") else 0o644
            mode = entry.permissions if entry is not None and entry.is_file else new_mode
            editor.add_file(path, store.add_bytes(data, mode, options.epoch), mode, writer="step:preserve-passwd")
    return editor.build()


def _database(
    ordered: Sequence[PackageManifest],
    options: AssembleOptions,
    store: BlobStore,
    workdir: str,
    states: Mapping[tuple[str, str], FileState],
) -> BlobRef:
    directory = os.path.join(workdir, "rpmdb")
    os.mkdir(directory, 0o700)
    try:
        database = make_database(ordered, directory, states=states, epoch=options.epoch)
        return store.add_bytes(database, 0o644, options.epoch)
    finally:
        fs.remove_tree(directory)


def _restore_database(tree: Tree, rpmdb: BlobRef, store: BlobStore, reporter: Reporter) -> Tree:
    """Undo what scriptlets did to the rpm database, of which bills of materials are made.

    With rpm they cannot change it, because rpm holds its lock, and rpm-ostree writes it after they have run. Raises ScriptError
    if there is no place for it any more.
    """
    entry, log = (tree.get(f"{DATABASE_PATH}/rpmdb.sqlite{suffix}") for suffix in ("", "-wal"))
    found = entry.blob if entry is not None else None
    # queries change its header and leave an empty write-ahead log
    queried = log is None or (log.blob is not None and not log.blob.size)
    if queried and found is not None and (found == rpmdb or same_records(store.read(found), store.read(rpmdb))):
        return tree
    writer = next((each.writer.partition(":")[2] for each in (log, entry) if each is not None), "a scriptlet")
    reporter.warn(f"{writer} changed the rpm database, which is undone")
    try:
        return _with_database(tree, rpmdb)
    except TreeError as error:
        raise ScriptError(f"a scriptlet replaced a directory above the rpm database: {error}") from error


def _with_database(tree: Tree, blob: BlobRef) -> Tree:
    """Add the rpm database, which scriptlets query, or restore it."""
    editor = tree.edit()
    for path, target in _DATABASE_LINKS:
        editor.remove(path)
        editor.add_symlink(path, target, writer=_DATABASE_WRITER)
    editor.remove(DATABASE_PATH)
    editor.add_dir(DATABASE_PATH, writer=_DATABASE_WRITER)
    editor.add_file(f"{DATABASE_PATH}/rpmdb.sqlite", blob, writer=_DATABASE_WRITER)
    return editor.build()

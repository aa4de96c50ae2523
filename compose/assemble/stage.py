"""The stage itself.

merged tree -> workroot -> sysusers, %pretrans, %pre -> owners resolved once -> rpm database -> %post, %posttrans,
transaction file triggers -> what changed is absorbed
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from compose import fs
from compose.assemble.accounts import parse_ids, resolve_owners, with_kept
from compose.assemble.early import settle
from compose.assemble.layers import lay_over
from compose.assemble.merge import merge
from compose.assemble.options import Assembled, AssembleOptions
from compose.assemble.scripts import plan
from compose.blobs import BlobStore
from compose.errors import ScriptError
from compose.events import Reporter, Task
from compose.process import Program, ProgramRecord
from compose.rpm.database import DATABASE_PATH, write_database
from compose.rpm.manifest import PackageManifest
from compose.rpm.order import install_order
from compose.tree import Tree
from compose.workroot.workroot import Workroot

_SHOWN_LINES = 30
_SYSUSERS = "usr/bin/systemd-sysusers"
_DATABASE_WRITER = "step:rpmdb"
_DATABASE_LINKS = (("usr/lib/sysimage/rpm", "../../share/rpm"), ("var/lib/rpm", "../../usr/share/rpm"))


def assemble(
    manifests: Sequence[PackageManifest], options: AssembleOptions, store: BlobStore, workdir: str, reporter: Reporter
) -> Assembled:
    """Make one tree of packages. workdir: private, on a filesystem that can be below an overlay.

    Raises AssembleError when they do not fit together, ScriptError when one of their programs fails, SandboxError and
    StorageError when the machine does.
    """
    ordered = install_order(manifests, reporter)
    # what rpm has for its own %lang filter, and scripts that make locale archives ask for
    macros = (("_install_langs", ":".join(options.install_langs)),) if options.install_langs is not None else ()
    scripts = plan(ordered, kernel_install=options.kernel_install, macros=macros)
    merged = merge(ordered, options)
    absent = frozenset(each.path for each in merged.dropped)
    tree, owners = lay_over(merged, options.layers)
    tree = _with_database(tree, ordered, options, store, workdir, reporter, absent)
    tree = _with_accounts(tree, options, store)
    for package, phase, reason in scripts.skipped:
        reporter.info(f"Not run: {phase} of {package}: {reason}")
    first = _sysusers(tree) + scripts.before
    count = len(first) + len(scripts.after)
    with (
        reporter.task("Running scriptlets", total=count, unit="scriptlets") as task,
        Workroot(tree, store, os.path.join(workdir, "assemble"), reporter=reporter, epoch=options.epoch) as root,
    ):
        for program in first:
            run_checked(root, program, task)
        packages = {path: owner.package for path, owner in owners.items()}
        settle(root, tree, root.records, ordered, packages, store)
        users, groups = (parse_ids(root.read(f"etc/{name}") or b"") for name in ("passwd", "group"))
        root.apply(resolve_owners(tree, owners, users, groups))
        for program in scripts.after:
            run_checked(root, program, task)
        return Assembled(tree=root.absorb(), records=root.records, dropped=merged.dropped)


def run_checked(root: Workroot, program: Program, task: Task) -> ProgramRecord:
    """Run a program; ScriptError with its last lines unless it ends with status 0."""
    record = root.run(program)
    task.advance(detail=f"{program.owner.partition(':')[2]} {program.phase}")
    if record.timed_out:
        how = f"was stopped after {program.timeout:.0f} s"
    elif record.status < 0:
        how = f"was killed by signal {-record.status}"
    elif record.status:
        how = f"failed with status {record.status}"
    else:
        return record
    lines = record.output.splitlines()[-_SHOWN_LINES:]
    raise ScriptError(
        f"{program.phase} of {program.owner.partition(':')[2]} {how}",
        details=lines or ("(it printed nothing)",),
        hint="fix the package, or leave it out with exclude-packages",
    )


def _sysusers(tree: Tree) -> tuple[Program, ...]:
    """Users and groups that packages declare, made before any script needs them."""
    if _SYSUSERS not in tree or not tree.children("usr/lib/sysusers.d"):
        return ()
    return (Program(owner="step:sysusers", phase="sysusers", argv=(f"/{_SYSUSERS}",)),)


def _with_accounts(tree: Tree, options: AssembleOptions, store: BlobStore) -> Tree:
    """Users and groups of before are there already when sysusers and scripts look: their ids stay."""
    editor = tree.edit()
    for name, kept in options.accounts:
        path = f"etc/{name}"
        entry = tree.get(path)
        shipped = store.read(entry.blob) if entry is not None and entry.blob is not None else b""
        data = with_kept(shipped, kept)
        if data != shipped:
            editor.add_file(path, store.add_bytes(data, 0o644, options.epoch), writer="step:preserve-passwd")
    return editor.build()


def _with_database(
    tree: Tree,
    ordered: Sequence[PackageManifest],
    options: AssembleOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    absent: frozenset[str],
) -> Tree:
    """The rpm database is there before any script runs: scripts query it."""
    directory = os.path.join(workdir, "rpmdb")
    os.mkdir(directory, 0o700)
    try:
        write_database(ordered, directory, absent=absent, epoch=options.epoch, reporter=reporter)
        fd = os.open(os.path.join(directory, "rpmdb.sqlite"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            blob = store.add_fd(fd, 0o644, options.epoch)
        finally:
            os.close(fd)
    finally:
        fs.remove_tree(directory)
    editor = tree.edit()
    for path, target in _DATABASE_LINKS:
        editor.remove(path)
        editor.add_symlink(path, target, writer=_DATABASE_WRITER)
    editor.remove(DATABASE_PATH)
    editor.add_dir(DATABASE_PATH, writer=_DATABASE_WRITER)
    editor.add_file(f"{DATABASE_PATH}/rpmdb.sqlite", blob, writer=_DATABASE_WRITER)
    return editor.build()

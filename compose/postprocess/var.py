"""/var and /run: the image ships both empty, and lines of tmpfiles.d recreate what packages put there.

The lines are written before the programs of the compose run, so that these can read and change them. /var is emptied
afterwards, so that programs find the directories they write to; what they added gets its lines then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from compose.postprocess import tmpfilesd
from compose.postprocess.accounts import read_accounts
from compose.postprocess.contents import Contents, encode, lines_of, merge_into, read_text, write_file
from compose.postprocess.options import Dropped, OptUsrLocal
from compose.tree import Entry, Tree, TreeEditor, TreeLookupError

CONFIGURATION = "usr/lib/tmpfiles.d"
AUTOVAR = f"{CONFIGURATION}/rpm-ostree-autovar.conf"
# A file per package. When rpm-ostree on a client layers or removes packages, it makes AUTOVAR anew from what is here then.
STAGED = "usr/lib/rpm-ostree/tmpfiles.d"
# not the name of any package, as these have no "@"
_NO_PACKAGE = "@compose"
# Clients and rpm-ostree recognize a finished tree by this file.
INTEGRATION = f"{CONFIGURATION}/rpm-ostree-0-integration.conf"
_OPT_USRLOCAL = f"{CONFIGURATION}/rpm-ostree-0-integration-opt-usrlocal.conf"
_HEADER = "# Directories and links that packages have in /var and /run. Made by the compose; sorted by path.\n"
_STAGED_HEADER = (
    "# What this package has in /var and /run, for rpm-ostree to make rpm-ostree-autovar.conf anew on clients.\n"
)

_INTEGRATION_TEXT = """\
# What the links at the top level of the image lead to, and the places where programs look for data of the image.
d /var/home 0755 root root - -
d /var/srv 0755 root root - -
d /var/roothome 0700 root root - -
d /var/mnt 0755 root root - -
d /run/media 0755 root root - -
L /var/lib/rpm - - - - ../../usr/share/rpm
L /var/lib/selinux - - - - ../../etc/selinux
"""
_USRLOCAL = ("bin", "etc", "games", "include", "lib", "sbin", "share", "src")
_VAR_OPT_TEXT = """\
# /opt and /usr/local are links into /var.
d /var/opt 0755 root root - -
d /var/usrlocal 0755 root root - -
"""
_STATE_OVERLAY_TEXT = """\
# /opt and /usr/local are directories of the image below an overlay that keeps local changes. In /var are links to them.
L /var/opt - - - - ../usr/lib/opt
L /var/usrlocal - - - - ../usr/local
"""

# State that each machine recreates: dropped without a report.
_REMADE = re.compile(
    r"(var/(cache|log|tmp)|run|var/lib/(rpm-state|systemd/catalog))/.*"
    r"|var/lib/(systemd/random-seed|dbus/machine-id)|var/\.updated"
)
# Not even the directories of these are kept.
_SCRATCH = re.compile(r"var/tmp/.+|var/lib/rpm-state(/.*)?|run/(lock|user|ostree-booted)(/.*)?")
# Directories of /var/lib whose data moves into the image, replaced by symlinks.
_MOVED_TO_USR = ("alternatives", "vagrant")


def relocate_data(tree: Tree) -> Tree:
    """Move the image's data out of /var (the alternatives database), and make /var/run and /var/lock symlinks."""
    writer = "step:var"
    editor = tree.edit()
    for name in _MOVED_TO_USR:
        entry = editor.get(f"var/lib/{name}")
        if entry is not None and entry.is_dir:
            merge_into(editor, f"var/lib/{name}", f"usr/lib/{name}", writer=writer)
            editor.add_symlink(f"var/lib/{name}", f"../../usr/lib/{name}", writer=writer)
    for path, target in (("var/run", "run"), ("var/lock", "run/lock")):
        entry = editor.get(path)
        if entry is not None and entry.is_dir:
            merge_into(editor, path, target, writer=writer)
            editor.add_symlink(path, f"../{target}", writer=writer)
    return editor.build()


def add_integration(tree: Tree, store: Contents, *, opt_usrlocal: OptUsrLocal) -> Tree:
    """Add the tmpfiles.d files that create the targets of the layout's own symlinks."""
    writer = "step:tmpfiles"
    editor = tree.edit()
    write_file(editor, INTEGRATION, _INTEGRATION_TEXT.encode(), store, writer=writer)
    texts = {OptUsrLocal.VAR: _VAR_OPT_TEXT, OptUsrLocal.STATE_OVERLAY: _STATE_OVERLAY_TEXT}
    if opt_usrlocal in texts:
        # leave symlinks alone: with merged directories /usr/local/sbin leads to bin
        names = [name for name in _USRLOCAL if not _is_link(tree, f"usr/local/{name}")]
        text = texts[opt_usrlocal] + "".join(f"d /usr/local/{name} 0755 root root - -\n" for name in names)
        write_file(editor, _OPT_USRLOCAL, text.encode(), store, writer=writer)
    return editor.build()


def add_tmpfiles(tree: Tree, store: Contents) -> Tree:
    """Add a line to rpm-ostree-autovar.conf for each directory, symlink and empty file in /var and /run, unless a tmpfiles.d
    file of the image creates it already. Another run adds lines for what is new.

    The lines are also in a file per package in STAGED, including those that are not needed as long as no package is removed.
    """
    configured = set(_configured(tree, store))
    known = {_in_tree(tree, path) for path in configured}
    accounts = read_accounts(tree, store)
    files: dict[str, dict[str, str]] = {}
    for path, entry in _state(tree):
        if not _is_expressible(path, entry):
            continue
        line = tmpfilesd.line_for(f"/{path}", entry, accounts.user(entry.uid), accounts.group(entry.gid))
        package = _package_of(entry)
        if path not in known:
            files.setdefault(AUTOVAR, {})[f"/{path}"] = line
        # of /usr/local/bin and /var/usrlocal/bin, rpm-ostree does not know that they are one
        if path not in known or (package and f"/{path}" in configured):
            files.setdefault(f"{STAGED}/{package or _NO_PACKAGE}.conf", {})[f"/{path}"] = line
    editor = tree.edit()
    changed = [_add_lines(editor, tree, file, lines, store) for file, lines in files.items()]
    return editor.build() if any(changed) else tree


def _package_of(entry: Entry) -> str:
    """The name of the package that has the entry, or whose scriptlet made it; "" for any other."""
    kind, _, build = entry.writer.partition(":")
    return build.rsplit("-", 2)[0] if kind in ("package", "scriptlet") else ""


def _add_lines(editor: TreeEditor, tree: Tree, file: str, lines: Mapping[str, str], store: Contents) -> bool:
    """Add lines to a tmpfiles.d file; False if there is nothing to add. lines: by the absolute path that they create; those are
    left out for which the file has a line already."""
    text = read_text(tree, file, store) or ""
    made = set(tmpfilesd.created_paths(text))
    added = {line for path, line in lines.items() if path not in made}
    if not added:
        return False
    present = {line for line in lines_of(text) if line and not line.startswith("#")}
    header = _HEADER if file == AUTOVAR else _STAGED_HEADER
    data = header + "".join(f"{line}\n" for line in sorted(present | added, key=_path_field))
    write_file(editor, file, encode(data), store, writer="step:var")
    return True


def empty(tree: Tree) -> tuple[Tree, tuple[Dropped, ...]]:
    """Remove everything in /var and /run; also return the files that nothing recreates on clients."""
    dropped = tuple(
        Dropped(
            path=path, reason=f"/{path.split('/')[0]} belongs to the machine; only directories and links can be kept"
        )
        for path, entry in _state(tree)
        if not _is_expressible(path, entry) and not _REMADE.fullmatch(path)
    )
    editor = tree.edit()
    for top in ("var", "run"):
        for name in editor.children(top):
            editor.remove(f"{top}/{name}")
    return editor.build(), dropped


def _state(tree: Tree) -> Iterator[tuple[str, Entry]]:
    for top in ("run", "var"):
        for path, entry in tree.walk(top):
            if path != top and not _SCRATCH.fullmatch(path):
                yield path, entry


def _is_expressible(path: str, entry: Entry) -> bool:
    if entry.blob is None:
        return True
    return not entry.blob.size and not _REMADE.fullmatch(path)


def _configured(tree: Tree, store: Contents) -> Iterator[str]:
    for name in tree.children(CONFIGURATION):
        if name.endswith(".conf"):
            yield from tmpfilesd.created_paths(read_text(tree, f"{CONFIGURATION}/{name}", store) or "")


def _is_link(tree: Tree, path: str) -> bool:
    entry = tree.get(_in_tree(tree, path))
    return entry is not None and entry.is_symlink


def _in_tree(tree: Tree, path: str) -> str:
    """Where an absolute path of a tmpfiles.d line leads: /usr/local/bin may be var/usrlocal/bin in this tree."""
    try:
        return tree.resolve(path, follow_last=False)
    except TreeLookupError:
        return path.strip("/")


def _path_field(line: str) -> tuple[str, str]:
    return (line.split()[1] if len(line.split()) > 1 else "", line)

"""The top level of the tree: directories of the image, and symlinks to the machine's own data.

On clients only /usr is part of the image, and read-only; /etc is merged and /var belongs to the machine. Therefore /home,
/root, /srv ... are symlinks into /var, and files that packages put there move along.
"""

from __future__ import annotations

import configparser
import dataclasses
import stat

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, directory, merge_into, read_text
from compose.postprocess.options import Dropped, OptUsrLocal
from compose.tree import Tree, TreeEditor, join

WRITER = "step:rootfs"
TRUE = ("true", "1")
"""The spellings of true that GKeyFile accepts."""

# Filesystems of the running system: mount points in the image.
_MOUNT_POINTS = ("dev", "proc", "run", "sys", "sysroot", "var", "boot")
_IMAGE = frozenset({"usr", "etc", "tmp", "bin", "sbin", "lib", "lib32", "lib64", "libx32", *_MOUNT_POINTS})
_CLEARED = ("dev", "proc", "sys", "tmp", "sysroot")

# (symlink, target, mode of the target directory)
_REDIRECTS = (
    ("home", "var/home", 0o755),
    ("root", "var/roothome", 0o700),
    ("srv", "var/srv", 0o755),
    ("mnt", "var/mnt", 0o755),
    ("media", "run/media", 0o755),
)


def is_transient(tree: Tree, store: Contents) -> bool:
    """Is the root configured to be writable until reboot (root.transient of ostree-prepare-root)? Raises PostprocessError."""
    for path in ("etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf"):
        text = read_text(tree, path, store)
        if text is None:
            continue
        # a GKeyFile: no interpolation
        config = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
        try:
            config.read_string(text)
        except (configparser.Error, ValueError) as error:
            raise PostprocessError(f"cannot parse /{path}: {error}") from error
        value = config.get("root", "transient", fallback="false")
        if value not in (*TRUE, "false", "0"):
            raise PostprocessError(f"cannot parse /{path}: transient is neither true nor false: {value}")
        return value in TRUE
    return False


def arrange(
    tree: Tree, store: Contents, *, opt_usrlocal: OptUsrLocal, tmp_is_dir: bool
) -> tuple[Tree, tuple[Dropped, ...]]:
    """Give the top level its directories and symlinks. Idempotent.

    /tmp stays a directory, because programs have yet to run. Raises PostprocessError for a transient root without tmp-is-dir.
    """
    transient = is_transient(tree, store)
    if transient and not tmp_is_dir:
        raise PostprocessError(
            "prepare-root.conf configures a transient root, with which /tmp cannot be a symlink into /sysroot",
            hint="set `tmp-is-dir: true` in the treefile",
        )
    editor = tree.edit()
    dropped: list[Dropped] = []
    if editor[""].permissions != 0o755 or editor[""].uid or editor[""].gid:
        editor.replace("", mode=stat.S_IFDIR | 0o755, uid=0, gid=0, writer=WRITER)
    for name in _CLEARED:
        if editor.children(name):
            editor.remove(name)
    for name in _MOUNT_POINTS:
        _plain_dir(editor, name, 0o755)
    _plain_dir(editor, "tmp", 0o1777)
    # needed by the programs of the compose; on clients, systemd's own tmpfiles.d creates it
    editor.add_dir("var/tmp", 0o1777, writer=WRITER)
    _link(editor, "ostree", "sysroot/ostree", dropped)
    if transient:
        for name in ("opt", "media", "mnt"):
            _plain_dir(editor, name, 0o755)
        _plain_dir(editor, "usr/local", 0o755)
    for name, target, mode in _REDIRECTS:
        if not (transient and name in ("media", "mnt")):
            _redirect(editor, name, target, mode, dropped)
    if not transient:
        _arrange_opt(editor, opt_usrlocal, dropped)
    kept = _IMAGE | {"ostree", "opt", *(name for name, _, _ in _REDIRECTS)}
    for name in editor.children(""):
        if name not in kept and not transient:
            dropped.extend(
                Dropped(path=path, reason="the top level of an OSTree system is fixed")
                for path in editor.subtree(name)
                if path == name or not editor[path].is_dir
            )
            editor.remove(name)
    return editor.build(), tuple(sorted(dropped))


def link_tmp(tree: Tree, *, tmp_is_dir: bool) -> Tree:
    """Make /tmp a symlink to sysroot/tmp, unless the treefile wants a directory. Runs after all programs, which need one."""
    if tmp_is_dir:
        return tree
    editor = tree.edit()
    editor.remove("tmp")
    editor.add_symlink("tmp", "sysroot/tmp", writer=WRITER)
    return editor.build()


def _arrange_opt(editor: TreeEditor, opt_usrlocal: OptUsrLocal, dropped: list[Dropped]) -> None:
    if opt_usrlocal is OptUsrLocal.ROOT:
        _plain_dir(editor, "opt", 0o755)
        _plain_dir(editor, "usr/local", 0o755)
        return
    opt = editor.get("opt")
    if opt is not None and opt.is_dir:
        # packaged files belong to the image; symlinks in /var/opt lead to them
        if editor.children("opt"):
            _drop_displaced(merge_into(editor, "opt", "usr/lib/opt", writer=WRITER), dropped)
        else:
            editor.remove("opt")
    if opt_usrlocal is OptUsrLocal.STATE_OVERLAY:
        editor.add_dir("usr/lib/opt", writer=WRITER)
        _link(editor, "opt", "usr/lib/opt", dropped)
        _plain_dir(editor, "usr/local", 0o755)
        return
    _link(editor, "opt", "var/opt", dropped)
    editor.add_dir("var/opt", writer=WRITER)
    for name in editor.children("usr/lib/opt"):
        path = join("var/opt", name)
        if path not in editor:
            editor.add_symlink(path, f"../../usr/lib/opt/{name}", writer=WRITER)
    _redirect(editor, "usr/local", "var/usrlocal", 0o755, dropped, link_target="../var/usrlocal")


def _redirect(
    editor: TreeEditor, name: str, target: str, mode: int, dropped: list[Dropped], *, link_target: str = ""
) -> None:
    """Make `name` a symlink and move its content to the target, which is created for the programs of the compose."""
    editor.add_dir(target, mode, writer=WRITER)
    entry = editor.get(name)
    if entry is not None and entry.is_dir:
        _drop_displaced(merge_into(editor, name, target, writer=WRITER), dropped)
    _link(editor, name, link_target or target, dropped)


def _link(editor: TreeEditor, name: str, target: str, dropped: list[Dropped]) -> None:
    entry = editor.get(name)
    if entry is not None and entry.target == target:
        return
    if entry is not None:
        dropped.extend(
            Dropped(path=path, reason=f"/{name} is a symlink to {target}")
            for path in editor.subtree(name)
            if editor[path].is_file
        )
        editor.remove(name)
    editor.add_symlink(name, target, writer=WRITER)


def _plain_dir(editor: TreeEditor, name: str, mode: int) -> None:
    """Make a path a root-owned directory with exactly this mode, keeping its content."""
    entry = editor.get(name)
    if entry is None or not entry.is_dir:
        editor.remove(name)
        editor.put(name, directory(mode, writer=WRITER))
    elif (entry.permissions, entry.uid, entry.gid) != (mode, 0, 0):
        plain = dataclasses.replace(entry, mode=stat.S_IFDIR | mode, uid=0, gid=0, writer=WRITER)
        editor.put(name, plain)


def _drop_displaced(paths: tuple[str, ...], dropped: list[Dropped]) -> None:
    dropped.extend(Dropped(path=path, reason="another file is in its place") for path in paths)

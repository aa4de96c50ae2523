"""systemd units: enables them, sets the default target, adds state overlays."""

from __future__ import annotations

from compose.tree import Tree

WRITER = "step:units"
_UNIT_DIR = "usr/lib/systemd/system"
_WANTS = "etc/systemd/system/multi-user.target.wants"
_REQUIRES = f"{_UNIT_DIR}/local-fs.target.requires"


def enable(tree: Tree, units: tuple[str, ...]) -> Tree:
    """Make multi-user.target want the units; existing links stay."""
    editor = tree.edit()
    for unit in units:
        path = f"{_WANTS}/{unit}"
        if path not in editor:
            editor.add_symlink(path, f"/{_UNIT_DIR}/{_unit_file(unit)}", writer=WRITER)
    return editor.build()


def set_default_target(tree: Tree, target: str) -> Tree:
    """Set the target to boot into, such as "graphical.target"."""
    editor = tree.edit()
    editor.remove(f"{_UNIT_DIR}/default.target")
    editor.add_symlink(f"{_UNIT_DIR}/default.target", target, writer=WRITER)
    return editor.build()


def require_state_overlays(tree: Tree) -> Tree:
    """Enable the overlays that keep local changes to /usr/lib/opt and /usr/local."""
    editor = tree.edit()
    for name in ("usr-lib-opt", "usr-local"):
        instance = f"ostree-state-overlay@{name}.service"
        editor.add_symlink(f"{_REQUIRES}/{instance}", f"/{_UNIT_DIR}/{_unit_file(instance)}", writer=WRITER)
    return editor.build()


def _unit_file(unit: str) -> str:
    """The file name of a unit, for an instance that of its template."""
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at and not rest.startswith(".") else unit

"""systemd: units to enable, the default target, state overlays."""

from __future__ import annotations

from compose.tree import Tree

WRITER = "step:units"
_UNIT_DIR = "usr/lib/systemd/system"
_WANTS = "etc/systemd/system/multi-user.target.wants"
_REQUIRES = f"{_UNIT_DIR}/local-fs.target.requires"


def enable(tree: Tree, units: tuple[str, ...]) -> Tree:
    """Have multi-user.target want the units; a link that is there already stays."""
    editor = tree.edit()
    for unit in units:
        path = f"{_WANTS}/{unit}"
        if path not in editor:
            editor.add_symlink(path, f"/{_UNIT_DIR}/{_unit_file(unit)}", writer=WRITER)
    return editor.build()


def set_default_target(tree: Tree, target: str) -> Tree:
    """Make the image boot into a target, "graphical.target"."""
    editor = tree.edit()
    editor.remove(f"{_UNIT_DIR}/default.target")
    editor.add_symlink(f"{_UNIT_DIR}/default.target", target, writer=WRITER)
    return editor.build()


def require_state_overlays(tree: Tree) -> Tree:
    """Overlays that keep local changes above /usr/lib/opt and /usr/local."""
    editor = tree.edit()
    for name in ("usr-lib-opt", "usr-local"):
        instance = f"ostree-state-overlay@{name}.service"
        editor.add_symlink(f"{_REQUIRES}/{instance}", f"/{_UNIT_DIR}/{_unit_file(instance)}", writer=WRITER)
    return editor.build()


def _unit_file(unit: str) -> str:
    """The file of a unit: an instance has that of its template."""
    name, at, rest = unit.partition("@")
    return f"{name}@.{rest.rpartition('.')[2]}" if at and not rest.startswith(".") else unit

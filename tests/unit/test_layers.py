"""Arrows go down: which module may import which, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "compose"

# Top to bottom. A module imports from its own layer's own package, and from layers below; never from above.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"pipeline"}),
    frozenset({"systemdiff"}),
    frozenset({"diff", "doctor", "oci", "plan", "publish", "supplychain", "treemap", "variance", "weight"}),
    frozenset({"metadata", "lock", "lint", "layers", "rootfs", "records", "installed", "cache", "extensions", "serve"}),
    frozenset({"inputhash"}),
    frozenset({"treefile", "solve", "fetch", "importer", "assemble", "postprocess", "label", "commit"}),
    frozenset({"workroot", "cachedir"}),
    frozenset({"sandbox", "blobs", "rpm", "ostree"}),
    frozenset({"sealed", "bundle", "memory", "scratch"}),
    frozenset(
        {"process", "fs", "syscalls", "tree", "events", "bindings", "findings", "initramfs", "interpreter", "openpgp"}
        | {"passwd", "architecture"}
    ),
    frozenset({"errors", "limits", "sizes", "values"}),
)

# A stage imports the types of the stage before it, no more.
TYPES_OF_OTHER_STAGES = frozenset(
    {
        "compose.solve.resolution",
        "compose.fetch.rpmfile",
    }
)

# Foreign libraries with one door each.
DOORS = {
    "libdnf5": {"solve", "fetch"},
    "rpm": {"rpm", "fetch", "importer", "assemble", "workroot", "sandbox", "bindings"},
    "selinux": {"label"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"treefile"},
    "jsonschema": {"treefile"},
    "subprocess": {"ostree", "workroot", "sandbox", "rpm", "importer", "oci"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """First component below the package: "ostree" for compose/ostree/repo.py, "tree" for compose/tree.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node. Expressions, most of a tree, have none."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield each
            yield from statements(each)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rank(part: str) -> int:
    for index, layer in enumerate(LAYERS):
        if part in layer:
            return index
    raise AssertionError(f"compose/{part} has no place in LAYERS")


def faults_of(path: Path) -> Iterator[str]:
    mine = part_of(path)
    for name in imports_of(path):
        pieces = name.split(".")
        if pieces[0] in DOORS and mine not in DOORS[pieces[0]]:
            yield f"{path}: must not import {pieces[0]}"
        if mine == "__init__":
            if pieces[0] == "compose":
                yield f"{path}: must not import {name}"
            continue
        if pieces[0] != "compose" or len(pieces) < 2 or pieces[1] in (mine, "__version__"):
            continue
        if any(name == each or name.startswith(each + ".") for each in TYPES_OF_OTHER_STAGES):
            continue
        # the parent of a types module; its other names are checked on their own
        if name not in ("compose.solve", "compose.fetch") and rank(mine) >= rank(pieces[1]):
            yield f"{path}: is in the layer of {mine}, and must not import {name}"


def test_arrows_go_down_and_foreign_libraries_have_one_door() -> None:
    assert not [fault for path in modules() for fault in faults_of(path)]

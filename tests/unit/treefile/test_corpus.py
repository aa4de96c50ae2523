"""Treefiles that distributions publish, where a copy of them is at hand (COMPOSE_TREEFILES): an extra check."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from compose.errors import TreefileError
from compose.treefile.lint import lint
from compose.treefile.load import load_treefile
from compose.treefile.origin import origins
from compose.treefile.rewrite import OLD_DEFAULTS, format_text, migrate_text

CORPUS = Path(os.environ.get("COMPOSE_TREEFILES", Path(__file__).parents[4] / "shared/treefiles"))
ROOTS: list[dict[str, Any]] = json.loads((CORPUS / "roots.json").read_text()) if CORPUS.is_dir() else []
SETS = ("packages", "ignore-removed-users", "ignore-removed-groups")


def roots(status: str) -> list[str]:
    return [row["root"] for row in ROOTS if row["status"] == status]


@pytest.mark.parametrize("root", roots("flattened"))
def test_flattens_as_rpm_ostree_does(root: str) -> None:
    expected = json.loads((CORPUS / "expected" / f"{root}.json").read_text())
    found = json.loads(load_treefile(str(CORPUS / "corpus" / root), basearch="x86_64").json)
    for each in (expected, found):
        each.update({key: sorted(each[key]) for key in SETS if key in each})
    assert found == expected


@pytest.mark.parametrize("root", roots("newer-language"))
def test_newer_language_loads(root: str) -> None:
    load_treefile(str(CORPUS / "corpus" / root), basearch="x86_64")


@pytest.mark.parametrize("row", [row for row in ROOTS if row["status"] == "error"], ids=lambda row: row["root"])
def test_what_rpm_ostree_refuses_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(TreefileError) as caught:
        load_treefile(str(CORPUS / "corpus" / row["root"]), basearch="x86_64")
    text = "\n".join((caught.value.message, *caught.value.details))
    cause = next(word for word in ("groups", "No such file", "prod") if word in row["error"])
    assert cause in text
    assert ".yaml:" in text


@pytest.mark.parametrize("root", roots("flattened"))
def test_tools_take_what_distributions_write(root: str) -> None:
    """Every value has an origin; lint, fmt and migrate get through; what is migrated flattens to the same."""
    path = str(CORPUS / "corpus" / root)
    assert origins(path, basearch="x86_64")
    assert all(finding.place.line for finding in lint(path, basearch="x86_64"))
    text = Path(path).read_text()
    # a symlink as git checks it out without symlinks is no YAML itself
    if not path.endswith((".yaml", ".yml")) or "\n" not in text:
        return
    tidy = format_text(text, path)
    assert format_text(tidy, path) == tidy
    new, _ = migrate_text(text, path, effective=OLD_DEFAULTS)
    assert migrate_text(new, path, effective=OLD_DEFAULTS)[0] == new

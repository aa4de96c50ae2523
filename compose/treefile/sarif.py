"""Findings as SARIF 2.1.0, which code hosts show beside the lines (OASIS, Static Analysis Results Interchange Format)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from compose.treefile.lint import RULES, Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(findings: Sequence[Finding], *, version: str) -> str:
    """version: of this tool. Paths stay as they were given, relative ones relative."""
    ids = list(RULES)
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.summary},
            "help": {"text": rule.advice},
            "defaultConfiguration": {"level": str(rule.level)},
        }
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": each.rule,
            "ruleIndex": ids.index(each.rule),
            "level": str(each.level),
            "message": {"text": each.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(each.place.file)},
                        "region": {"startLine": max(1, each.place.line), "startColumn": max(1, each.place.column)},
                    }
                }
            ],
        }
        for each in findings
    ]
    run = {"tool": {"driver": {"name": "compose", "version": version, "rules": rules}}, "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _uri(path: str) -> str:
    return Path(path).as_uri() if path.startswith("/") else quote(path)

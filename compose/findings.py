"""Findings of linters: rules with ids and levels, and report formats of code hosts, which annotate lines."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

# OASIS, Static Analysis Results Interchange Format 2.1.0
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Level(enum.StrEnum):
    """Levels of SARIF. An error fails a compose."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A lint rule. summary: the fault in general. advice: the remedy."""

    id: str
    level: Level
    summary: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finding for a report. path: relative ones stay relative. line, column: from 1."""

    rule: str
    message: str
    path: str
    line: int = 1
    column: int = 1


def by_id(*rules: Rule) -> dict[str, Rule]:
    """Map ids to rules, in the given order."""
    return {rule.id: rule for rule in rules}


def to_sarif(rules: Mapping[str, Rule], found: Sequence[Result], *, version: str) -> str:
    """Return a report in SARIF. rules: by id, at least those of the findings. version: of this tool."""
    ids = list(rules)
    described = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.summary},
            "help": {"text": rule.advice},
            "defaultConfiguration": {"level": str(rule.level)},
        }
        for rule in rules.values()
    ]
    results = [
        {
            "ruleId": each.rule,
            "ruleIndex": ids.index(each.rule),
            "level": str(rules[each.rule].level),
            "message": {"text": each.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(each.path)},
                        "region": {"startLine": max(1, each.line), "startColumn": max(1, each.column)},
                    }
                }
            ],
        }
        for each in found
    ]
    run = {"tool": {"driver": {"name": "compose", "version": version, "rules": described}}, "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


# GitLab reads these keys of Code Climate's format (docs.gitlab.com, "Code Quality")
_SEVERITIES = {Level.ERROR: "major", Level.WARNING: "minor", Level.NOTE: "info"}


def to_codequality(found: Sequence[tuple[Level, Result]]) -> str:
    """Return a code quality report for GitLab. Paths must be relative to the project."""
    rows = [
        {
            "description": each.message,
            "check_name": each.rule,
            "fingerprint": _fingerprint(each),
            "severity": _SEVERITIES[level],
            "location": {"path": each.path, "lines": {"begin": max(1, each.line)}},
        }
        for level, each in found
    ]
    return json.dumps(rows, indent=2) + "\n"


def _fingerprint(found: Result) -> str:
    # without the line number, which other changes shift: merge requests show fingerprints that the target branch lacks
    text = "\0".join((found.rule, found.path, found.message))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _uri(path: str) -> str:
    return Path(path).as_uri() if path.startswith("/") else quote(path, errors="surrogateescape")

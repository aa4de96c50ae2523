"""Validates a treefile against the schema; every error has its place and says what is expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compose.treefile.keys import CLIENT_ONLY, FOREIGN, KEYS, nearest
from compose.treefile.source import Located, Place, type_name

# rpm-ostree ignores includes in an inline treefile, so that what they name would be missing from the tree
_ABOUT_INCLUDES = ("include", "arch-include", "conditional-include", "packages-remove")
_NOT_NULLABLE = frozenset({"repo-metadata", "advisories-metadata"})


@cache
def schema() -> dict[str, Any]:
    """The published JSON Schema."""
    found: dict[str, Any] = json.loads(schema_text())
    return found


def schema_text() -> str:
    """The published JSON Schema as text."""
    return Path(__file__).with_name("schema.json").read_text(encoding="utf-8")


@cache
def _validator() -> Any:
    # slow to import, and not needed when all files are known to be valid (known.py)
    import jsonschema

    # for JSON Schema 1.0 is an integer; for rpm-ostree it is not, nor for what takes the value
    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=checker)(schema())


def faults(source: Located) -> list[tuple[Place, str]]:
    """(place, "path.to.key: what is wrong") for each error, in file order; unknown top-level keys are errors."""
    found: list[tuple[Place, str]] = []
    for error in _validator().iter_errors(source.plain()):
        found += _describe(source, error, list(error.absolute_path))
    for body in _inline_treefiles(source):
        found += faults(body)
        found += [
            (body.value[key].place, f"{key}: not possible in an inline treefile, which cannot include files")
            for key in _ABOUT_INCLUDES
            if key in body.value
        ]
    return sorted(set(found))


def given(keys: Mapping[str, Located]) -> dict[str, Located]:
    """A treefile's keys without those that have no value, which rpm-ostree treats as absent."""
    return {
        key: value for key, value in keys.items() if value.value is not None or key not in KEYS or key in _NOT_NULLABLE
    }


def _inline_treefiles(source: Located) -> list[Located]:
    """The treefiles inside conditional-include, without unknown keys."""
    rows = source.value.get("conditional-include") if isinstance(source.value, dict) else None
    if rows is None or not isinstance(rows.value, list):
        return []
    bodies = [row.value.get("include") for row in rows.value if isinstance(row.value, dict)]
    return [
        Located(
            {key: value for key, value in given(body.value).items() if key in KEYS or key.startswith("packages-")},
            body.place,
        )
        for body in bodies
        if body is not None and isinstance(body.value, dict)
    ]


def _describe(source: Located, error: Any, path: list[str | int]) -> list[tuple[Place, str]]:
    if error.validator == "additionalProperties":
        holder = source.at(iter(path))
        known = error.schema.get("properties", {})
        return [
            (holder.value[name].place, _unknown(name, path, known))
            for name in holder.value
            if name not in known
            and not any(re.search(pattern, name) for pattern in error.schema.get("patternProperties", {}))
        ]
    if error.validator in ("anyOf", "oneOf") and error.context:
        # the alternative that matched furthest is most likely the one that was meant
        best = max(
            error.context, key=lambda cause: (len(cause.absolute_path), cause.validator not in ("type", "const"))
        )
        if len(best.absolute_path) > len(path):
            return _describe(source, best, list(best.absolute_path))
    return [(source.at(iter(path)).place, f"{_name(path)}: {_complaint(error)}")]


def _unknown(name: str, path: list[str | int], known: dict[str, Any]) -> str:
    full = _name([*path, name])
    if not path and name in CLIENT_ONLY:
        return f"{full}: a key of client-side treefiles, which a compose does not accept"
    if not path and name in FOREIGN:
        return f"{full}: unknown key; {FOREIGN[name]}"
    near = nearest(name, KEYS if not path else known)
    return f"{full}: unknown key" + (f'; did you mean "{near}"?' if near else "")


def _complaint(error: Any) -> str:
    wanted = error.schema.get("description") if isinstance(error.schema, dict) else None
    match error.validator:
        case "type" | "anyOf" | "oneOf":
            expected = error.schema.get("x-expected") or _expected(error.validator_value)
            if isinstance(error.instance, dict) and "mapping" in expected:
                return f"must be {expected}"
            return f"must be {expected}, not {_shown(error.instance)}"
        case "enum":
            values = [str(allowed) for allowed in error.validator_value]
            if not isinstance(error.instance, str | bool) and str(error.instance) in values:
                return f'must be text, in quotes: "{error.instance}"'
            near = nearest(str(error.instance), values)
            return f"must be one of {', '.join(values)}, not {_shown(error.instance)}" + (
                f'; did you mean "{near}"?' if near else ""
            )
        case "minItems" | "maxItems":
            return f"must have {error.validator_value} items, not {len(error.instance)}"
        case "minLength":
            return "must not be empty"
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return f"lacks {', '.join(missing)}"
        case "pattern":
            return f"{_shown(error.instance)} is not allowed" + (f": {wanted}" if wanted else "")
    return str(error.message)


def _expected(value: Any) -> str:
    names = {
        "string": "text",
        "boolean": "true or false",
        "integer": "a whole number",
        "array": "a list",
        "object": "a mapping",
        "null": "nothing",
    }
    kinds = value if isinstance(value, list) else [value]
    if kinds and isinstance(kinds[0], dict):
        kinds = [branch["type"] for branch in kinds if isinstance(branch.get("type"), str)]
    return " or ".join(names.get(str(kind), str(kind)) for kind in kinds if kind != "null") or "something else"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        text = json.dumps(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return type_name(value)


def _name(path: list[str | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "treefile"

"""JSON of images: written canonically, and read defensively, as it may come from anybody."""

from __future__ import annotations

import json
from typing import Any

from compose.errors import UsageError


def canonical(document: Any) -> bytes:
    """Encode a document; equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse(data: bytes) -> Any:
    """Parse UTF-8 JSON. Raises ValueError saying what is wrong; NaN, lone surrogates and very deep nesting are refused too."""
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # in UTF-8 a lone surrogate can only be an escape; it could not be encoded again
    if b"\\ud" in data.lower():
        try:
            canonical(document)
        except UnicodeEncodeError as error:
            raise ValueError("it contains a lone surrogate") from error
    return document


def read_object(path: str, what: str) -> dict[str, Any]:
    """Read a file of the user's with a JSON object. what: it is, for messages. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            found = parse(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {what} must be a JSON object")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")

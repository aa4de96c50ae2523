"""JSON of images: written canonically, and read defensively, as it may come from anybody."""

from __future__ import annotations

import json
from typing import Any


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


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")

"""JSON of images: written as the same bytes always, read from whoever wrote it."""

from __future__ import annotations

import json
from typing import Any


def canonical(document: Any) -> bytes:
    """The same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse(data: bytes) -> Any:
    """Raises ValueError saying what is wrong: also for what no JSON of an image can be, such as half of a character, NaN, or
    what is nested too deeply."""
    try:
        found = json.loads(data.decode(), parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # half of a surrogate pair comes as an escape, for the bytes are UTF-8; nothing could write it again
    if b"\\ud" in data.lower():
        try:
            canonical(found)
        except UnicodeEncodeError as error:
            raise ValueError("it has half of a character") from error
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")

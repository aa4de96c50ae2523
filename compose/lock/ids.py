"""The file of locked user and group ids, kept in git next to the treefile.

compose-ids: 1
users:
  chrony: 998
groups:
  chrony: 996
"""

from __future__ import annotations

import json

from compose.assemble.ids import IdLock
from compose.errors import TreefileError
from compose.treefile.parse import parse_yaml
from compose.treefile.source import Located, SourceFault

_MARK = "compose-ids"
_VERSION = 1
_HEAD = "# Written by compose (--accept-new-ids): a name keeps its id, also when it is gone.\n"
_MAX = (1 << 32) - 2


def parse_ids(data: bytes, path: str) -> IdLock:
    """Parse the file; an empty one locks nothing. Raises TreefileError listing every fault with its file:line:column."""
    if not data.strip():
        return IdLock(path=path, users={}, groups={})
    try:
        source = parse_yaml(data, path)
    except SourceFault as fault:
        raise TreefileError(str(fault)) from fault
    faults: list[str] = []
    mark = source.value.get(_MARK)
    if mark is None or mark.value != _VERSION or isinstance(mark.value, bool):
        faults.append(f"{(mark or source).place}: {_MARK} must be {_VERSION}")
    for name, value in source.value.items():
        if name not in (_MARK, "users", "groups"):
            faults.append(f"{value.place}: {name}: unknown key")
    found = {key: _ids(source.value.get(key), key, faults) for key in ("users", "groups")}
    if faults:
        raise TreefileError.of(faults, f"{path}: {len(faults)} faults in the locked ids")
    return IdLock(path=path, users=found["users"], groups=found["groups"])


def format_ids(lock: IdLock) -> str:
    """The text of the file, names sorted; equal locks give equal bytes."""
    lines = [_HEAD + f"{_MARK}: {_VERSION}"]
    for key, ids in (("users", lock.users), ("groups", lock.groups)):
        lines.append(f"{key}:" if ids else f"{key}: {{}}")
        lines += [f"  {json.dumps(name, ensure_ascii=False)}: {ids[name]}" for name in sorted(ids)]
    return "\n".join(lines) + "\n"


def _ids(value: Located | None, key: str, faults: list[str]) -> dict[str, int]:
    if value is None or value.value is None:
        return {}
    if not isinstance(value.value, dict):
        faults.append(f"{value.place}: {key} must be a mapping of names to ids")
        return {}
    found: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name, number in value.value.items():
        if not isinstance(number.value, int) or isinstance(number.value, bool) or not 0 < number.value <= _MAX:
            faults.append(f"{number.place}: {key}.{name} must be a number from 1 to {_MAX}")
            continue
        found[name] = number.value
        if (other := owners.setdefault(number.value, name)) != name:
            faults.append(f"{number.place}: {key}: {name} and {other} have the same id {number.value}")
    return found

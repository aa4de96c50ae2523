"""Commits compared path by path, as the real `ostree ls` shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.e2e.tiny import Site

_LINE = re.compile(
    r"(?P<type>[-dl])(?P<mode>\d+) (?P<uid>\d+) (?P<gid>\d+) +(?P<size>\d+) (?P<content>[0-9a-f]{64}) "
    r"(?:(?P<meta>[0-9a-f]{64}) )?\{ (?P<xattrs>.*?) \} (?P<path>/.*?)(?: -> (?P<target>.*))?"
)
_XATTR = re.compile(r"\(b?'(?P<name>[^']*)', (?P<value>b'[^']*'|\[[^]]*\]|b\"[^\"]*\"|@ay \[\])\)")


@dataclass(frozen=True, slots=True)
class Listed:
    """content: checksum of a file's object, "" for a directory, whose own would change with what is in it."""

    kind: str
    mode: str
    owner: str
    target: str
    content: str
    label: str
    other_xattrs: tuple[str, ...]


def listing(site: Site, revision: str) -> dict[str, Listed]:
    """Every path of a commit."""
    found = {}
    for line in site.ostree("ls", "-R", "-C", "-X", revision).splitlines():
        match = _LINE.fullmatch(line)
        assert match is not None, line
        xattrs = {each["name"]: each["value"] for each in _XATTR.finditer(match["xattrs"])}
        label = xattrs.pop("security.selinux", "").removeprefix("b'").removesuffix("'")
        found[match["path"]] = Listed(
            kind=match["type"],
            mode=match["mode"],
            owner=f"{match['uid']}:{match['gid']}",
            target=match["target"] or "",
            content="" if match["type"] == "d" else match["content"],
            label=label.split(":")[2] if label else "",
            other_xattrs=tuple(sorted(xattrs)),
        )
    return found


def difference(before: dict[str, Listed], after: dict[str, Listed]) -> list[str]:
    """A line for every path that differs: "+ /new 0644 0:0 etc_t", "- /gone", "~ /path mode 00755 00555"."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if new is None:
            lines.append(f"- {path}")
        elif old is None:
            lines.append(f"+ {path} {_described(new)}")
        else:
            lines.append(f"~ {path} {_changes(old, new)}")
    return lines


def _described(entry: Listed) -> str:
    words = [entry.kind + entry.mode, entry.owner, entry.label, *entry.other_xattrs]
    return " ".join([*(word for word in words if word), *([f"-> {entry.target}"] if entry.target else [])])


def _changes(old: Listed, new: Listed) -> str:
    found = [
        f"{name} {before or 'none'} {after or 'none'}"
        for name, before, after in (
            ("kind", old.kind, new.kind),
            ("mode", old.mode, new.mode),
            ("owner", old.owner, new.owner),
            ("target", old.target, new.target),
            ("label", old.label, new.label),
            ("xattrs", ",".join(old.other_xattrs), ",".join(new.other_xattrs)),
        )
        if before != after
    ]
    # an object's checksum covers all of these, so content is what changed when none of them did
    return ", ".join(found) or "content"

"""What a client that pulls may ask for, and nothing else that lies in a repository.

    config                                  what [core] says; see compose.serve.server
    summary  summary.sig                    refs/heads/NAME  refs/mirrors/COLLECTION/NAME
    objects/ab/cdef….EXT                    commit, commitmeta, dirtree, dirmeta, filez, tombstone-commit
    deltas/AB/REST[-TO]/PART                superblock, and parts by number; names are base64 with "_" for "/"
    delta-indexes/AB/REST.index

libostree asks for these: ostree-repo-pull.c, ostree-core.c, ostree-repo-static-delta-core.c.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote

_LONGEST = 1024
"""Characters of a path: a ref has as many as a file system lets its components have, and no client a longer one."""
_NAME = r"\w[-.\w]*"
_BASE64 = r"[A-Za-z0-9+_]"
_PATHS = re.compile(
    rf"""
    (?P<config>config)
    | (?P<summary>summary(\.sig)?)
    | (?P<ref>refs/(heads|mirrors)(/{_NAME})+)
    | (?P<object>objects/(?P<prefix>[0-9a-f]{{2}})/(?P<rest>[0-9a-f]{{62}})
        \.(?P<extension>commit|commitmeta|dirtree|dirmeta|filez|tombstone-commit))
    | (?P<delta>deltas/(?P<begin>{_BASE64}{{2}})/(?P<end>{_BASE64}{{41}})(-(?P<to>{_BASE64}{{43}}))?
        /(superblock|\d{{1,9}}))
    | (?P<index>delta-indexes/{_BASE64}{{2}}/{_BASE64}{{41}}\.index)
    """,
    re.ASCII | re.VERBOSE,
)


class Kind(Enum):
    CONFIG = auto()
    SUMMARY = auto()
    REF = auto()
    OBJECT = auto()
    DELTA = auto()
    INDEX = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """path: in the repository. commit: that is got by this one, 64 hex digits: of a commit object, and of a delta that leads to
    it. optional: does a client ask whether it is there?"""

    path: str
    kind: Kind
    commit: str | None = None
    optional: bool = True


def asked(target: str) -> Asked | None:
    """What a request's target names; None for what is not served, whatever is there."""
    path = unquote(target.partition("?")[0], errors="replace")
    match = _PATHS.fullmatch(path, 1) if path.startswith("/") and len(path) <= _LONGEST else None
    if match is None:
        return None
    kind = next(each for each in Kind if match[each.name.lower()] is not None)
    commit = None
    if kind is Kind.DELTA:
        commit = _hex(match["to"] or match["begin"] + match["end"])
    elif match["extension"] == "commit":
        commit = match["prefix"] + match["rest"]
    optional = kind is not Kind.OBJECT or match["extension"] in ("commitmeta", "tombstone-commit")
    return Asked(path=path[1:], kind=kind, commit=commit, optional=optional)


def _hex(name: str) -> str:
    return base64.b64decode(name.replace("_", "/") + "=").hex()

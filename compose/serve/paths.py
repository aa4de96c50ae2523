"""The paths of a repository that are served: what a pulling client needs, and nothing else.

    config                                  the [core] section; see compose.serve.server
    summary  summary.sig                    refs/heads/NAME  refs/mirrors/COLLECTION/NAME
    objects/ab/cdef….EXT                    commit, commitmeta, dirtree, dirmeta, filez, tombstone-commit
    deltas/AB/REST[-TO]/PART                "superblock" or the number of a part; checksums in base64 with "_" for "/"
    delta-indexes/AB/REST.index

As requested by libostree: ostree-repo-pull.c, ostree-core.c, ostree-repo-static-delta-core.c.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote

_MAX_LENGTH = 1024
"""Characters of a path; longer ones are not served."""
_NAME = r"(?u:\w[-.\w]*)"
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
class Resource:
    """A file that a client requests.

    path: in the repository. commit: the commit it delivers, 64 hex digits; for commit objects and for deltas to a commit.
    optional: whether it may be absent from an intact repository.
    """

    path: str
    kind: Kind
    commit: str | None = None
    optional: bool = True


def parse_target(target: str) -> Resource | None:
    """The resource that a request target names; None if it is not served, whether or not the file exists."""
    path = unquote(target.partition("?")[0], errors="replace")
    match = _PATHS.fullmatch(path, 1) if path.startswith("/") and len(path) <= _MAX_LENGTH else None
    if match is None:
        return None
    kind = next(each for each in Kind if match[each.name.lower()] is not None)
    commit = None
    if kind is Kind.DELTA:
        commit = _hex(match["to"] or match["begin"] + match["end"])
    elif match["extension"] == "commit":
        commit = match["prefix"] + match["rest"]
    optional = kind is not Kind.OBJECT or match["extension"] in ("commitmeta", "tombstone-commit")
    return Resource(path=path[1:], kind=kind, commit=commit, optional=optional)


def _hex(name: str) -> str:
    return base64.b64decode(name.replace("_", "/") + "=").hex()

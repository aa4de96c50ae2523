"""Rules about users and groups: clients must find them, agree on their ids, and keep their passwords secret."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from compose.assemble.accounts import declared_ids, parse_ids
from compose.lint.subject import Finding, Subject, few
from compose.postprocess import nsswitch, tmpfilesd

_DATABASES = ("passwd", "group")
_SHADOW = ("usr/etc/shadow", "usr/etc/gshadow")


def accounts(subject: Subject) -> Iterator[Finding]:
    present = [name for name in _DATABASES if (subject.text(f"usr/lib/{name}") or "").strip()]
    if present and not any(
        path.startswith("usr/lib") and "/libnss_altfiles.so" in path for path in subject.tree.entries
    ):
        yield Finding(
            rule="accounts", path=f"/usr/lib/{present[0]}", message="is never read, as there is no libnss_altfiles"
        )
    switch = subject.text("usr/etc/nsswitch.conf") or ""
    for database in present:
        if nsswitch.ALTFILES not in nsswitch.services(switch, database):
            message = f"{database} does not use altfiles, which reads /usr/lib/{database}"
            yield Finding(rule="accounts", path="/usr/etc/nsswitch.conf", message=message)
    existing = [name for name in _DATABASES if f"usr/lib/{name}" in subject.tree]
    if len(existing) == 1:
        (missing,) = set(_DATABASES) - set(existing)
        message = f"is missing while /usr/lib/{existing[0]} exists: rpm-ostree cannot layer packages without it"
        yield Finding(rule="accounts", path=f"/usr/lib/{missing}", message=message)
    for database, declared in zip(_DATABASES, _declared(subject), strict=True):
        if "root" not in {*_names(subject, f"usr/etc/{database}"), *_names(subject, f"usr/lib/{database}"), *declared}:
            yield Finding(rule="accounts", path=f"/usr/etc/{database}", message="has no entry for root")


def sysusers(subject: Subject) -> Iterator[Finding]:
    for database, declared in zip(_DATABASES, _declared(subject), strict=True):
        known = {*_names(subject, f"usr/lib/{database}"), *declared}
        local = _names(subject, f"usr/etc/{database}")
        lost = [name for name, number in local.items() if number and name not in known]
        if lost:
            yield Finding(
                rule="sysusers",
                path=f"/usr/etc/{database}",
                message=f"neither /usr/lib/{database} nor sysusers.d has {few(lost)}",
            )


def id_drift(subject: Subject) -> Iterator[Finding]:
    users, groups = ({0, *(number for number in each.values() if number is not None)} for each in _declared(subject))
    chowned = list(_chowned(subject))
    unpinned = [
        path
        for path, entry in subject.tree.walk("usr/etc")
        if not entry.is_symlink
        and (entry.uid not in users or entry.gid not in groups)
        and not any(fnmatch.fnmatchcase(f"/{path.removeprefix('usr/')}", pattern) for pattern in chowned)
    ]
    if unpinned:
        yield Finding(
            rule="etc-uid-drift",
            path=f"/{unpinned[0]}",
            message=f"files with an owner or group whose id nothing in the image pins: {few(unpinned)}",
        )


def shadow(subject: Subject) -> Iterator[Finding]:
    # that of root, and on Debian and openSUSE that of the program which checks a user's own password (unix_chkpwd)
    groups = {0, *(_names(subject, f"{place}/group").get("shadow") for place in ("usr/etc", "usr/lib"))}
    for path in _SHADOW:
        entry = subject.tree.get(path)
        if entry is not None and (entry.uid or entry.permissions & (0o007 if entry.gid in groups else 0o077)):
            message = f"has mode {entry.permissions:04o}, owner {entry.uid} and group {entry.gid}"
            yield Finding(rule="shadow-mode", path=f"/{path}", message=message)


def machine_id(subject: Subject) -> Iterator[Finding]:
    if (subject.text("usr/etc/machine-id") or "").strip() not in ("", "uninitialized"):
        yield Finding(rule="machine-id", path="/usr/etc/machine-id", message="is not empty")


def _names(subject: Subject, path: str) -> dict[str, int]:
    return parse_ids((subject.text(path) or "").encode())


def _declared(subject: Subject) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """Ids of the users and of the groups that sysusers.d creates at boot; None where it names no id."""
    return declared_ids(text for _, text in subject.texts("usr/lib/sysusers.d", ".conf"))


def _chowned(subject: Subject) -> Iterator[str]:
    """Patterns of the paths whose owner tmpfiles.d sets at boot."""
    for _, text in subject.texts("usr/lib/tmpfiles.d", ".conf"):
        for kind, path in tmpfilesd.paths(text):
            if kind in "zZ":
                yield path
            if kind == "Z":
                yield f"{path}/*"

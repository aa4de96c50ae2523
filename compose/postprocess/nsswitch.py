"""The text of nsswitch.conf (nsswitch.conf(5)): "DATABASE: SERVICE [STATUS=ACTION ...] SERVICE ... # comment"."""

from __future__ import annotations

import re

from compose.postprocess.contents import lines_of

ALTFILES = "altfiles"
_DATABASES = ("passwd", "group")
# glibc needs no space around brackets, and takes one pair of them after a service. Neither pattern looks at a character more
# than a few times, as the file may be any package's.
_SERVICE = re.compile(r"(?P<name>[^\s\[]+)(?:\s*\[(?P<actions>[^\[\]]*)\])?")
_ACTION = re.compile(r"(?:(?P<other>!)\s*)?(?<!\w)(?P<status>\w++)\s*=\s*(?P<action>\w++)")


def services(text: str, database: str) -> tuple[str, ...]:
    """The names of the services that a database is looked up in, in order."""
    return tuple(
        found["name"] for line in lines_of(text) if _database(line) == database for found in _services_of(line)
    )


def with_altfiles(text: str) -> list[str]:
    """The lines of the file, with altfiles in passwd and group: after files or, without it, at the end.

    They stay as they are when altfiles is in one of the two.
    """
    if any(ALTFILES in services(text, database) for database in _DATABASES):
        return lines_of(text)
    return [_extended(line) if _database(line) in _DATABASES else line for line in lines_of(text)]


def _database(line: str) -> str:
    name, colon, _ = line.partition("#")[0].partition(":")
    return name.strip() if colon else ""


def _services_of(line: str) -> list[re.Match[str]]:
    start = line.index(":") + 1
    return [*_SERVICE.finditer(line, start, line.find("#") if "#" in line else len(line))]


def _extended(line: str) -> str:
    found = _services_of(line)
    if not found:
        start = line.index(":") + 1
        return f"{line[:start]} {ALTFILES}{line[start:]}"
    before = next((each for each in found if each["name"] == "files"), found[-1])
    actions = before["actions"] or ""
    head, tail = line[: before.end("name")], line[before.end("name") : before.end()]
    if _action_on(actions, "success") == "return":
        return f"{head} {ALTFILES}{tail}{line[before.end() :]}"
    # Both have the actions: what either finds goes on to the next service, to be merged with what that finds. What files lacks
    # must get to altfiles.
    leading = actions if _action_on(actions, "notfound") == "continue" else f"{actions.rstrip()} NOTFOUND=continue"
    return f"{head} [{leading}] {ALTFILES} [{actions}]{line[before.end() :]}"


def _action_on(actions: str, status: str) -> str:
    """What happens after a lookup with this result. actions: the inside of the brackets, of which later ones win."""
    found = "return" if status == "success" else "continue"
    for each in _ACTION.finditer(actions.lower()):
        if (each["status"] == status) is not bool(each["other"]):
            found = each["action"]
    return found

"""Which programs of the packages run, when, and with which arguments.

In a tree that is installed from nothing only these can run: %pretrans, %pre, %post, %posttrans, and the triggers that
fire on installation. Arguments and input are librpm's (rpmscript.c, rpmtriggers.c; seen with rpm 6.1): the count of
installed instances, 1; a program without a script gets no argument; a transaction file trigger gets the paths it watches,
of all packages, one per line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from compose.errors import AssembleError
from compose.process import Program
from compose.rpm.manifest import PackageManifest, Script, ScriptKind, Trigger, TriggerKind

LUA = "<lua>"
_NOT_YET = {TriggerKind.PREIN, TriggerKind.IN, TriggerKind.FILE_IN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Programs in the order in which they run. before: before owners are known; after: with everything in place.

    skipped: (package, phase, reason) of scriptlets left out on purpose.
    """

    before: tuple[Program, ...]
    after: tuple[Program, ...]
    skipped: tuple[tuple[str, str, str], ...]


def plan(ordered: Sequence[PackageManifest], *, kernel_install: bool, macros: tuple[tuple[str, str], ...] = ()) -> Plan:
    """Plan for packages in install order. macros: (name, body) that Lua scripts see.

    Raises AssembleError for a trigger kind that is not supported yet.
    """
    _refuse_unsupported(ordered)
    skipped: list[tuple[str, str, str]] = []

    def of_kind(kind: ScriptKind) -> list[Program]:
        found = []
        for manifest in ordered:
            for scriptlet in manifest.scriptlets:
                if scriptlet.kind is not kind:
                    continue
                reason = None if kernel_install else _ignored().get(f"{manifest.nevra.name}.{kind}")
                if reason is not None:
                    skipped.append((str(manifest.nevra), f"%{kind}", reason))
                    continue
                found.append(_program(manifest, f"%{kind}", scriptlet.script, macros))
        return found

    return Plan(
        before=(*of_kind(ScriptKind.PRETRANS), *of_kind(ScriptKind.PRE)),
        after=(*of_kind(ScriptKind.POST), *of_kind(ScriptKind.POSTTRANS), *_transaction_file_triggers(ordered, macros)),
        skipped=tuple(skipped),
    )


@cache
def _ignored() -> Mapping[str, str]:
    """ "package.kind" to the reason why the scriptlet does not run."""
    text = resources.files("compose.assemble").joinpath("ignored-scriptlets.json").read_text()
    return {
        f"{package}.{row['scriptlet']}": row["reason"]
        for row in json.loads(text)["ignored"]
        for package in row["packages"]
    }


def _program(
    manifest: PackageManifest, phase: str, script: Script, macros: tuple[tuple[str, str], ...], *, stdin: bytes = b""
) -> Program:
    if script.expand or script.qformat:
        flag = "-e (macro expansion)" if script.expand else "-q (query format)"
        raise AssembleError(f"{manifest.nevra}: {phase} uses {flag}, which is not supported yet")
    arguments: tuple[str, ...] = ()
    # the interpreter is the whole program: librpm then passes nothing, except to file triggers
    if script.body or stdin:
        arguments = ("1",) if script.interpreter == (LUA,) else ("{script}", "1")
    return Program(
        owner=f"scriptlet:{manifest.nevra}",
        phase=phase,
        argv=(*(script.interpreter or ("/bin/sh",)), *arguments),
        body=script.body,
        stdin=stdin,
        lua=script.interpreter[:1] == (LUA,),
        macros=macros,
    )


def _transaction_file_triggers(
    ordered: Sequence[PackageManifest], macros: tuple[tuple[str, str], ...]
) -> list[Program]:
    paths = sorted({f"/{file.path}" for manifest in ordered for file in manifest.files})
    triggers: list[tuple[int, int, int, PackageManifest, Trigger]] = []
    for position, manifest in enumerate(ordered):
        for index, trigger in enumerate(manifest.triggers):
            if trigger.kind is TriggerKind.TRANS_FILE_IN:
                triggers.append((-trigger.priority, position, index, manifest, trigger))
    found = []
    for *_, manifest, trigger in sorted(triggers, key=lambda row: row[:3]):
        # a prefix is a prefix of the text: /usr/lib watches /usr/lib64 too
        prefixes = tuple(condition.name for condition in trigger.conditions)
        matching = [path for path in paths if path.startswith(prefixes)]
        if matching:
            stdin = "".join(f"{path}\n" for path in matching).encode()
            found.append(_program(manifest, f"%{trigger.kind}", trigger.script, macros, stdin=stdin))
    return found


def _refuse_unsupported(ordered: Sequence[PackageManifest]) -> None:
    names = {manifest.nevra.name for manifest in ordered}
    for manifest in ordered:
        for trigger in manifest.triggers:
            if trigger.kind not in _NOT_YET:
                continue
            watched = [condition.name for condition in trigger.conditions]
            fires = trigger.kind is TriggerKind.FILE_IN or names.intersection(watched)
            if fires:
                raise AssembleError(
                    f"{manifest.nevra}: %{trigger.kind} -- {', '.join(watched)} would run, which is not supported yet",
                    hint="leave the package out; a wrong tree would be the alternative",
                )

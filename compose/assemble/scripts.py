"""Which programs of the packages run, when, and with which arguments.

In a tree that is installed from nothing only these can run: %pretrans, %pre, %post, %posttrans, and the triggers that
fire on installation. Arguments and input are librpm's (rpmscript.c; seen with rpm 6.1): the count of installed instances, 1;
a program without a script gets no argument.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from compose.assemble import triggers
from compose.assemble.triggers import Firing
from compose.process import Program, dated
from compose.rpm.manifest import PackageManifest, Script, ScriptKind, TriggerKind

LUA = "<lua>"

RUN = frozenset(
    {
        *(ScriptKind.PRETRANS, ScriptKind.PRE, ScriptKind.POST, ScriptKind.POSTTRANS),
        *(TriggerKind.PREIN, TriggerKind.IN, TriggerKind.FILE_IN, TriggerKind.TRANS_FILE_IN),
    }
)
"""Those that run in a compose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Programs in the order in which they run. first: before there is any file; before: before owners are known; after: with
    everything in place.

    skipped: (package, phase, reason) of scriptlets left out on purpose.
    """

    first: tuple[Program, ...]
    before: tuple[Program, ...]
    after: tuple[Program, ...]
    skipped: tuple[tuple[str, str, str], ...]


def plan(
    ordered: Sequence[PackageManifest],
    *,
    ignored: Mapping[tuple[str, str], str],
    epoch: int,
    macros: tuple[tuple[str, str], ...] = (),
    skipped: Container[tuple[str, str]] = (),
) -> Plan:
    """Plan for packages in install order. ignored: (package, kind) -> reason. epoch: of the compose. macros: (name, body) that
    Lua scripts see. skipped: (package, path) of files that are not made for it.

    librpm installs one package after the other; here all files are there from the start, so what runs before files
    (%triggerprein, %pre) runs for all packages first, then what runs after them. Within both the order is librpm's.
    %pretrans in Lua needs no file, and finds none, as with librpm: many look for what an older version left. Where librpm would
    find no interpreter either, it waits for the files.
    """
    left_out: list[tuple[str, str, str]] = []

    def skip(manifest: PackageManifest, kind: str) -> bool:
        reason = ignored.get((manifest.nevra.name, str(kind)))
        row = (str(manifest.nevra), f"%{kind}", reason or "")
        if reason is not None and row not in left_out:
            left_out.append(row)
        return reason is not None

    def scriptlets(manifest: PackageManifest, kind: ScriptKind) -> Iterator[Program]:
        for scriptlet in manifest.scriptlets:
            if scriptlet.kind is not kind:
                continue
            if not skip(manifest, kind):
                yield _program(manifest, f"%{kind}", scriptlet.script, macros, epoch)

    def of_all(kind: ScriptKind) -> Iterator[Program]:
        for manifest in ordered:
            yield from scriptlets(manifest, kind)

    def fired(firings: Iterator[Firing]) -> Iterator[Program]:
        for each in firings:
            if skip(each.manifest, each.trigger.kind):
                continue
            yield _program(
                each.manifest,
                f"%{each.trigger.kind}",
                each.trigger.script,
                macros,
                epoch,
                arguments=each.arguments,
                stdin=each.stdin,
            )

    pretrans = [*of_all(ScriptKind.PRETRANS)]
    before = [program for program in pretrans if not program.lua]
    for position, manifest in enumerate(ordered):
        before += fired(triggers.before_unpacking(ordered, position))
        before += scriptlets(manifest, ScriptKind.PRE)
    after: list[Program] = []
    for position, manifest in enumerate(ordered):
        after += fired(triggers.before_post(ordered, position, skipped))
        after += scriptlets(manifest, ScriptKind.POST)
        after += fired(triggers.after_post(ordered, position, skipped))
    after += of_all(ScriptKind.POSTTRANS)
    after += fired(triggers.after_transaction(ordered))
    return Plan(
        first=tuple(program for program in pretrans if program.lua),
        before=tuple(before),
        after=tuple(after),
        skipped=tuple(left_out),
    )


def ignored_scriptlets(more: Iterable[tuple[str, str, str]], *, by_default: bool) -> Mapping[tuple[str, str], str]:
    """(package, kind) of what does not run -> the reason. more: the treefile's (package, kind, reason)."""
    found = dict(default_ignored()) if by_default else {}
    return found | {(package, kind): reason for package, kind, reason in more}


@cache
def default_ignored() -> Mapping[tuple[str, str], str]:
    """(package, kind) of what does not run unless the treefile says so -> the reason."""
    text = resources.files("compose.assemble").joinpath("ignored-scriptlets.json").read_text()
    return {
        (package, row["scriptlet"]): row["reason"] for row in json.loads(text)["ignored"] for package in row["packages"]
    }


def _program(
    manifest: PackageManifest,
    phase: str,
    script: Script,
    macros: tuple[tuple[str, str], ...],
    epoch: int,
    *,
    arguments: tuple[str, ...] = ("1",),
    stdin: bytes = b"",
) -> Program:
    # the interpreter is the whole program: librpm then passes nothing, except to file triggers
    words: tuple[str, ...] = ()
    if script.body or stdin:
        words = arguments if script.interpreter == (LUA,) else ("{script}", *arguments)
    return Program(
        owner=f"scriptlet:{manifest.nevra}",
        phase=phase,
        argv=(*(script.interpreter or ("/bin/sh",)), *words),
        body=script.body,
        stdin=stdin,
        lua=script.interpreter[:1] == (LUA,),
        expand=script.expand,
        header=manifest.header if script.qformat else b"",
        macros=macros,
        # what it dates changes with its package, not with any other that is newer
        environment=dated(min(epoch, manifest.build_time)),
    )

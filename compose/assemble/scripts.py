"""Decides which scriptlets run, in which order, and with which arguments.

When a tree is installed from scratch, only these can run: %pretrans, %pre, %post, %posttrans, and the triggers that fire on
installation. Arguments and input are librpm's (rpmscript.c; verified with rpm 6.1): the number of installed instances, 1. A
scriptlet that is a program without a script gets none. A trigger that is one gets a file all the same, an empty one, and its
arguments.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import rpm

from compose.assemble import triggers
from compose.assemble.triggers import Firing
from compose.process import Program, dated
from compose.rpm.manifest import PackageManifest, Script, ScriptKind, TriggerKind
from compose.rpm.rawheader import strings

LUA = "<lua>"

RUN = frozenset(
    {
        *(ScriptKind.PRETRANS, ScriptKind.PRE, ScriptKind.POST, ScriptKind.POSTTRANS),
        *(TriggerKind.PREIN, TriggerKind.IN, TriggerKind.FILE_IN, TriggerKind.TRANS_FILE_IN),
    }
)
"""The kinds of scriptlets and triggers that run in a compose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Programs in the order in which they run. first: before any file exists. before: before owners are resolved. after: with
    everything in place.

    skipped: (package, phase, reason) of scriptlets that are ignored.
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
    absent: Container[tuple[str, str]] = (),
) -> Plan:
    """Plan for packages in install order. ignored: (package, kind) -> reason. epoch: of the compose. macros: (name, body)
    for Lua scriptlets. skipped, absent: as in Merged.

    librpm installs one package after the other. Here all files exist from the start, so first everything runs that librpm
    runs before it unpacks a package (%triggerprein, %pre), for all packages, then everything that it runs afterwards.
    Within both, the order is librpm's. A %pretrans in Lua needs no file and finds none, as with librpm: many look for what
    an older version left. Any other %pretrans, for which librpm would not find the interpreter, runs once the files exist.
    """
    ignored_here: list[tuple[str, str, str]] = []

    def skip(manifest: PackageManifest, kind: str) -> bool:
        reason = ignored.get((manifest.nevra.name, str(kind)))
        row = (str(manifest.nevra), f"%{kind}", reason or "")
        if reason is not None and row not in ignored_here:
            ignored_here.append(row)
        return reason is not None

    def scriptlets(manifest: PackageManifest, kind: ScriptKind) -> Iterator[Program]:
        for scriptlet in manifest.scriptlets:
            if scriptlet.kind is not kind:
                continue
            if not skip(manifest, kind):
                script = scriptlet.script
                arguments = ("1",) if script.body else None
                yield _program(manifest, f"%{kind}", script, macros, epoch, arguments=arguments)

    def of_all(kind: ScriptKind) -> Iterator[Program]:
        for manifest in ordered:
            yield from scriptlets(manifest, kind)

    def fired(firings: Iterator[Firing]) -> Iterator[Program]:
        for firing in firings:
            if skip(firing.manifest, firing.trigger.kind):
                continue
            yield _program(
                firing.manifest,
                f"%{firing.trigger.kind}",
                firing.trigger.script,
                macros,
                epoch,
                arguments=firing.arguments,
                stdin=firing.stdin,
            )

    pretrans = [*of_all(ScriptKind.PRETRANS)]
    before = [program for program in pretrans if not program.lua]
    # few packages have triggers: going through all installed ones for each takes a second for 2,000
    watching: list[PackageManifest] = []
    for position, manifest in enumerate(ordered):
        before += fired(triggers.before_unpacking(ordered, position, watching))
        before += scriptlets(manifest, ScriptKind.PRE)
        if manifest.triggers:
            watching.append(manifest)
    after: list[Program] = []
    watching = []
    for position, manifest in enumerate(ordered):
        if manifest.triggers:
            watching.append(manifest)
        after += fired(triggers.before_post(ordered, position, watching, skipped, absent))
        after += scriptlets(manifest, ScriptKind.POST)
        after += fired(triggers.after_post(ordered, position, watching, skipped, absent))
    after += of_all(ScriptKind.POSTTRANS)
    after += fired(triggers.after_transaction(ordered, absent))
    return Plan(
        first=tuple(program for program in pretrans if program.lua),
        before=tuple(before),
        after=tuple(after),
        skipped=tuple(ignored_here),
    )


def ignored_scriptlets(more: Iterable[tuple[str, str, str]], *, by_default: bool) -> Mapping[tuple[str, str], str]:
    """(package, kind) of scriptlets to ignore -> the reason. more: the treefile's (package, kind, reason). by_default: include
    default_ignored()."""
    found = dict(default_ignored()) if by_default else {}
    return found | {(package, kind): reason for package, kind, reason in more}


@cache
def default_ignored() -> Mapping[tuple[str, str], str]:
    """(package, kind) of the scriptlets in ignored-scriptlets.json -> the reason."""
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
    arguments: tuple[str, ...] | None,
    stdin: bytes = b"",
) -> Program:
    """arguments: None to run the interpreter without any, and without a script."""
    words: tuple[str, ...] = ()
    if arguments is not None:
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
        # depends on its own package, so that its output does not change when other packages are newer
        environment=(*dated(min(epoch, manifest.build_time)), *_prefixes(manifest)),
    )


def _prefixes(manifest: PackageManifest) -> Iterator[tuple[str, str]]:
    """The environment that librpm gives scripts of a relocatable package, relocated or not."""
    for number, prefix in enumerate(strings(manifest.header, rpm.RPMTAG_PREFIXES)):
        if not number:
            yield "RPM_INSTALL_PREFIX", prefix
        yield f"RPM_INSTALL_PREFIX{number}", prefix

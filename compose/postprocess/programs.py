"""Programs of the compose, which run in a workroot between the pure layout and the pure finish."""

from __future__ import annotations

from collections.abc import Iterator

from compose.errors import ScriptError
from compose.events import Reporter
from compose.postprocess import selinux
from compose.postprocess.options import PostprocessOptions, Script
from compose.process import Program, ProgramRecord
from compose.tree import Tree

_SHOWN_LINES = 20
_SEMODULE = "usr/sbin/semodule"
_DEPMOD = "usr/sbin/depmod"


def treefile_scripts(options: PostprocessOptions) -> Iterator[Program]:
    """The inline scripts in order, then the one from a file."""
    for script in options.postprocess:
        yield program_of(script)
    if options.postprocess_script is not None:
        yield program_of(options.postprocess_script)


def program_of(script: Script) -> Program:
    """The program that runs a script from the treefile."""
    # the kernel handles a #! line; a script without one is for the shell
    executable = script.body.startswith((b"#!", b"\x7fELF"))
    return Program(
        owner="treefile",
        phase=script.name,
        argv=("{script}",) if executable else ("/bin/sh", "{script}"),
        body=script.body.decode("utf-8", "surrogateescape"),
        timeout=1800.0,
    )


def policy_builds(tree: Tree) -> Iterator[Program]:
    """semodule for each policy that has modules but was not built yet.

    A built policy need not be rebuilt, because selinux.py also edits its built file contexts. Building takes half a minute;
    even `semodule --refresh`, with nothing to do, rewrites 1,400 files.
    """
    for name in selinux.policies(tree):
        modules = f"etc/selinux/{name}/active/modules" in tree
        if modules and not any(file.startswith("policy.") for file in tree.children(f"etc/selinux/{name}/policy")):
            yield Program(
                owner="step:selinux",
                phase="semodule",
                argv=(f"/{_SEMODULE}", "-n", "-B", "-s", name),
                timeout=1800.0,
            )


def module_index(kver: str) -> Program:
    """depmod for one kernel."""
    return Program(owner="step:kernel", phase="depmod", argv=(f"/{_DEPMOD}", "-a", kver))


def check(record: ProgramRecord, reporter: Reporter) -> None:
    """Raise ScriptError with the last lines of output if a program failed. Other output of the treefile's programs is reported;
    what the steps of a compose print, of which dracut prints hundreds of lines, is not."""
    program, lines = record.program, record.lines
    if program.owner == "treefile":
        for line in lines[:-_SHOWN_LINES] if record.failure else lines:
            reporter.info(f"{program.phase}: {line}")
    if not record.failure:
        return
    hint = None
    if program.body and record.status in (126, 127):
        first = program.body.partition("\n")[0]
        hint = f"check that the interpreter in its first line ({first}) and the programs it calls are in the tree"
    raise ScriptError(f"{program.phase} ({program.owner}) {record.failure}", hint=hint, details=lines[-_SHOWN_LINES:])

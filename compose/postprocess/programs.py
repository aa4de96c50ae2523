"""Programs of the compose: what is run in the workroot between the pure layout and the pure finish, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from compose.errors import ScriptError
from compose.postprocess import selinux
from compose.postprocess.options import PostprocessOptions, Script
from compose.process import Program, ProgramRecord
from compose.tree import Tree

_SHOWN_LINES = 20
_SEMODULE = "usr/sbin/semodule"
_DEPMOD = "usr/sbin/depmod"


def treefile_scripts(options: PostprocessOptions) -> Iterator[Program]:
    """The inline scripts in their order, then the one from a file."""
    for script in options.postprocess:
        yield program_of(script)
    if options.postprocess_script is not None:
        yield program_of(options.postprocess_script)


def program_of(script: Script) -> Program:
    """A script of the treefile's author as a program."""
    # the kernel reads the #! line; a script without one is for the shell
    executable = script.body.startswith((b"#!", b"\x7fELF"))
    return Program(
        owner="treefile",
        phase=script.name,
        argv=("{script}",) if executable else ("/bin/sh", "{script}"),
        body=script.body.decode("utf-8", "surrogateescape"),
        timeout=1800.0,
    )


def policy_builds(tree: Tree) -> Iterator[Program]:
    """semodule for each policy that has modules and was never built from them.

    A policy that is built needs none: what the layout changed is changed in its file contexts too (selinux.py). Building
    costs half a minute; even `semodule --refresh`, with nothing to do, writes 1,400 files anew.
    """
    for name in selinux.policies(tree):
        modules = f"etc/selinux/{name}/active/modules" in tree
        if modules and not any(each.startswith("policy.") for each in tree.children(f"etc/selinux/{name}/policy")):
            yield Program(
                owner="step:selinux",
                phase="semodule",
                argv=(f"/{_SEMODULE}", "-n", "-B", "-s", name),
                timeout=1800.0,
            )


def module_index(kver: str) -> Program:
    """depmod for one kernel."""
    return Program(owner="step:kernel", phase="depmod", argv=(f"/{_DEPMOD}", "-a", kver))


def check(record: ProgramRecord) -> None:
    """Raise ScriptError when a program failed, with the last lines it wrote."""
    if not record.status and not record.timed_out:
        return
    program = record.program
    if record.timed_out:
        how = f"was ended after {program.timeout:.0f} seconds"
    elif record.status < 0:
        how = f"was killed by signal {-record.status}"
    else:
        how = f"failed with exit status {record.status}"
    hint = None
    if program.body and record.status in (126, 127):
        first = program.body.partition("\n")[0]
        hint = f"is the interpreter of its first line ({first}), and all it calls, in the tree?"
    raise ScriptError(
        f"{program.phase} ({program.owner}) {how}", hint=hint, details=record.output.splitlines()[-_SHOWN_LINES:]
    )

"""The end of a compose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compose import fs
from compose.pipeline.inputs import Inputs, Stopwatch
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.timings import timings

if TYPE_CHECKING:
    from compose.process import ProgramRecord


def ended(
    inputs: Inputs,
    options: ComposeOptions,
    watch: Stopwatch,
    outcome: Outcome,
    programs: Sequence[tuple[str, ProgramRecord]] = (),
    **more: Any,
) -> ComposeResult:
    """The result of a compose that ends now, with its timings, which are also written to --write-timings-to.

    programs: (stage, program). more: further fields of ComposeResult.
    """
    spent = timings(watch.laps, programs)
    if options.write_timings_to is not None:
        fs.atomic_write(options.write_timings_to, (json.dumps(spent.document(), indent=2) + "\n").encode())
    return ComposeResult(
        outcome=outcome,
        packages=inputs.resolution.packages,
        package_count=len(inputs.resolution.packages),
        repo=inputs.repo.path,
        preview=options.repo is None,
        ref=inputs.treefile.ref,
        timings=spent,
        **more,
    )

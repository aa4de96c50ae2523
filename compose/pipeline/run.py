"""A whole compose: `compose_tree()`. What follows once the exact packages are known is in stages.py.

treefile -> solve -> fetch -> import -> assemble -> postprocess -> label -> commit
"""

from __future__ import annotations

from contextlib import ExitStack, suppress

from compose.cachedir import CacheDir
from compose.errors import DamagedError
from compose.events import Reporter
from compose.pipeline.inputs import Stopwatch, gather
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.outcome import ended
from compose.pipeline.previous import Given


def compose_tree(options: ComposeOptions, reporter: Reporter, given: Given | None = None) -> ComposeResult:
    """Compose what a treefile describes. Raises a ComposeError; the repository is then unchanged.

    given: what a record says, to make a commit again. When something in the cache turns out to be damaged, the whole cache
    is verified and the compose is repeated.
    """
    try:
        return _compose_tree(options, reporter, given)
    except DamagedError as error:
        from compose.cache.verify import verify

        reporter.warn(f"{error.message} Verifying the whole cache, then composing again")
        verify(CacheDir(options.cachedir), options.jobs, reporter)
        return _compose_tree(options, reporter, given)


def _compose_tree(options: ComposeOptions, reporter: Reporter, given: Given | None) -> ComposeResult:
    watch = Stopwatch(reporter)
    with ExitStack() as stack:
        inputs = gather(options, reporter, watch, stack, given, meanwhile=_import_stages)
        if inputs.unchanged(options):
            return ended(inputs, options, watch, Outcome.UNCHANGED, commit=inputs.previous.checksum)
        from compose.pipeline.stages import make_commit

        return make_commit(inputs, options, watch, reporter)


def _import_stages() -> None:
    """Import the stages while libdnf5 works. An unchanged compose, the usual case, would end in less time than this takes."""
    # what fails for want of files or memory fails again when the stages are needed, and is told then
    with suppress(OSError, ImportError, MemoryError):
        import compose.pipeline.stages  # noqa: F401

"""Resolves package specs to the exact packages of a compose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal

from compose.errors import SolveError
from compose.events import Reporter, Task
from compose.rpm.repos import RepoNetwork, enabled_repos
from compose.rpm.specs import PackageSpec
from compose.solve import memo
from compose.solve.request import SolveRequest
from compose.solve.resolution import Resolution

_Question = Literal["solve", "describe"]


def solve(
    request: SolveRequest, network: RepoNetwork, reporter: Reporter, meanwhile: Callable[[], object] = lambda: None
) -> Resolution:
    """The packages that satisfy the request. The same request and repositories have the same answer, so it may come from memory
    (memo.py).

    Nothing of the host takes part: no configuration, repositories, variables, installed packages or plugins. meanwhile: called
    in a thread while libdnf5 runs; not called if the answer comes from memory.

    Raises SolveError for packages that do not exist or cannot be installed together, FetchError if any enabled repository
    cannot be loaded, TreefileError for errors in .repo files, StorageError if the cache cannot be written.
    """
    return _ask("solve", request, network, reporter, meanwhile)


def describe(request: SolveRequest, network: RepoNetwork, reporter: Reporter) -> Resolution:
    """What is known without the metadata of any repository: the enabled repositories, and the request's RPM files. Raises
    TreefileError for errors in .repo files."""
    return _ask("describe", request, network, reporter, lambda: None)


def solve_beside(
    request: SolveRequest, alone: tuple[PackageSpec, ...], root: str, network: RepoNetwork, reporter: Reporter
) -> Resolution:
    """The packages to add to those installed, which do not change, to satisfy the request. alone: specs of packages to add
    without their dependencies.

    root: a private directory that contains only the rpm database of the installed packages, at DATABASE_PATH. Raises the same
    errors as solve().
    """
    from compose.rpm import child
    from compose.solve import dnf

    job = dnf.BesideJob(request=request, network=network, root=root, alone=alone)
    return child.call(dnf.resolve_beside, job, reporter, crash=_crashed)


def _ask(
    question: _Question,
    request: SolveRequest,
    network: RepoNetwork,
    reporter: Reporter,
    meanwhile: Callable[[], object],
) -> Resolution:
    key = memo.key_of(question, request, enabled_repos(request.access))
    known = memo.recall(key, network)
    if known is not None and memo.holds(known, network):
        if question == "solve":
            # an empty task, since consumers of events expect it
            reporter.task(memo.LOADING, unit="bytes").close()
        return _recalled(known, known.warnings, reporter)
    # imported late: not needed when the answer comes from memory
    import threading

    from compose.rpm import child
    from compose.solve import dnf

    recorder = _WarningRecorder(reporter)
    job = dnf.Job(request=request, network=network, known=known.metadata if known else None)
    thread = threading.Thread(target=meanwhile)
    thread.start()
    try:
        answer = child.call(dnf.resolve if question == "solve" else dnf.describe, job, recorder, crash=_crashed)
    finally:
        thread.join()
    if answer is None:
        assert known is not None
        return _recalled(known, [warning for warning in known.warnings if warning not in recorder.warnings], reporter)
    if memo.is_worth_keeping(request, network):
        memo.keep(key, replace(answer, warnings=tuple(recorder.warnings)), network)
    return answer.resolution


def _recalled(answer: memo.Answer, warnings: Iterable[str], reporter: Reporter) -> Resolution:
    """Repeat warnings of a remembered answer, and return its resolution."""
    for message in warnings:
        reporter.warn(message)
    return answer.resolution


class _WarningRecorder(Reporter):
    """Forwards to another reporter, and records the warnings."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.warnings: list[str] = []

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return self._reporter.task(name, total=total, unit=unit)

    def info(self, message: str) -> None:
        self._reporter.info(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._reporter.warn(message)


def _crashed(outcome: str, output: tuple[str, ...]) -> SolveError:
    return SolveError(
        f"the solver (libdnf5) crashed: {outcome}",
        hint="remove repomd/ in the cachedir and try again; if it crashes again, it is a bug in libdnf5",
        details=output,
    )

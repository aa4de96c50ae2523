"""From package specs to the exact packages of a compose."""

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
    """The packages that satisfy the request; the same request and repositories give the same answer, so that it may be one
    from before (memo.py).

    Nothing of the host takes part: no configuration, repositories, variables, installed packages, plugins. meanwhile: called,
    in a thread, when the answer is not known and libdnf5 is asked.

    Raises SolveError for packages that do not exist or do not fit together, FetchError for a repository that cannot be
    loaded (all enabled ones must be), TreefileError for faults in .repo files, StorageError when the cache is refused.
    """
    return _ask("solve", request, network, reporter, meanwhile)


def describe(request: SolveRequest, network: RepoNetwork, reporter: Reporter) -> Resolution:
    """What can be said without any repository's metadata: the repositories that take part, and the request's RPMs that are
    in none. Raises TreefileError for faults in .repo files."""
    return _ask("describe", request, network, reporter, lambda: None)


def solve_beside(
    request: SolveRequest, alone: tuple[PackageSpec, ...], root: str, network: RepoNetwork, reporter: Reporter
) -> Resolution:
    """The packages that satisfy the request on top of those that are installed, which stay as they are; only those that come
    new. alone: further ones that are taken by themselves, whatever they require.

    root: a private directory with nothing but the rpm database of what is installed, at DATABASE_PATH. Raises as solve().
    """
    from compose.rpm import child
    from compose.solve import dnf

    job = dnf.BesideJob(request=request, network=network, root=root, alone=alone)
    return child.call(dnf.resolve_beside, job, reporter, crash=_crashed)


def _ask(
    what: _Question, request: SolveRequest, network: RepoNetwork, reporter: Reporter, meanwhile: Callable[[], object]
) -> Resolution:
    key = memo.key_of(what, request, enabled_repos(request.access))
    known = memo.recall(key, network)
    if known is not None and memo.holds(known, network):
        if what == "solve":
            # looked at, which is what whoever follows the progress waits for
            reporter.task(memo.LOADING, unit="bytes").close()
        return _told(known, known.warnings, reporter)
    # who is answered from memory has no use for these
    import threading

    from compose.rpm import child
    from compose.solve import dnf

    listening = _Listening(reporter)
    job = dnf.Job(request=request, network=network, known=known.metadata if known else None)
    other = threading.Thread(target=meanwhile)
    other.start()
    try:
        answer = child.call(dnf.resolve if what == "solve" else dnf.describe, job, listening, crash=_crashed)
    finally:
        other.join()
    if answer is None:
        assert known is not None
        return _told(known, [each for each in known.warnings if each not in listening.warnings], reporter)
    memo.keep(key, replace(answer, warnings=tuple(listening.warnings)), network)
    return answer.resolution


def _told(answer: memo.Answer, warnings: Iterable[str], reporter: Reporter) -> Resolution:
    """What an answer from before says, with warnings that came with it then."""
    for message in warnings:
        reporter.warn(message)
    return answer.resolution


class _Listening(Reporter):
    """Hands on what it is told, and keeps the warnings."""

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


def _crashed(how: str, output: tuple[str, ...]) -> SolveError:
    return SolveError(
        f"the solver (libdnf5) died: {how}",
        hint="remove repomd/ in the cachedir and try again; if it stays, it is a fault of libdnf5",
        details=output,
    )

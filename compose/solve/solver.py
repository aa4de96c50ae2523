"""From package specs to the exact packages of a compose."""

from __future__ import annotations

from compose.errors import SolveError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.repos import RepoNetwork
from compose.solve import dnf
from compose.solve.request import SolveRequest
from compose.solve.resolution import Resolution


def solve(request: SolveRequest, network: RepoNetwork, reporter: Reporter) -> Resolution:
    """The packages that satisfy the request; the same request and repositories give the same answer.

    Nothing of the host takes part: no configuration, repositories, variables, installed packages, plugins.
    Raises SolveError for packages that do not exist or do not fit together, FetchError for a repository that cannot be
    loaded (all enabled ones must be), TreefileError for faults in .repo files, StorageError when the cache is refused.
    """
    return child.call(dnf.resolve, dnf.Job(request=request, network=network), reporter, crash=_crashed)


def describe(request: SolveRequest, network: RepoNetwork, reporter: Reporter) -> Resolution:
    """What can be said without any repository's metadata: the repositories that take part, and the request's RPMs that are
    in none. Raises TreefileError for faults in .repo files."""
    return child.call(dnf.describe, dnf.Job(request=request, network=network), reporter, crash=_crashed)


def _crashed(how: str, output: tuple[str, ...]) -> SolveError:
    return SolveError(
        f"the solver (libdnf5) died: {how}",
        hint="remove repomd/ in the cachedir and try again; if it stays, it is a fault of libdnf5",
        details=output,
    )

"""Work for several threads, and how it ends early."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

_Work = TypeVar("_Work")
_Done = TypeVar("_Done")

Check = Callable[[], None]
"""Called often by work that takes long; raises Cancelled when it is to end."""


class Cancelled(Exception):
    """In a thread whose result nobody waits for any more."""


class Cancellation:
    """Asked for by one thread, noticed by the others."""

    def __init__(self) -> None:
        self._requested = False

    def cancel(self) -> None:
        self._requested = True

    def check(self) -> None:
        """Raise Cancelled after cancel()."""
        if self._requested:
            raise Cancelled


def never() -> None:
    """The Check of work that is always wanted."""


def checked(pieces: Iterable[_Work], check: Check) -> Iterator[_Work]:
    """The pieces, with a check before each."""
    for piece in pieces:
        check()
        yield piece


def in_threads(
    work: Callable[[_Work], _Done], items: Sequence[_Work], jobs: int, cancel: Callable[[], None]
) -> list[_Done]:
    """work() of each item, in threads: what takes time (hashes, xz, other programs) does not hold Python's lock.

    cancel: called at the first error, or when a signal interrupts the wait; what is under way should end soon after. The error
    is raised when it has.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="delta") as pool:
        try:
            futures = [pool.submit(work, item) for item in items]
            for each in as_completed(futures):
                each.result()
            return [each.result() for each in futures]
        except BaseException:
            cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise

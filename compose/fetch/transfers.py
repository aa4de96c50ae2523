"""What libdnf5's two downloaders, for packages and for URLs, have in common: attempts, progress, and what failures mean."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from compose import fs
from compose.errors import FetchError, StorageError
from compose.events import Reporter, Task
from compose.fetch.verify import hash_name
from compose.rpm.repofile import without_user
from compose.rpm.repos import RepoNetwork, raised
from compose.sizes import size

MORE = 1 << 20
"""Bytes beyond the size of a package after which its download is aborted: an error page may have more than a small package."""
_TOO_LONG = "it is larger than the allowed"
_NO_ROOM = "no space for"
# Failures that a retry does not cure: refused by the server (except 408 and 429), unknown protocol, malformed URL, unreadable
# file (in librepo's words; the numbers are CURLcodes), or aborted here.
_FINAL = re.compile(rf"Status code: 4(?!08|29)\d\d|Curl error \((?:1|3|37)\)|^{_TOO_LONG}")
_DISK = re.compile(r"No space left on device|Read-only file system|Permission denied|Disk quota exceeded|error \(23\)")
# also of a download whose last bytes had no room
_MISMATCH = re.compile(r"checksum doesn't match")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A file to download. path: where it goes; its directory must exist. name: what messages call it. origin: what some of them
    add to that. size: in bytes, 0 if unknown. limit: bytes after which the download is aborted, 0 for none. checksum:
    (algorithm, hex) if another place is to be tried should this one have other bytes, else two empty strings."""

    path: str
    name: str
    origin: str = ""
    size: int = 0
    limit: int = 0
    checksum: tuple[str, str] = ("", "")

    @property
    def is_wrong(self) -> bool:
        """Does the file have another checksum? Raises StorageError."""
        algorithm = hash_name(self.checksum[0])
        if algorithm is None:
            return False
        with fs.read_errors(self.path), open(self.path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest() != self.checksum[1]


Kind = TypeVar("Kind", bound=Transfer)


class Transfers:
    """Downloads with one libdnf5 Base. Must live until the process ends, like the Base. Resumes partial files."""

    def __init__(self, dnf: Any, base: Any, network: RepoNetwork) -> None:
        self._dnf = dnf
        self._base = base
        self._network = network
        self._done: Counter[str] = Counter()
        # what libdnf5 keeps only pointers to
        self._held: list[Any] = []

    def run(
        self,
        wanted: Sequence[Kind],
        start: Callable[[Sequence[Kind], int], Any],
        reporter: Reporter,
        *,
        places: int = 1,
        what: str = "packages",
        hint: str,
    ) -> None:
        """Download files. start(files, number): returns a libdnf5 downloader to which it has added the files, in this order;
        number: of the attempt, from 0, to choose a mirror by. places: attempts between two pauses, one per mirror. what: the
        files, in messages. hint: of the error.

        Raises FetchError naming the files that failed, StorageError if the disk is full.
        """
        missing = list(wanted)
        failures: dict[str, str] = {}
        pause = self._network.pause
        final = True
        total = sum(transfer.size for transfer in wanted)
        with reporter.task(f"Downloading {what}", total=total, unit="bytes") as task:
            for attempt in range(places * self._network.attempts):
                if attempt and attempt % places == 0:
                    if final:
                        break
                    first = missing[0]
                    reporter.info(
                        f"{len(missing)} downloads failed ({first.name}: {failures[first.path]}); "
                        f"trying again in {pause:g} s"
                    )
                    time.sleep(pause)
                    pause *= 2
                    final = True
                failures = self._attempt(missing, start, attempt, task)
                missing = [transfer for transfer in missing if transfer.path in failures]
                if not missing:
                    return
                stop_for_disk(os.path.dirname(missing[0].path), failures)
                final &= all(_FINAL.search(text) for text in failures.values())
        lines = [f"{transfer.name}{transfer.origin}: {failures[transfer.path]}" for transfer in missing]
        raise FetchError(
            f"cannot download {lines[0] if len(lines) == 1 else f'{len(lines)} {what}'}",
            hint=hint,
            details=() if len(lines) == 1 else lines,
        )

    def _attempt(
        self, transfers: Sequence[Kind], start: Callable[[Sequence[Kind], int], Any], number: int, task: Task
    ) -> dict[str, str]:
        """Try each file once; returns the failures by path."""
        watch = self._watch(transfers, task)
        self._base.set_download_callbacks(self._dnf.repo.DownloadCallbacksUniquePtr(watch))
        downloader = start(transfers, number)
        downloader.set_fail_fast(False)
        downloader.set_resume(True)
        self._held = [watch, downloader]
        failures: dict[str, str] = watch.failures
        try:
            downloader.download()
        except raised(self._dnf) as error:
            # the callbacks report each file's failure; this is for files that they did not report
            for transfer in transfers:
                if not os.path.exists(transfer.path):
                    failures.setdefault(transfer.path, str(error))
        for transfer in transfers:
            if transfer.path not in failures and transfer.is_wrong:
                failures[transfer.path] = "its checksum doesn't match"
                fs.remove_tree(transfer.path)
            elif failures.get(transfer.path, "").startswith(_TOO_LONG):
                # must not be resumed
                fs.remove_tree(transfer.path)
        return {path: without_user(text) for path, text in failures.items()}

    def _watch(self, transfers: Sequence[Transfer], task: Task) -> Any:
        done = self._done
        error_status = self._dnf.repo.DownloadCallbacks.TransferStatus_ERROR
        give_up = self._dnf.repo.DownloadCallbacks.ERROR

        class Watch(self._dnf.repo.DownloadCallbacks):  # type: ignore[name-defined,misc]
            """Numbers of downloads are in the order they were added. No method may raise: that aborts the process."""

            def __init__(self) -> None:
                super().__init__()
                self.failures: dict[str, str] = {}
                self.causes: dict[int, str] = {}
                self.begun = 0
                self.left: dict[int, int] = {}

            def add_new_download(self, user_data: Any, description: str, total: float) -> int:
                self.begun += 1
                return self.begun - 1

            def progress(self, number: int, total: float, downloaded: float) -> int:
                transfer = transfers[number]
                # error pages count as downloaded too, and the count restarts with the next mirror
                self._reached(transfer, int(downloaded))
                if 0 < transfer.limit < downloaded:
                    self.failures[transfer.path] = f"{_TOO_LONG} {transfer.size or transfer.limit} bytes"
                    return int(give_up)
                if not transfer.size and total:
                    # the server says how large it is; what is downloaded beside it needs space too
                    self.left[number] = int(total - downloaded)
                    left, free = sum(self.left.values()), _room(os.path.dirname(transfer.path))
                    if free is not None and left > free:
                        self.failures[transfer.path] = (
                            f"{_NO_ROOM} {transfer.name}: {size(left)} are left to download, {size(free)} are free"
                        )
                        return int(give_up)
                return 0

            def mirror_failure(self, number: int, message: str, url: str, metadata: str) -> int:
                self.causes[number] = str(message)
                return 0

            def end(self, number: int, status: int, message: str) -> int:
                transfer = transfers[number]
                if status == error_status:
                    self.failures.setdefault(transfer.path, self.causes.get(number) or str(message))
                else:
                    self._reached(transfer, transfer.size)
                return 0

            def _reached(self, transfer: Transfer, count: int) -> None:
                count = min(count, transfer.size)
                if count > done[transfer.path]:
                    task.advance(count - done[transfer.path], detail=transfer.name)
                    done[transfer.path] = count

        return Watch()


def check_room(place: str, needed: int) -> None:
    """Raise StorageError if downloads of so many bytes do not fit on a disk."""
    free = _room(place)
    if free is not None and needed > free:
        raise StorageError(
            f"cannot store downloads in {place}: {size(needed)} are needed, {size(free)} are free", hint=fs.FREE_SPACE
        )


def _room(place: str) -> int | None:
    """How many bytes can still be written to a directory; None if its filesystem does not say."""
    try:
        status = os.statvfs(place)
        return fs.free_bytes(status) if status.f_blocks else None
    except OSError:
        return None


def stop_for_disk(place: str, failures: Mapping[str, str]) -> None:
    """Raise StorageError if a download failed because the disk refused, which a retry does not cure. failures: by path."""
    for text in failures.values():
        if text.startswith(_NO_ROOM):
            raise StorageError(f"cannot store downloads in {place}: {text}", hint=fs.FREE_SPACE)
        if _DISK.search(text) or (_MISMATCH.search(text) and fs.is_full(place)):
            # curl does not pass on the kernel's error
            hint = fs.FREE_SPACE if fs.is_full(place) else f"check whether a quota is used up; otherwise {fs.FAILING}"
            raise StorageError(f"cannot store downloads in {place}: {text}", hint=hint)

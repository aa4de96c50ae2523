"""The whole compose on one screen: `compose_tree()`. It alone knows all stages.

treefile -> solve -> fetch -> import -> assemble -> postprocess -> label -> commit
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from compose.events import Reporter
from compose.solve.resolution import ResolvedPackage


class Outcome(Enum):
    """How a compose ended."""

    COMMITTED = auto()
    UNCHANGED = auto()
    DRY_RUN = auto()
    DOWNLOADED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """Where and how to compose; what to compose is the treefile's business.

    The names are those of the flags of `compose tree`. jobs: cores to use. source_date_epoch: seconds since 1970 that
    everything is dated with; None takes the later of the newest package's build time and the parent commit's time.
    """

    treefile: str
    cachedir: str
    repo: str | None = None
    source_root: str | None = None
    jobs: int = 1
    proxy: str | None = None
    cache_only: bool = False
    force_nocache: bool = False
    dry_run: bool = False
    download_only: bool = False
    download_only_rpms: bool = False
    disable_selinux: bool = False
    metadata_strings: tuple[tuple[str, str], ...] = ()
    metadata_files: tuple[str, ...] = ()
    parent: str | None = None
    no_parent: bool = False
    previous_commit: str | None = None
    previous_inputhash: str | None = None
    previous_version: str | None = None
    write_commitid_to: str | None = None
    write_composejson_to: str | None = None
    touch_if_changed: str | None = None
    source_date_epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeResult:
    """What came of it. commit: 64 hex digits, None unless committed. stage_seconds: wall time per stage, in order."""

    outcome: Outcome
    packages: tuple[ResolvedPackage, ...]
    repo: str
    preview: bool
    ref: str | None = None
    ref_moved: bool = False
    commit: str | None = None
    version: str | None = None
    stage_seconds: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class _Stopwatch:
    laps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            error.add_note(f"in stage {name}")
            raise
        finally:
            self.laps.append((name, time.monotonic() - begun))

"""Options and result of a compose."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from compose.values import value

# commands need the options long before they need any stage
if TYPE_CHECKING:
    from compose.label import Audit
    from compose.pipeline.timings import Timings
    from compose.solve.resolution import ResolvedPackage
    from compose.tree import Tree


class Outcome(Enum):
    """How a compose ended."""

    COMMITTED = auto()
    UNCHANGED = auto()
    DRY_RUN = auto()
    DOWNLOADED = auto()
    INSTALLED = auto()


@value
class ComposeOptions:
    """Where and how to compose; the treefile says what to compose.

    Names are those of the flags of `compose tree`. jobs: number of cores to use. basearch: RPM base architecture, None for
    this machine's. source_date_epoch: time of the commit and all files, in seconds since 1970; None takes the later of the
    newest package's build time and the previous commit's time. previous_timestamp: time of what the commit follows, when
    that is not a commit in the repository; 0 for none. sign: use the treefile's gpg-key. rerun_programs: run every program,
    even if its result is remembered from another compose.
    """

    treefile: str
    cachedir: str
    repo: str | None = None
    layer_repo: str | None = None
    basearch: str | None = None
    source_root: str | None = None
    jobs: int = 1
    proxy: str | None = None
    cache_only: bool = False
    force_nocache: bool = False
    rerun_programs: bool = False
    dry_run: bool = False
    download_only: bool = False
    download_only_rpms: bool = False
    disable_selinux: bool = False
    accept_new_ids: bool = False
    lockfiles: tuple[str, ...] = ()
    lockfile_strict: bool = False
    write_lockfile_to: str | None = None
    metadata_strings: tuple[tuple[str, str], ...] = ()
    metadata_files: tuple[str, ...] = ()
    parent: str | None = None
    no_parent: bool = False
    previous_commit: str | None = None
    previous_inputhash: str | None = None
    previous_version: str | None = None
    previous_timestamp: int = 0
    write_commitid_to: str | None = None
    write_composejson_to: str | None = None
    write_timings_to: str | None = None
    touch_if_changed: str | None = None
    source_date_epoch: int | None = None
    sign: bool = True

    @property
    def result_files(self) -> tuple[str, ...]:
        """Files to write besides the repository."""
        paths = (
            self.write_lockfile_to,
            self.write_composejson_to,
            self.write_commitid_to,
            self.write_timings_to,
            self.touch_if_changed,
        )
        return tuple(path for path in paths if path is not None)


@value
class ComposeResult:
    """The result of a compose.

    packages: as solved; empty for the commit of a root directory. package_count: in the tree, even if it was not made.
    commit: 64 hex digits, None unless committed. tree: the committed tree, with the writer of each entry. labels: the audit of
    its labels, None without SELinux. dropped: (path, reason) of files from packages or a root directory that the commit does
    not hold. pkgdiff: changed packages in rpm-ostree's format; None without a parent. timings: where the time went.
    """

    outcome: Outcome
    packages: tuple[ResolvedPackage, ...]
    package_count: int
    repo: str
    preview: bool
    ref: str | None = None
    ref_moved: bool = False
    commit: str | None = None
    version: str | None = None
    tree: Tree | None = None
    labels: Audit | None = None
    dropped: tuple[tuple[str, str], ...] = ()
    pkgdiff: list[Any] | None = None
    timings: Timings | None = None

    @property
    def stage_seconds(self) -> tuple[tuple[str, float], ...]:
        """Wall time per stage, in order."""
        return self.timings.stages if self.timings is not None else ()

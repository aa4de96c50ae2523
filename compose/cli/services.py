"""CI services that show more than a plain log, each with its own syntax.

GitHub Actions: see github.py. GitLab CI: collapsible log sections (docs.gitlab.com, "Job logs"); see also codequality.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compose.cli.progress import PlainReporter


@contextmanager
def only_our_commands(environment: Mapping[str, str]) -> Iterator[None]:
    """On GitHub, keep printed text from acting as workflow commands; the reporter's own commands bypass this."""
    before = (sys.stdout, sys.stderr)
    if environment.get("GITHUB_ACTIONS") == "true":
        # imported only where needed, as below
        from compose.cli.github import harmless_log

        sys.stdout, sys.stderr = map(harmless_log, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def reporter_for(environment: Mapping[str, str]) -> PlainReporter | None:
    """The reporter for the CI service this runs on; None if there is none, or it shows plain logs only."""
    if environment.get("GITHUB_ACTIONS") == "true":
        from compose.cli.github import GitHubReporter

        return GitHubReporter(environment)
    if environment.get("GITLAB_CI") == "true":
        return GitLabReporter()
    return None


class GitLabReporter(PlainReporter):
    """Shows stages as sections of the log, collapsed when they end."""

    def stage_begun(self, name: str) -> None:
        self.raw(f"\033[0Ksection_start:{int(time.time())}:compose_{name}[collapsed=true]\r\033[0K{name}")

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        super().stage_ended(name, seconds, failed=failed)
        self.raw(f"\033[0Ksection_end:{int(time.time())}:compose_{name}\r\033[0K")

"""CI services that show more than a log, each in its own words.

GitHub Actions: see github.py. GitLab CI: sections of the log that fold (docs.gitlab.com, "Job logs"), and what codequality.py
writes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compose.cli.progress import PlainReporter


@contextmanager
def only_our_commands(environment: Mapping[str, str]) -> Iterator[None]:
    """On GitHub, nothing that is printed to the log is a command; those of the reporter go past this."""
    before = (sys.stdout, sys.stderr)
    if environment.get("GITHUB_ACTIONS") == "true":
        # brings what is of use nowhere else, as below
        from compose.cli.github import harmless_log

        sys.stdout, sys.stderr = map(harmless_log, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def reporter_for(environment: Mapping[str, str]) -> PlainReporter | None:
    """The reporter of the service that runs this, None for none or one that shows logs only."""
    if environment.get("GITHUB_ACTIONS") == "true":
        from compose.cli.github import GitHubReporter

        return GitHubReporter(environment)
    if environment.get("GITLAB_CI") == "true":
        return GitLabReporter()
    return None


class GitLabReporter(PlainReporter):
    """Stages are sections of the log, folded once they are over."""

    def stage_begun(self, name: str) -> None:
        self.raw(f"\033[0Ksection_start:{int(time.time())}:compose_{name}[collapsed=true]\r\033[0K{name}")

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        super().stage_ended(name, seconds, failed=failed)
        self.raw(f"\033[0Ksection_end:{int(time.time())}:compose_{name}\r\033[0K")

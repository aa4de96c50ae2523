"""`compose diff`, with `ostree diff` as judge of the paths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site

pytestmark = pytest.mark.root

RELABEL = "echo '/usr/share/hello.* -- system_u:object_r:etc_t:s0' >>/etc/selinux/tiny/contexts/files/file_contexts"
CHANGES = ["echo more >/usr/share/new", ": >/usr/share/kind", RELABEL]


def diff(site: Site, *words: str) -> Done:
    command = [sys.executable, "-m", "compose", "diff", f"--repo={site.repo}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def two(site: Site) -> Site:
    """Two commits: the second has a package more and two less, programs that are read-only, and two changes of scripts."""
    site.write_treefile("tiny-odd", automatic_version_prefix="1", postprocess=["mkdir /usr/share/kind"])
    site.compose()
    site.write_treefile("conflict-a", automatic_version_prefix="1", readonly_executables=True, postprocess=CHANGES)
    site.compose()
    return site


def test_what_a_client_gets(two: Site) -> None:
    done = diff(two, f"{REF}^", REF)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "version: 1 -> 1.1"
    changed = "label system_u:object_r:usr_t:s0 -> system_u:object_r:etc_t:s0"
    expected = {
        "added: conflict-a.noarch 1.0-1",
        "removed: tiny-odd.noarch 1-1",
        "~ /usr/share/kind (kind directory -> file)",
        "~ /usr/bin/cat (mode 0755 -> 0555)",
        f"~ /usr/share/hello/one ({changed})",
        "+ /usr/share/new (file 0644 0:0 system_u:object_r:usr_t:s0 5 bytes)",
        "- /usr/share/locale/de (directory 0755 0:0 system_u:object_r:usr_t:s0)",
    }
    assert expected - set(lines) == set()


def test_the_paths_are_those_ostree_names(two: Site) -> None:
    document = json.loads(diff(two, f"{REF}^", REF, "--format=json").stdout)
    # of directories ostree tells only that they come and go
    ours = {
        ("A" if each["before"] is None else "D" if each["after"] is None else "M", each["path"])
        for each in document["paths"]
        if None in (each["before"], each["after"]) or each["after"]["kind"] != "directory"
    }
    # and of what comes with one, or goes with one, nothing
    alone = {(kind, path) for kind, path in ours if (kind, str(Path(path).parent)) not in ours}
    theirs = {tuple(line.split(maxsplit=1)) for line in two.ostree("diff", f"{REF}^", REF).splitlines()}
    assert alone == theirs
    assert len(ours) > len(alone) > 5


def test_only_labels(two: Site) -> None:
    lines = diff(two, f"{REF}^", REF, "--only=label").stdout.splitlines()[1:]
    assert lines
    assert all("; label" in line or "(label" in line for line in lines)


def test_of_the_same_commit_there_is_nothing(two: Site) -> None:
    assert diff(two, REF, REF).stdout == ""


def test_a_commit_that_is_not_there(two: Site) -> None:
    done = diff(two, "nowhere", REF)
    assert done.status != 0
    assert "has no commit nowhere" in done.stderr

"""`compose size`, with what `ostree ls` says of every object as judge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import REF, Site

pytestmark = pytest.mark.root


@pytest.mark.parametrize("mode", ["archive", "bare-user", "bare"])
def test_each_object_counts_once(site: Site, mode: str) -> None:
    if mode != "archive":
        shutil.rmtree(site.repo)
        site.init(mode)
    site.write_treefile()
    site.compose()
    sizes = {}
    for line in site.ostree("ls", "-R", "-C", REF, "/").splitlines():
        kind, _, _, size, checksum = line.split()[:5]
        if not kind.startswith("d"):
            sizes[checksum] = int(size) if kind.startswith("-") else 0
    for by in ("source", "directory"):
        done = site.tool("size", REF, f"--repo={site.repo}", f"--by={by}", "--format=json")
        document = json.loads(done.stdout)
        assert document["total"]["bytes"] == sum(sizes.values())
        assert document["total"]["files"] == len(sizes)
        assert sum(row["bytes"] for row in document["rows"]) == sum(sizes.values())
        stored = sum(path.stat().st_size for path in site.repo.glob("objects/*/*.filez"))
        assert document["total"].get("bytes_to_download", 0) == stored


def test_growth_and_bounds(site: Site) -> None:
    site.write_treefile()
    site.compose()
    (site.path / "large").write_bytes(bytes(300_000))
    site.write_treefile("tiny-odd", add_files=[["large", "/usr/share/large"]])
    site.compose()
    words = ("size", REF, f"--repo={site.repo}", f"--before={REF}^")
    lines = site.tool(*words).stdout.splitlines()
    assert "(+0.3 MB)" in lines[0]
    assert "+0.3 MB" in lines[1] and "add-files" in lines[1]
    assert any("package tiny-odd" in line for line in lines)
    assert not any("package hello (" in line for line in lines)
    table = site.tool(*words, "--format=markdown", "--top=0").stdout
    assert "| `package tiny-odd` |" in table
    assert "`package hello`" not in table
    # what is the same is not among those that --top=0 shows
    assert site.tool(*words, "--top=1").stdout.splitlines()[-1].startswith(f"and {len(lines) - 2} more; ")
    site.tool(*words, "--max-growth=1M", "--max-size=1G")
    assert "more than --max-growth allows" in site.tool(*words, "--max-growth=200K", status=7).stderr
    done = site.tool(*words, "--max-size=200K", status=7)
    assert "more than --max-size allows" in done.stderr and "add-files" in done.stderr
    found = events(site.tool(*words, "--max-size=200K", "--progress=json", status=7).stderr)
    assert [each["exit_code"] for each in found if each["event"] in ("result", "error")] == [7]
    assert "--max-growth needs --before" in site.tool(*words[:3], "--max-growth=1", status=2).stderr
    assert "expected a number" in site.tool(*words, "--max-size=big", status=2).stderr


def test_a_commit_whose_making_is_not_recorded(site: Site) -> None:
    site.write_treefile()
    site.compose()
    for path in (site.repo / "extensions/compose").iterdir():
        path.unlink()
    words = ("size", REF, f"--repo={site.repo}")
    assert "has no records of" in site.tool(*words, status=1).stderr
    assert "/usr/share" in site.tool(*words, "--by=directory").stdout


def test_the_event_has_the_exit_code_when_the_reader_is_gone(site: Site) -> None:
    site.compose()
    reading, writing = os.pipe()
    os.close(reading)
    words = ("size", REF, f"--repo={site.repo}", "--format=json", "--progress=json")
    done = subprocess.run(
        [sys.executable, "-m", "compose", *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    error = events(done.stderr)[-1]
    assert (error["event"], error["exit_code"], done.returncode) == ("error", 141, 141)


def test_treemap(site: Site) -> None:
    site.write_treefile()
    site.compose()
    path = site.path / "size.html"
    site.tool("size", REF, f"--repo={site.repo}", f"--treemap={path}")
    text = path.read_text()
    assert "<title>/usr/bin/hello: " in text
    assert "package hello" in text
    # a commit of others has no record of its sources
    shutil.rmtree(site.repo / "extensions")
    site.tool("size", REF, f"--repo={site.repo}", "--by=directory", f"--treemap={path}")
    assert "package hello" not in path.read_text()
    gone = site.path / "gone/size.html"
    assert "gone" in site.tool("size", REF, f"--repo={site.repo}", f"--treemap={gone}", status=1).stderr

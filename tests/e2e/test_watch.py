"""`compose watch` and `compose serve` as a user has them: files are edited, a client pulls, a signal ends it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import REF, SPECS, Site, release
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root


class Running:
    """A command on its way, and the lines that it prints."""

    def __init__(self, *words: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "compose", *map(str, words)], cwd=SPECS.parents[1], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=each) for each in (self._read, self._read_errors)]
        for each in self._threads:
            each.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.rstrip("\n"))

    def line(self, wanted: str) -> str:
        """The next line that has a text in it."""
        end = time.monotonic() + 60
        while True:
            try:
                line = self._lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {wanted!r}: {self.errors}") from None
            if wanted in line:
                return line

    def stage(self, name: str) -> None:
        """Wait until a stage has begun, with --progress=json."""
        end = time.monotonic() + 60
        while not any(f'"name": "{name}", "state": "begun"' in line for line in self.errors):
            time.sleep(0.05)
            assert self.process.poll() is None
            assert time.monotonic() < end

    def is_quiet(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self._lines.empty()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        status = self.process.wait(30)
        for each in self._threads:
            each.join()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def started(*words: str | Path) -> Running:
        running.append(Running(*words))
        return running[-1]

    yield started
    for each in running:
        each.close()


def watch(start: Callable[..., Running], site: Site, *flags: str) -> Running:
    return start("watch", site.treefile, f"--repo={site.repo}", f"--cachedir={site.cachedir}", *flags)


def replace_file(path: Path, text: str) -> None:
    """As editors do it."""
    new = path.with_name(f".{path.name}.swp")
    new.write_text(text)
    if path.exists():
        new.chmod(path.stat().st_mode)
    os.rename(new, path)


def test_each_change_is_composed(moving: Site, keys: Keys, tmp_path: Path, start: Callable[..., Running]) -> None:
    site = moving
    script = site.path / "script.sh"
    script.write_text("#!/bin/sh\necho one > /usr/share/script\n")
    script.chmod(0o755)
    site.write_treefile(name="base.yaml", postprocess_script="script.sh")
    site.treefile.write_text("include: base.yaml\npackages: [hello-lib]\n")
    running = watch(start, site)
    line = running.line(" => ")
    heads = [site.head()]
    assert f"{REF} => {heads[0]}" in line

    # an include, as an editor writes it
    site.write_treefile("conflict-a", name="new.yaml", postprocess_script="script.sh")
    os.rename(site.path / "new.yaml", site.path / "base.yaml")
    line = running.line(" => ")
    assert line.startswith(f"{site.path}/base.yaml changed: ")
    assert "packages +1 -0 ~0" in line
    heads.append(site.head())

    # a script
    replace_file(script, "#!/bin/sh\necho two > /usr/share/script\n")
    assert f"{script} changed: {REF} => " in running.line(" => ")
    assert site.ostree("cat", REF, "/usr/share/script") == "two\n"
    heads.append(site.head())

    # a package
    release(site, keys, tmp_path)
    line = running.line(" => ")
    assert "repodata/repomd.xml" in line
    assert "packages +0 -0 ~1" in line
    heads.append(site.head())
    assert len(set(heads)) == 4

    # what changes nothing, and a file that is none of the compose's
    os.utime(site.treefile)
    assert "nothing new" in running.line(f"{site.treefile} changed: ")
    (site.path / "notes.txt").write_text("x")
    assert running.is_quiet(1.5)
    assert running.stop() == 0
    assert "error" not in "\n".join(running.errors)


def test_a_broken_treefile_is_mended(site: Site, start: Callable[..., Running]) -> None:
    good = site.treefile.read_text()
    site.treefile.write_text("include: base.yaml\npackges: [hello]\n")
    running = watch(start, site)
    running.line("failed")
    # the file that was missing is all that is needed
    site.treefile.write_text("include: base.yaml\n")
    running.line("failed")
    (site.path / "base.yaml").write_text(good)
    line = running.line(" => ")
    assert line.startswith(f"{site.path}/base.yaml changed: {REF} => {site.head()}")
    site.write_treefile("no-such-package")
    running.line("tiny.yaml changed: failed")
    site.write_treefile()
    running.line("nothing new")
    (site.path / "tiny.repo").unlink()
    running.line("tiny.repo changed: failed")
    site.write_repo()
    running.line("nothing new")
    assert running.stop(signal.SIGTERM) == 0
    errors = "\n".join(running.errors)
    for text in ('did you mean "packages"', "cannot read", "no-such-package", "there is no repository 'tiny'"):
        assert text in errors
    assert "Traceback" not in errors


def watch_slowly(start: Callable[..., Running], site: Site) -> Running:
    """Return during a stage that takes some seconds."""
    script = site.path / "script.sh"
    script.write_text("#!/bin/sh\nsleep 3\n")
    script.chmod(0o755)
    site.write_treefile(postprocess_script="script.sh")
    running = watch(start, site, "--progress=json")
    running.stage("postprocess")
    return running


def test_a_change_while_it_composes(site: Site, start: Callable[..., Running]) -> None:
    running = watch_slowly(start, site)
    site.write_treefile("conflict-a")
    running.line(" => ")
    assert "packages +1 -0 ~0" in running.line("tiny.yaml changed: ")
    assert running.stop() == 0


def test_a_ref_that_moves_while_it_composes(site: Site, start: Callable[..., Running]) -> None:
    """It composes again at once, on top of what is there now."""
    site.compose()
    running = watch_slowly(start, site)
    site.ostree("commit", f"--branch={REF}", f"--tree=ref={REF}", "--timestamp=@0")
    other = site.head()
    line = running.line(" => ")
    assert f"{REF} => {site.head()}" in line
    assert site.ostree("rev-parse", f"{REF}^").strip() == other
    assert running.stop() == 0
    warnings = [each["message"] for each in events("\n".join(running.errors)) if each["event"] == "warning"]
    assert any(each.endswith(f"to {other}. Composing again") for each in warnings)


def test_it_ends_in_the_middle_of_a_compose(site: Site, start: Callable[..., Running]) -> None:
    site.compose()
    before = site.snapshot()
    script = site.path / "script.sh"
    script.write_text("#!/bin/sh\nsleep 100\n")
    script.chmod(0o755)
    site.write_treefile(postprocess_script="script.sh")
    running = watch(start, site, "--progress=json")
    running.stage("postprocess")
    assert running.stop(signal.SIGTERM) == 0
    assert site.snapshot() == before


def test_a_client_follows_what_is_watched(site: Site, tmp_path: Path, start: Callable[..., Running]) -> None:
    site = replace(site, cachedir=site.path / "cache")
    running = start("watch", site.treefile, f"--cachedir={site.cachedir}", "--serve", "--port=0")
    url = running.line("Serving ").split()[-1]
    running.line(" => ")
    add = running.line("ostree remote add").split()
    remote, ref = running.line("rpm-ostree rebase").split()[-1].split(":")
    client = tmp_path / "client"
    for words in (("init", "--mode=bare-user"), tuple(add[1:]), ("pull", remote, ref)):
        subprocess.run(["ostree", f"--repo={client}", *words], check=True, stdout=subprocess.DEVNULL)
    site.write_treefile("conflict-a")
    commit = running.line(" => ").split(" => ")[1][:64]
    subprocess.run(["ostree", f"--repo={client}", "pull", remote, ref], check=True, stdout=subprocess.DEVNULL)
    pulled = subprocess.run(
        ["ostree", f"--repo={client}", "rev-parse", f"{remote}:{ref}"], check=True, capture_output=True
    )
    assert pulled.stdout.decode().strip() == commit
    with urllib.request.urlopen(f"{url}refs/heads/{REF}") as answer:
        assert answer.read().decode().strip() == commit
    assert running.stop() == 0
    assert any("127.0.0.1: pulled" in line for line in running.errors)


def test_rounds_as_events(site: Site, start: Callable[..., Running]) -> None:
    running = watch(start, site, "--progress=json")
    running.line(" => ")
    site.treefile.write_text("x: y\n")
    running.line("failed")
    assert running.stop() == 0
    ends = [each for each in events("\n".join(running.errors)) if each["event"] in ("result", "error")]
    assert [each.get("outcome") or each["kind"] for each in ends] == ["committed", "TreefileError"]
    assert ends[0]["changed"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve(composed: Site, start: Callable[..., Running], number: int) -> None:
    if "mode=archive" not in (composed.repo / "config").read_text():
        error = composed.tool("serve", f"--repo={composed.repo}", "--port=0", status=1).stderr
        assert "which no client can pull from over HTTP" in error
        assert "pull-local" in error
        return
    running = start("serve", f"--repo={composed.repo}", "--port=0", "--format=json")
    told = json.loads(running.line("{"))
    assert told["refs"] == [{"ref": REF, "commit": composed.head(), "version": told["refs"][0]["version"]}]
    with urllib.request.urlopen(f"{told['url']}refs/heads/{REF}") as answer:
        assert answer.read().decode().strip() == composed.head()
    taken = told["url"].rpartition(":")[2].strip("/")
    error = composed.tool("serve", f"--repo={composed.repo}", f"--port={taken}", status=2).stderr
    assert "Address already in use" in error
    assert running.stop(number) == 0
    assert "Traceback" not in "\n".join(running.errors)


def test_serve_without_a_preview(tmp_path: Path, site: Site) -> None:
    error = site.tool("serve", f"--cachedir={tmp_path}/none", "--port=0", status=1).stderr
    assert "there is no preview repository" in error
    assert "compose tree" in error
    assert not (tmp_path / "none").exists()


def test_serve_beyond_this_machine_is_told(site: Site, start: Callable[..., Running]) -> None:
    running = start("serve", f"--repo={site.repo}", "--port=0", "--bind=0.0.0.0")
    running.line("no refs yet")
    assert running.stop() == 0
    assert any("warning: anyone who can reach" in line for line in running.errors)

"""Publications that are killed anywhere, and that run at once: the repository is whole, and clients see old or new."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.ostree.delta.index import list_deltas
from tests.compat.ostree.test_commit import ostree, served
from tests.compat.publish.test_deltas import client, elsewhere, only_deltas
from tests.compat.publish.test_publish import pull
from tests.compat.publish.test_publish import run as publish_ref
from tests.support import rpmrepo
from tests.support.publication import REF, build, history, make, refs_of

pytestmark = pytest.mark.root
KEY = rpmrepo.address("builder")
NOTHING_TO_KILL = 200

# kills this process at the n-th call of what changes the repository under a name that counts
KILLED = """
import itertools, os, signal, sys
from compose import syscalls
count = itertools.count(1)
def lethal(module, name):
    real = getattr(module, name)
    def call(*arguments, **named):
        if next(count) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    setattr(module, name, call)
for module, name in ((os, "rename"), (os, "unlink"), (syscalls, "rename_noreplace")):
    lethal(module, name)
from compose.cli.app import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module", autouse=True)
def keys() -> Iterator[rpmrepo.Keys]:
    with rpmrepo.keyring("builder") as made:
        yield made


def words(source: Path, target: Path, *more: str) -> list[str]:
    return ["publish", f"--repo={source}", f"--to={target}", "--progress=none", f"--gpg-key={KEY}", *more]


def staging_of(repo: Path) -> list[str]:
    """What is in tmp/ beside files that are cleaned up when they are a day old."""
    names = (path.name for path in (repo / "tmp").iterdir())
    return [name for name in names if name != "cache" and not re.fullmatch("compose-[0-9a-f]{16}", name)]


def test_killed_anywhere(tmp_path: Path, keys: rpmrepo.Keys) -> None:
    source, target = make(tmp_path / "build"), make(tmp_path / "srv")
    others = ("os/a", "os/b")
    for content, before in (("one", ""), ("two", "one"), ("three", "two")):
        for ref in others:
            build(
                source,
                f"{content}-{ref[-1]}",
                ref,
                age=3 - len(content) % 4,
                parent=refs_of(source).get(ref, "") if before else "",
            )
    commits = {ref: [ostree(source, "rev-parse", f"{ref}{'^' * number}") for number in (2, 1, 0)] for ref in others}
    run = [sys.executable, "-c", KILLED]
    first = [f"{ref}={commits[ref][1]}" for ref in others]
    subprocess.run([*run, "0", *words(source, target, *first, "--depth=1", "--allow-downgrade")], check=True)
    (tmp_path / "key").write_bytes(keys.export("builder"))
    point, seen = 1, set()
    while True:
        trial = tmp_path / "trial"
        subprocess.run(["rm", "-rf", trial, tmp_path / "client"], check=True)
        subprocess.run(["cp", "-a", target, trial], check=True)
        done = subprocess.run(
            [*run, str(point), *words(source, trial, *others, "--keep=1", "--allow-downgrade")],
            check=False,
            capture_output=True,
            text=True,
        )
        ostree(trial, "fsck")
        now = refs_of(trial)
        for ref in others:
            assert now[ref] in commits[ref][1:]
        seen.add(tuple(now[ref] == commits[ref][2] for ref in others))
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            break
        subprocess.run(
            [*run, "0", *words(source, trial, *others, "--keep=1", "--allow-downgrade")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert refs_of(trial) == {ref: commits[ref][2] for ref in others}
        assert staging_of(trial) == []
        assert len(list(trial.glob("objects/*/*.commit"))) == 2
        with served(trial) as url:
            told = pull(url, tmp_path / "client", tmp_path / "key", "os/a")
            assert told.returncode == 0, told.stdout
        point += 5
        assert point < NOTHING_TO_KILL
    # it was killed before refs moved, and after
    assert {(False, False), (True, True)} <= seen


def test_killed_anywhere_while_deltas_are_made_and_listed(tmp_path: Path, keys: rpmrepo.Keys) -> None:
    source, target = make(tmp_path / "build"), make(tmp_path / "srv")
    one, two = history(source, "one", "two")
    run = [sys.executable, "-c", KILLED]
    subprocess.run([*run, "0", *words(source, target, f"{REF}={one}")], check=True)
    (tmp_path / "key").write_bytes(keys.export("builder"))
    with served(target) as url:
        ostree(client(tmp_path / "client", url, tmp_path / "key"), "pull", "os", REF)
    point, seen, torn = 1, set(), 0
    while True:
        trial = tmp_path / "trial"
        subprocess.run(["rm", "-rf", trial, tmp_path / "deltas"], check=True)
        subprocess.run(["cp", "-a", target, trial], check=True)
        new = words(source, trial, REF, "--deltas=1")
        done = subprocess.run([*run, str(point), *new], check=False, capture_output=True, text=True)
        ostree(trial, "fsck")
        now = refs_of(trial)[REF]
        seen.add((bool(list_deltas(str(trial))), now))
        with served(trial) as url:
            # the summary follows the refs
            found = updated(tmp_path, url)
            assert found in (one, now, None)
            torn += found is None
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            break
        subprocess.run([*run, "0", *new], check=True, stdout=subprocess.DEVNULL)
        assert list_deltas(str(trial)).keys() == {f"{one}-{two}"}
        assert staging_of(trial) == []
        with served(only_deltas(trial, tmp_path / "deltas")) as url:
            assert updated(tmp_path, url) == two
        point += 3
        assert point < NOTHING_TO_KILL
    # it was killed before there was a delta, while no ref led to it, and at the end
    assert seen == {(False, one), (True, one), (True, two)}
    assert torn <= 1


def updated(tmp_path: Path, url: str) -> str | None:
    """What a client that has the old commit has after it pulled; None if the summary is new and its signature is not yet: no
    rename replaces two files."""
    copy = tmp_path / "copy"
    subprocess.run(["rm", "-rf", copy], check=True)
    subprocess.run(["cp", "-a", tmp_path / "client", copy], check=True)
    elsewhere(copy, url)
    pulled = subprocess.run(
        ["ostree", f"--repo={copy}", "pull", "os", REF], check=False, capture_output=True, text=True
    )
    if "BAD signature" in pulled.stderr:
        return None
    assert pulled.returncode == 0, pulled.stderr
    ostree(copy, "fsck")
    return ostree(copy, "rev-parse", f"os:{REF}").strip()


def test_at_once(tmp_path: Path, keys: rpmrepo.Keys) -> None:
    source, target = make(tmp_path / "build"), make(tmp_path / "srv")
    names = [f"os/ref{number}" for number in range(4)]
    for name in names:
        history(source, f"{name[3:]}-old", f"{name[3:]}-new", ref=name)
    command = [sys.executable, "-m", "compose"]
    for _ in range(2):
        running = [
            subprocess.Popen([*command, *words(source, target, name, "--keep=1")], stdout=subprocess.DEVNULL)
            for name in names
        ]
        assert [each.wait(120) for each in running] == [0] * len(names)
        assert refs_of(target) == refs_of(source)
        (tmp_path / "key").write_bytes(keys.export("builder"))
        with served(target) as url:
            for name in names:
                told = pull(url, tmp_path / "client", tmp_path / "key", name)
                assert told.returncode == 0, told.stdout
    ostree(target, "fsck")
    assert len(list(target.glob("objects/*/*.commit"))) == len(names)


def test_one_summary_at_a_time(tmp_path: Path) -> None:
    """Two that write it at once would leave one's summary with the other's signature."""
    source, target = make(tmp_path / "build"), make(tmp_path / "srv")
    names = ["os/a", "os/b"]
    for name in names:
        build(source, name[3:], name)
    signing: list[bytes] = []
    at_once: list[int] = []

    class Slow:
        metadata_key = "ostree.sign.ed25519"
        name = "a test"

        def sign(self, data: bytes) -> bytes:
            if b"ostree.summary.mode" in data:
                signing.append(data)
                at_once.append(len(signing))
                time.sleep(0.5)
                signing.remove(data)
            return bytes(64)

    threads = [
        threading.Thread(target=publish_ref, args=(source, target, name), kwargs={"signers": (Slow(),)})
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1, 1]
    assert refs_of(target) == refs_of(source)


def test_interrupted(tmp_path: Path) -> None:
    """While a program signs, say: nothing has moved, nothing is left."""
    source, target = make(tmp_path / "build"), make(tmp_path / "srv")
    build(source, "one")
    (tmp_path / "slow").write_text(f"#!/bin/sh\ntouch {tmp_path}/here\nexec sleep 60\n")
    (tmp_path / "slow").chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "compose", *words(source, target, REF, f"--sign-command={tmp_path}/slow")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "here").exists():
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert refs_of(target) == {}
    assert [path.name for path in (target / "tmp").iterdir()] == ["cache"]

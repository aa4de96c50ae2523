"""The real client pulls from our server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.serve.offered import offered
from compose.serve.server import Server
from tests.compat.ostree.test_commit import ostree
from tests.support.rpmrepo import Keys
from tests.support.told import Told

REF, OTHER = "os/x86_64/main", "os/x86_64/next"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/large").write_bytes(os.urandom(3_000_000))
    for number in range(300):
        (root / f"usr/bin/{number}").write_text(f"{number}\n" * number)
    (root / "link").symlink_to("usr")
    return root


@pytest.fixture
def repo(tmp_path: Path, root: Path) -> Path:
    repo = tmp_path / "repo"
    ostree(repo, "init", "--mode=archive")
    commit(repo, root, "1")
    return repo


def commit(repo: Path, root: Path, version: str, *flags: str, ref: str = REF) -> str:
    return ostree(
        repo, "commit", f"--branch={ref}", f"--tree=dir={root}", f"--add-metadata-string=version={version}", *flags
    )


@contextmanager
def served(repo: Path, reporter: Reporter | None = None) -> Iterator[str]:
    with (
        Repo.open(str(repo)) as opened,
        Server(opened, "127.0.0.1", 0, reporter or Reporter()) as server,
        server.in_background(),
    ):
        yield server.url


def client_of(tmp_path: Path, url: str, *flags: str, mode: str = "bare-user") -> Path:
    client = tmp_path / f"client-{mode}"
    ostree(client, "init", f"--mode={mode}")
    ostree(client, "remote", "add", *(flags or ("--no-gpg-verify",)), "preview", url)
    return client


@pytest.mark.parametrize("with_summary", [False, True])
def test_mirror(repo: Path, root: Path, tmp_path: Path, with_summary: bool) -> None:
    commit(repo, root, "1", ref=OTHER)
    if with_summary:
        ostree(repo, "summary", "-u")
    with served(repo) as url:
        client = client_of(tmp_path, url, mode="archive")
        # without a summary nobody knows which refs there are
        ostree(client, "pull", "--mirror", "preview", *(() if with_summary else (REF, OTHER)))
    ostree(client, "fsck", "--quiet")
    assert ostree(client, "refs").split() == [REF, OTHER]
    assert ostree(client, "rev-parse", REF) == ostree(repo, "rev-parse", REF)


def test_upgrade(repo: Path, root: Path, tmp_path: Path) -> None:
    ostree(repo, "summary", "-u")
    told = Told()
    with served(repo, told) as url:
        client = client_of(tmp_path, url)
        ostree(client, "pull", "preview", REF)
        (root / "usr/bin/1").write_text("changed")
        second = commit(repo, root, "2")
        ostree(repo, "summary", "-u")
        ostree(client, "pull", "preview", REF)
        assert ostree(client, "rev-parse", f"preview:{REF}") == second
    ostree(client, "fsck", "--quiet")
    # one line for each pull, or for both where they were soon after another; objects that the client had are in none
    assert f"{REF} ({second[:12]}, 2): " in told.infos[-1]
    assert 300 < sum(int(line.partition(" objects")[0].split()[-1]) for line in told.infos) < 320


def test_signed(repo: Path, root: Path, tmp_path: Path) -> None:
    keys = Keys()
    try:
        keys.make("signer")
        keys.make("other")
        commit(repo, root, "2", "--gpg-sign=signer@example.com", f"--gpg-homedir={keys.home}")
        for name in ("signer", "other"):
            (tmp_path / f"{name}.gpg").write_bytes(keys.export(name))
    finally:
        keys.close()
    with Repo.open(str(repo)) as opened:
        assert [each.signatures for each in offered(opened, Reporter())] == [("gpg",)]
    with served(repo) as url:
        client = client_of(tmp_path, url, f"--gpg-import={tmp_path}/signer.gpg")
        ostree(client, "pull", "preview", REF)
        ostree(client, "remote", "add", f"--gpg-import={tmp_path}/other.gpg", "wrong", url)
        with pytest.raises(AssertionError, match="signature"):
            ostree(client, "pull", "wrong", REF)


@pytest.mark.parametrize("indexed", [False, True])
def test_deltas(repo: Path, root: Path, tmp_path: Path, indexed: bool) -> None:
    first = ostree(repo, "rev-parse", REF)
    if indexed:
        ostree(repo, "config", "set", "core.indexed-deltas", "true")
        ostree(repo, "config", "set", "core.no-deltas-in-summary", "true")
    data = (root / "usr/bin/large").read_bytes()
    (root / "usr/bin/large").write_bytes(data[:1_000_000] + b"changed" + data[1_000_000:])
    second = commit(repo, root, "2")
    ostree(repo, "static-delta", "generate", "--empty", f"--to={first}")
    ostree(repo, "static-delta", "generate", f"--from={first}", f"--to={second}")
    if indexed:
        ostree(repo, "static-delta", "reindex")
    ostree(repo, "summary", "-u")
    told = Told()
    with served(repo, told) as url:
        client = client_of(tmp_path, url)
        ostree(client, "pull", "--require-static-deltas", "preview", f"{REF}@{first}")
        ostree(client, "pull", "--require-static-deltas", "preview", REF)
        assert ostree(client, "rev-parse", f"preview:{REF}") == second
    ostree(client, "fsck", "--quiet")
    assert "delta parts" in told.infos[-1]
    assert f"{REF} ({second[:12]}, 2)" in told.infos[-1]


def test_what_is_missing_is_told(repo: Path, tmp_path: Path) -> None:
    next(repo.glob("objects/*/*.filez")).unlink()
    told = Told()
    with served(repo, told) as url:
        client = client_of(tmp_path, url)
        with pytest.raises(AssertionError, match="404"):
            ostree(client, "pull", "preview", REF)
    assert "OBJECTS ARE MISSING" in told.infos[0]

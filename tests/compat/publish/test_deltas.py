"""Static deltas made by a publication: the real ostree updates with nothing else, with signatures required."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.cli.app import main
from compose.errors import RepositoryError, StorageError, UsageError
from compose.events import Reporter
from compose.ostree import summary
from compose.ostree.delta.index import list_deltas
from compose.ostree.delta.signatures import outdated_superblocks
from compose.ostree.delta.write import DeltaOptions, write_delta
from compose.ostree.gvariant import encode
from compose.ostree.lock import SUMMARY_LOCK, locked
from compose.ostree.prune import Retention
from compose.ostree.repo import Repo
from compose.ostree.signers import GpgKey, parse_command
from compose.ostree.transaction import Transaction
from compose.publish import publish as publishing
from compose.publish.model import PublishOptions, Request
from compose.publish.publish import publish
from tests.compat.ostree.test_commit import ostree, served
from tests.compat.publish.test_publish import run
from tests.support import rpmrepo
from tests.support.publication import OTHER, REF, build, history, refs_of, snapshot
from tests.support.told import Told

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("keys")]
KEY = rpmrepo.address("builder")


def only_deltas(target: Path, path: Path) -> Path:
    """A copy of a repository from which clients can fetch nothing but deltas."""
    shutil.copytree(target, path)
    shutil.rmtree(path / "objects")
    (path / "objects").mkdir()
    return path


def elsewhere(client: Path, url: str) -> None:
    """The remote of a client has moved."""
    ostree(client, "config", "set", 'remote "os".url', url)
    # kept by remote, and asked for by a time of whole seconds
    shutil.rmtree(client / "tmp/cache")


def client(path: Path, url: str, key: Path) -> Path:
    """One that uses deltas, which an archive repository does not, and requires signatures."""
    ostree(path, "init", "--mode=bare-user")
    how = (f"--gpg-import={key}", "--set=gpg-verify=true", "--set=gpg-verify-summary=true")
    ostree(path, "remote", "add", *how, "os", url)
    return path


def test_clients_update_with_nothing_but_the_delta(
    source: Path, target: Path, tmp_path: Path, keys: rpmrepo.Keys
) -> None:
    one, two = history(source, "one", "two")
    (tmp_path / "key").write_bytes(keys.export("builder"))
    assert run(source, target, f"{REF}={one}", signers=(GpgKey(KEY),), deltas=1).deltas == ()
    with served(target) as url:
        ostree(client(tmp_path / "client", url, tmp_path / "key"), "pull", "os", REF)
    (delta,) = run(source, target, signers=(GpgKey(KEY),), deltas=1).deltas
    assert (delta.source, delta.target) == (one, two)
    assert delta.written is not None
    with served(only_deltas(target, tmp_path / "deltas")) as url:
        elsewhere(tmp_path / "client", url)
        ostree(tmp_path / "client", "pull", "os", REF)
    assert ostree(tmp_path / "client", "rev-parse", f"os:{REF}").strip() == two
    ostree(tmp_path / "client", "fsck")
    # the same again makes none
    assert run(source, target, signers=(GpgKey(KEY),), deltas=1).deltas == ()


def test_a_key_that_is_added_later_signs_what_deltas_hold(
    source: Path, target: Path, tmp_path: Path, keys: rpmrepo.Keys
) -> None:
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}", signers=(GpgKey(KEY), GpgKey(rpmrepo.address("other"))))
    (tmp_path / "key").write_bytes(keys.export("other"))
    with served(target) as url:
        ostree(client(tmp_path / "client", url, tmp_path / "key"), "pull", "os", REF)
    run(source, target, signers=(GpgKey(KEY),), deltas=1)
    before = list_deltas(str(target))
    run(source, target, signers=(GpgKey(KEY), GpgKey(rpmrepo.address("other"))))
    assert before.keys() == {f"{one}-{two}"} == list_deltas(str(target)).keys()
    assert before != list_deltas(str(target))
    with served(only_deltas(target, tmp_path / "deltas")) as url:
        elsewhere(tmp_path / "client", url)
        ostree(tmp_path / "client", "pull", "os", REF)
    assert ostree(tmp_path / "client", "rev-parse", f"os:{REF}").strip() == two


@pytest.mark.parametrize("inline", [[], ["--inline"]])
def test_deltas_of_the_real_ostree(
    inline: list[str], source: Path, target: Path, tmp_path: Path, keys: rpmrepo.Keys
) -> None:
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}", signers=(GpgKey(KEY),))
    (tmp_path / "key").write_bytes(keys.export("builder"))
    with served(target) as url:
        ostree(client(tmp_path / "client", url, tmp_path / "key"), "pull", "os", REF)
    ostree(target, "pull-local", str(source), two)
    ostree(target, "static-delta", "generate", f"--from={one}", f"--to={two}", *inline)
    run(source, target, signers=(GpgKey(KEY),))
    with served(only_deltas(target, tmp_path / "deltas")) as url:
        elsewhere(tmp_path / "client", url)
        ostree(tmp_path / "client", "pull", "os", REF)
    assert ostree(tmp_path / "client", "rev-parse", f"os:{REF}").strip() == two
    ostree(tmp_path / "client", "fsck")


def test_a_delta_that_is_signed_itself_is_left_alone(source: Path, target: Path, tmp_path: Path) -> None:
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}")
    run(source, target, deltas=1)
    (superblock,) = target.glob("deltas/*/*/superblock")
    magic = int.from_bytes(b"OSTSGNDT", "little")
    signed = encode("(taya{sv})", (magic, superblock.read_bytes(), ()))
    superblock.write_bytes(signed)
    told = Told()

    requests = (Request(name=REF, revision=two),)
    options = PublishOptions(source=str(source), target=str(target), requests=requests)
    publish(options, told)
    assert told.warnings == []
    publish(replace(options, signers=(GpgKey(KEY),)), told)
    assert superblock.read_bytes() == signed
    assert [str(superblock.parent.name) in each and "is signed" in each for each in told.warnings] == [True]


def test_in_place(target: Path) -> None:
    one, two = history(target, "one", "two")
    (delta,) = run(target, target, signers=(GpgKey(KEY),), deltas=3, retention=Retention(commits=1)).deltas
    assert (delta.source, delta.target) == (one, two)
    assert list_deltas(str(target)).keys() == {f"{one}-{two}"}
    ostree(target, "fsck")


def test_superblocks_change_with_the_summary_or_not_at_all(source: Path, target: Path) -> None:
    history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    (superblock,) = target.glob("deltas/*/*/superblock")
    before = superblock.read_bytes()
    # signs the commit, but not the summary
    flag = target.parent / "signed"
    program = target.parent / "once"
    program.write_text(
        f"#!/bin/sh\n[ ! -e {flag} ] || exit 1\n: >{flag}\nexec gpg --batch -u {KEY} --detach-sign -o - -\n"
    )
    program.chmod(0o755)
    with pytest.raises(UsageError):
        run(source, target, signers=(parse_command(str(program)),))
    assert flag.exists()
    assert superblock.read_bytes() == before
    run(source, target, signers=(GpgKey(KEY),))
    assert superblock.read_bytes() != before
    assert hashlib.sha256(superblock.read_bytes()).digest() in (target / "summary").read_bytes()
    ostree(target, "fsck")


def test_a_key_of_another_publication_meanwhile(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, two = history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    write_summary = publishing.write_summary

    def late(*how: Any, **named: Any) -> None:
        monkeypatch.setattr(publishing, "write_summary", write_summary)
        run(source, target, signers=(GpgKey(rpmrepo.address("other")),))
        write_summary(*how, **named)

    monkeypatch.setattr(publishing, "write_summary", late)
    run(source, target, signers=(GpgKey(KEY),))
    with Repo.open(str(target)) as repo:
        assert len(dict(repo.read_detached(two))["ostree.gpgsigs"].value) == 2
        assert outdated_superblocks(repo, two, Reporter()) == {}


def test_a_delta_gets_the_signatures_made_while_it_waits(source: Path, target: Path) -> None:
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}")
    run(source, target)
    waits = threading.Event()

    class Waiting(Reporter):
        def info(self, message: str) -> None:
            if "Waiting" in message:
                waits.set()

    def delta() -> None:
        with Repo.open(str(target)) as repo:
            write_delta(repo, source=one, target=two, options=DeltaOptions(use_bsdiff=False), reporter=Waiting())

    with ThreadPoolExecutor() as threads, Repo.open(str(target)) as repo:
        with locked(repo, Reporter(), exclusive=True, name=SUMMARY_LOCK):
            # as a publication does that waits for a signature of the summary
            made = threads.submit(delta)
            assert waits.wait(20)
            assert list_deltas(str(target)) == {}
            with Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
                transaction.copy_commit(repo.read_metadata(two, "commit"), detached=(), signers=(GpgKey(KEY),))
        made.result()
        assert list_deltas(str(target)).keys() == {f"{one}-{two}"}
        assert outdated_superblocks(repo, two, Reporter()) == {}


def test_the_signature_of_the_next_summary_stays(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(source, "one")

    @contextmanager
    def then(*how: Any, **named: Any) -> Iterator[None]:
        with locked(*how, **named):
            yield
        # as soon as others may write the summary
        monkeypatch.setattr(summary, "locked", locked)
        run(source, target, signers=(GpgKey(KEY),))

    monkeypatch.setattr(summary, "locked", then)
    run(source, target)
    assert (target / "summary.sig").exists()


@pytest.mark.parametrize("indexed", [True, False])
def test_the_index_follows(indexed: bool, source: Path, target: Path) -> None:
    with (target / "config").open("a") as config:
        config.write(f"indexed-deltas={str(indexed).lower()}\n")
    history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    run(source, target, signers=(GpgKey(KEY),))
    (digest,) = list_deltas(str(target)).values()
    assert [digest in path.read_bytes() for path in target.glob("delta-indexes/*/*")] == [True] * indexed


def test_from_the_last_published_ones(source: Path, target: Path) -> None:
    commits = history(source, "one", "two", "three", "four", "five")
    for commit in (commits[0], commits[1], commits[3]):
        run(source, target, f"{REF}={commit}")
    before = snapshot(target)
    would = run(source, target, f"{REF}={commits[4]}", deltas=2, dry_run=True)
    assert snapshot(target) == before
    done = run(source, target, f"{REF}={commits[4]}", deltas=2)
    # the third was never published
    expected = [(commits[3], commits[4]), (commits[1], commits[4])]
    assert [(each.source, each.target) for each in done.deltas] == expected
    assert [(each.source, each.target, each.written) for each in would.deltas] == [(*each, None) for each in expected]
    # one more, of a ref that has not moved
    (more,) = run(source, target, f"{REF}={commits[4]}", deltas=3).deltas
    assert (more.source, more.target) == (commits[0], commits[4])
    ostree(target, "fsck")


def test_without_a_parent_from_what_the_ref_was(source: Path, target: Path) -> None:
    one = build(source, "one", age=1)
    run(source, target)
    two = build(source, "two")
    assert [(each.source, each.target) for each in run(source, target, deltas=3).deltas] == [(one, two)]
    (target / "objects" / one[:2] / f"{one[2:]}.commit").unlink()
    three = build(source, "three", parent=two)
    # what is not there is passed over
    assert [(each.source, each.target) for each in run(source, target, deltas=3).deltas] == [(two, three)]


def test_each_is_made_once_for_several_refs(source: Path, target: Path) -> None:
    both = [REF, OTHER]
    one = build(source, "one", refs=both, age=1)
    run(source, target, f"{REF}={one}", f"{OTHER}={one}")
    two = build(source, "two", refs=both, parent=one)
    assert len(run(source, target, f"{REF}={two}", f"{OTHER}={two}", deltas=1).deltas) == 1


def test_a_delta_stays_when_what_it_leads_from_is_pruned(source: Path, target: Path) -> None:
    one, two, three = history(source, "one", "two", "three")
    for commit, left in ((one, set()), (two, {f"{one}-{two}"}), (three, {f"{two}-{three}"})):
        run(source, target, f"{REF}={commit}", deltas=1, retention=Retention(commits=1))
        assert list_deltas(str(target)).keys() == left


def test_no_ref_moves_when_a_delta_cannot_be_made(source: Path, target: Path) -> None:
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}")
    for path in target.glob("objects/*/*.dirtree"):
        path.unlink()
    with pytest.raises(RepositoryError, match="dirtree"):
        run(source, target, f"{REF}={two}", deltas=1)
    assert refs_of(target) == {REF: one}


def test_a_damaged_superblock(source: Path, target: Path) -> None:
    history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    (superblock,) = target.glob("deltas/*/*/superblock")
    superblock.write_bytes(b"\xff" * 40)
    with pytest.raises(RepositoryError, match="superblock is damaged") as caught:
        run(source, target)
    assert "compose delta" in (caught.value.hint or "")


@pytest.mark.parametrize("what", ["fifo", "directory", "signed"])
def test_what_is_no_superblock(what: str, source: Path, target: Path) -> None:
    history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    (superblock,) = target.glob("deltas/*/*/superblock")
    superblock.unlink()
    match what:
        case "fifo":
            os.mkfifo(superblock)
        case "directory":
            superblock.mkdir()
        case _:
            superblock.write_bytes(b"OSTSGNDT\xff\xff")
    with pytest.raises(
        RepositoryError, match=r"superblock (cannot be read: (not a regular file|Is a directory)|is damaged)"
    ):
        run(source, target)
    # not even of a delta to another commit
    if what != "signed":
        with pytest.raises(RepositoryError, match="superblock cannot be read"):
            run(source, target, f"{REF}={REF}^", allow_downgrade=True)


@pytest.mark.parametrize("name", ["deltas", "delta-indexes"])
def test_a_file_in_the_place_of_a_directory(name: str, source: Path, target: Path) -> None:
    with (target / "config").open("a") as config:
        config.write("indexed-deltas=true\n")
    one, two = history(source, "one", "two")
    run(source, target, f"{REF}={one}")
    (target / name).write_text("")
    with pytest.raises(StorageError, match=f"cannot write .*{name}/") as caught:
        run(source, target, f"{REF}={two}", deltas=1)
    assert name in (caught.value.hint or "")
    assert refs_of(target) == {REF: one}


def test_a_superblock_that_no_client_fetches(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history(source, "one", "two")
    run(source, target, f"{REF}={REF}^")
    run(source, target, deltas=1)
    (superblock,) = target.glob("deltas/*/*/superblock")
    before = superblock.read_bytes()
    monkeypatch.setattr("compose.ostree.delta.signatures.MAX_METADATA_SIZE", len(before) - 1)
    assert main(["publish", f"--repo={source}", f"--to={target}", f"--gpg-key={KEY}", REF]) == 0
    assert "larger than what clients fetch" in capsys.readouterr().err
    assert superblock.read_bytes() == before


def test_the_command(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = history(source, "one", "two")
    words = ["publish", f"--repo={source}", f"--to={target}", "--progress=none"]
    assert main([*words, f"{REF}={one}", "--deltas=2"]) == 0
    assert "delta from" not in capsys.readouterr().out
    assert main([*words, REF, "--deltas=2", "--dry-run"]) == 0
    assert f"delta from {one[:12]} to {two[:12]}: would be made\n" in capsys.readouterr().out
    assert main([*words, REF, "--deltas=2", "--format=json"]) == 0
    (delta,) = json.loads(capsys.readouterr().out)["deltas"]
    assert (delta["from"], delta["to"]) == (one, two)
    assert delta["fetched_bytes"] > 0
    assert delta["loose_bytes"] > 0

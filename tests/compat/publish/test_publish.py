"""What is published is what clients take: the real ostree pulls it, with signatures demanded, and OpenSSL looks at others."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from compose.cli.app import main
from compose.errors import PolicyError, RepositoryError, StorageError, UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant, decode
from compose.ostree.keys import read_keys
from compose.ostree.prune import Retention
from compose.ostree.repo import Repo
from compose.ostree.signers import GpgKey, Signer, parse_command
from compose.publish.model import Published, PublishOptions, Request
from compose.publish.publish import publish
from tests.compat.ostree.test_commit import ostree, served
from tests.compat.ostree.test_keys import ed25519_file, generate, verify
from tests.support import rpmrepo
from tests.support.commits import Item, write_commit
from tests.support.filesystem import mounted
from tests.support.publication import OTHER, REF, build, history, make, objects_of, refs_of, snapshot

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("keys")]
KEY = rpmrepo.address("builder")


def run(source: Path, target: Path, *names: str, signers: tuple[Signer, ...] = (), **how: object) -> Published:
    """names: REF or NAME=REV."""
    requests = [each.partition("=") for each in names or (REF,)]
    options = PublishOptions(
        source=str(source),
        target=str(target),
        requests=tuple(Request(name=name, revision=revision or name) for name, _, revision in requests),
        signers=signers,
        **{"jobs": 2, **how},  # type: ignore[arg-type]
    )
    return publish(options, Reporter())


def pull(url: str, client: Path, key: Path, ref: str = REF) -> subprocess.CompletedProcess[str]:
    """As a client that demands signatures of commits and of the summary."""
    if not client.exists():
        ostree(client, "init", "--mode=archive")
    name = f"r{os.urandom(4).hex()}"
    ostree(
        client,
        "remote",
        "add",
        f"--gpg-import={key}",
        "--set=gpg-verify=true",
        "--set=gpg-verify-summary=true",
        name,
        url,
    )
    return subprocess.run(
        ["ostree", f"--repo={client}", "pull", name, ref],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (Mode.ARCHIVE, Mode.ARCHIVE),
        (Mode.BARE_USER, Mode.ARCHIVE),
        (Mode.BARE, Mode.ARCHIVE),
        (Mode.ARCHIVE, Mode.BARE_USER),
        (Mode.BARE_USER, Mode.BARE_USER),
        (Mode.BARE, Mode.BARE_USER),
    ],
)
def test_every_object_arrives(theirs: Mode, ours: Mode, tmp_path: Path) -> None:
    source, target = make(tmp_path / "build", theirs), make(tmp_path / "srv", ours)
    commit = build(source, "one")
    done = run(source, target)
    assert refs_of(target) == {REF: commit}
    assert done.copied.commits == 1
    assert done.copied.files == 7
    ostree(target, "fsck")
    ostree(target, "checkout", "-U", REF, str(tmp_path / "out"))
    assert (tmp_path / "out/usr/bin/sh").readlink() == Path("bash")
    assert stat.S_IMODE((tmp_path / "out/usr/share/one").stat().st_mode) == 0o644
    # nothing is copied twice, nor left behind
    assert run(source, target).copied.files == 0
    assert [path.name for path in (target / "tmp").iterdir()] == ["cache"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.glob("objects/*/*.filez")} <= {0o644}


def test_a_client_that_demands_signatures_pulls(source: Path, target: Path, tmp_path: Path, keys: rpmrepo.Keys) -> None:
    one, two = history(source, "one", "two")
    for commit in (one, two):
        run(source, target, f"{REF}={commit}", signers=(GpgKey(KEY),))
        with served(target) as url:
            for name, key in (("right", "builder"), ("wrong", "other")):
                (tmp_path / name).write_bytes(keys.export(key))
                done = pull(url, tmp_path / "client", tmp_path / name)
                assert (done.returncode == 0) == (name == "right"), done.stdout
    ostree(tmp_path / "client", "fsck")
    assert (target / "summary").stat().st_size
    ostree(target, "fsck")


def test_keys_in_files_and_programs_that_sign(source: Path, target: Path, tmp_path: Path) -> None:
    commit = build(source, "one")
    (tmp_path / "hsm").write_text(
        f'#!/bin/sh\ncat >"$1/said"\nexec gpg --batch -u {KEY} --detach-sign -o - "$1/said"\n'
    )
    (tmp_path / "hsm").chmod(0o755)
    file, pem = ed25519_file(tmp_path / "one"), generate(tmp_path / "spki.pem", "P-384")
    signers = (
        *read_keys(f"ed25519={file}"),
        *read_keys(f"spki={pem}"),
        parse_command(f"gpg={tmp_path}/hsm '{tmp_path}'"),
    )
    assert run(source, target, signers=signers).signatures == 6
    data = (target / f"objects/{commit[:2]}/{commit[2:]}.commit").read_bytes()
    beside = (target / f"objects/{commit[:2]}/{commit[2:]}.commitmeta").read_bytes()
    for signed, found in ((data, beside), ((target / "summary").read_bytes(), (target / "summary.sig").read_bytes())):
        by_kind = {name: variant.value for name, variant in decode("a{sv}", found)}
        assert sorted(by_kind) == ["ostree.gpgsigs", "ostree.sign.ed25519", "ostree.sign.spki"]
        verify(file.with_suffix(".pem"), signed, by_kind["ostree.sign.ed25519"][0], tmp_path)
        verify(pem, signed, by_kind["ostree.sign.spki"][0], tmp_path)
        (tmp_path / "signature.gpg").write_bytes(by_kind["ostree.gpgsigs"][0])
        (tmp_path / "signed").write_bytes(signed)
        rpmrepo.run("gpg", "--verify", str(tmp_path / "signature.gpg"), str(tmp_path / "signed"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("false", "failed with status 1"),
        ("/no/such/program", "cannot run /no/such/program: No such file"),
        ("true", "it is empty"),
        ("echo x", "not a sequence of OpenPGP packets"),
        ("ed25519=echo x", "it has 2 bytes, but an ed25519 signature has 64"),
        ("sh -c 'kill $$'", "signal 15"),
    ],
)
def test_who_cannot_sign_moves_nothing(command: str, said: str, source: Path, target: Path) -> None:
    build(source, "one")
    before = snapshot(target)
    with pytest.raises(UsageError) as caught:
        run(source, target, signers=(GpgKey(KEY), parse_command(command)))
    assert said in caught.value.message
    assert snapshot(target) == before


def test_a_summary_that_cannot_be_signed_moves_nothing(source: Path, target: Path, tmp_path: Path) -> None:
    """The commit's signature was made, the next one was refused: a card that was pulled out, say."""
    build(source, "one")
    (tmp_path / "once").write_text(
        f"#!/bin/sh\n[ ! -e {tmp_path}/told ] && touch {tmp_path}/told && exec gpg -u {KEY} -b\n"
    )
    (tmp_path / "once").chmod(0o755)
    with pytest.raises(UsageError, match="failed with status 1"):
        run(source, target, signers=(parse_command(f"{tmp_path}/once"),))
    assert refs_of(target) == {}
    assert not (target / "summary").exists()
    run(source, target, signers=(GpgKey(KEY),))
    assert list(refs_of(target)) == [REF]


def test_no_ref_moves_when_one_cannot(source: Path, target: Path) -> None:
    build(source, "one")
    build(source, "other", OTHER)
    (broken,) = (path for path in source.glob("objects/*/*.filez") if b"other" in _content(source, path))
    broken.unlink()
    with pytest.raises(RepositoryError, match=r"cannot read the object [0-9a-f]{64}\.filez: No such file"):
        run(source, target, REF, OTHER)
    assert refs_of(target) == {}
    assert objects_of(target) == set()


def test_refs_that_exclude_each_other(source: Path, target: Path) -> None:
    commit = build(source, "one", "os", refs=["os", "os/main"])
    for names in (("os", "os/main"), ("os/main", "os")):
        with pytest.raises(RepositoryError, match="cannot have both refs os and os/main"):
            run(source, target, *(f"{name}={commit}" for name in names))
    assert refs_of(target) == {}


def _content(repo: Path, path: Path) -> bytes:
    with Repo.open(str(repo)) as opened, opened.open_content(bytes.fromhex(path.parent.name + path.stem)) as content:
        data = b"".join(content.pieces)
        return data if len(data) < 100 else b""


@pytest.mark.parametrize("mode", [Mode.ARCHIVE, Mode.BARE_USER])
@pytest.mark.parametrize("harm", ["other bytes", "another", "cut off", "link", "pipe", "no header"])
def test_nothing_damaged_is_published(mode: Mode, harm: str, tmp_path: Path, target: Path) -> None:
    source = make(tmp_path / "build", mode)
    build(source, "one")
    victim = max(source.glob("objects/*/*.file*"), key=lambda path: path.stat().st_size)
    data = victim.read_bytes()
    xattrs = {name: os.getxattr(victim, name) for name in os.listxattr(victim) if name.startswith("user.")}
    other = next(path for path in source.glob("objects/*/*.file*") if 0 < path.stat().st_size < 100)
    victim.unlink()
    match harm:
        case "another":
            shutil.copyfile(other, victim)
        case "link":
            victim.symlink_to("/etc/passwd")
        case "pipe":
            os.mkfifo(victim)
        case "cut off":
            victim.write_bytes(data[:-9])
        case "no header":
            victim.write_bytes(b"\xff" * 100)
        case _:
            victim.write_bytes(data[:-9] + bytes(9))
    if victim.is_file() and not victim.is_symlink():
        for name, value in xattrs.items():
            os.setxattr(victim, name, value)
    with pytest.raises(RepositoryError) as caught:
        run(source, target)
    assert f"{victim.parent.name}{victim.stem}" in caught.value.message
    assert "fsck" in (caught.value.hint or "")
    assert refs_of(target) == {}
    assert objects_of(target) == set()


def test_what_clients_would_refuse(source: Path, target: Path) -> None:
    old, new = history(source, "old", "new")
    assert run(source, target).moves[0].before is None
    with pytest.raises(PolicyError, match="older than") as caught:
        run(source, target, f"{REF}={old}")
    assert "--allow-downgrade" in (caught.value.hint or "")
    with pytest.raises(PolicyError, match=f"is bound to {REF}"):
        run(source, target, f"os/another={new}")
    assert refs_of(target) == {REF: new}
    run(source, target, f"{REF}={old}", allow_downgrade=True)
    assert refs_of(target) == {REF: old}
    # a rebuild has not the present commit as parent, and clients do not mind
    other = build(source, "rebuild")
    run(source, target)
    assert refs_of(target) == {REF: other}
    (source / f"state/{other}.commitpartial").touch()
    with pytest.raises(RepositoryError, match="is partial"):
        run(source, target)
    with pytest.raises(RepositoryError, match="has no commit os/none"):
        run(source, target, "os/none")
    with pytest.raises(RepositoryError, match=rf"has no commit {REF}\^\^\^\^\^: the history of {REF} is shorter"):
        run(source, target, f"{REF}={REF}^^^^^")


def test_collections(tmp_path: Path) -> None:
    target = make(tmp_path / "srv", config="collection-id=org.example.Os\n")
    source = make(tmp_path / "build")
    build(source, "none")
    with pytest.raises(PolicyError, match=r"bound to no collection, .* collection org\.example\.Os"):
        run(source, target)
    build(source, "other", collection="org.example.Other")
    with pytest.raises(PolicyError, match=r"bound to the collection org\.example\.Other, the repository"):
        run(source, target)
    with Repo.open(str(source)) as opened:
        # as the treefile's add-commit-metadata has lists: clients look for another type
        listed = (("ostree.ref-binding", Variant("av", [Variant("s", REF)])),)
        write_commit(opened, {"usr": Item()}, metadata=listed, ref=REF)
    with pytest.raises(PolicyError, match="is bound to no ref"):
        run(source, target)
    commit = build(source, "right", collection="org.example.Os")
    # not there where an old ostree has made the repository
    (target / "refs/mirrors").rmdir()
    run(source, target)
    assert refs_of(target) == {REF: commit}
    ostree(tmp_path / "client", "init", "--mode=archive")
    with served(target) as url:
        ostree(tmp_path / "client", "remote", "add", "--no-gpg-verify", "--collection-id=org.example.Os", "r", url)
        ostree(tmp_path / "client", "pull", "r", REF)


def test_signatures_of_the_build_come_along(source: Path, target: Path, keys: rpmrepo.Keys, tmp_path: Path) -> None:
    commit = build(source, "one")
    ostree(source, "gpg-sign", f"--gpg-homedir={keys.home}", commit, keys.fingerprint("other"))
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "all.gpg").write_bytes(keys.export("builder", "other", armor=False))
    for _ in range(2):
        run(source, target, signers=(GpgKey(KEY),))
        shown = ostree(target, "show", f"--gpg-homedir={trusted}", commit)
        assert shown.count("Good signature") == shown.count("Signature made") == 2, shown
    with pytest.raises(UsageError, match=r"has signatures \(ostree\.gpgsigs\), and no key is given"):
        run(source, target)


def test_an_object_that_has_come_away_is_mended(source: Path, target: Path) -> None:
    build(source, "one")
    run(source, target)
    whole = objects_of(target)
    for path in (next(target.glob("objects/*/*.filez")), next(target.glob("objects/*/*.dirtree"))):
        path.unlink()
    run(source, target)
    assert objects_of(target) == whole
    ostree(target, "fsck")


@pytest.mark.parametrize("harm", ["link", "pipe", "huge"])
def test_directories_that_are_none(harm: str, source: Path, target: Path) -> None:
    build(source, "one")
    victim = next(source.glob("objects/*/*.dirtree"))
    victim.unlink()
    match harm:
        case "link":
            victim.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(victim)
        case _:
            with victim.open("wb") as file:
                file.truncate(1 << 40)
    with pytest.raises(RepositoryError, match=victim.stem):
        run(source, target)
    assert objects_of(target) == set()


def test_depth(source: Path, target: Path) -> None:
    commits = history(source, "one", "two", "three", "four")
    assert run(source, target, depth=1).copied.commits == 2
    assert {path for path in objects_of(target) if path.endswith(".commit")} == {
        f"{each[:2]}/{each[2:]}.commit" for each in commits[2:]
    }
    assert run(source, target, depth=-1).copied.commits == 2
    ostree(target, "fsck")


def test_a_dry_run_says_what_a_run_does(source: Path, target: Path) -> None:
    history(source, "one", "two", "three")
    run(source, target, depth=-1)
    four = build(source, "four", parent=refs_of(target)[REF])
    before = snapshot(target)
    how = {"signers": (GpgKey(KEY),), "retention": Retention(commits=2)}
    would = run(source, target, dry_run=True, **how)
    assert snapshot(target) == before
    done = run(source, target, **how)
    assert would == done
    assert done.pruned is not None
    assert len(done.pruned.commits) == 2
    assert refs_of(target) == {REF: four}


def test_in_place(target: Path) -> None:
    """Composed into the repository that clients pull: signed there."""
    build(target, "one")
    done = run(target, target, signers=(GpgKey(KEY),))
    assert done.copied.files == done.copied.commits == 0
    assert (target / "summary.sig").exists()
    ostree(target, "fsck")


def test_a_full_disk(source: Path, tmp_path: Path) -> None:
    build(source, "one")
    with mounted("tmpfs", tmp_path / "disk", 1 << 20) as disk:
        target = make(disk / "srv", config="min-free-space-percent=0\n")
        for room in range(4096, 200_000, 24_576):
            with (disk / "ballast").open("wb", buffering=0) as ballast:
                while (free := os.statvfs(disk).f_bavail * 4096) > room:
                    if not ballast.write(bytes(min(free - room, 1 << 16))):
                        break
            before = refs_of(target)
            try:
                run(source, target)
            except StorageError as error:
                assert "No space left" in error.message
                assert error.hint
                assert refs_of(target) == before
                assert [path.name for path in (target / "tmp").iterdir()] == ["cache"]
            (disk / "ballast").unlink()
        run(source, target)
        ostree(target, "fsck")


def test_a_read_only_target(source: Path, tmp_path: Path) -> None:
    build(source, "one")
    with mounted("tmpfs", tmp_path / "disk", 1 << 20) as disk:
        target = make(disk / "srv")
        rpmrepo.run("mount", "-o", "remount,ro", str(disk))
        with pytest.raises(RepositoryError, match="is not writable"):
            run(source, target)


def test_a_target_without_empty_directories(source: Path, target: Path) -> None:
    """As git and buckets keep it."""
    commit = build(source, "one")
    for name in ("tmp/cache", "tmp", "refs/heads", "refs/remotes"):
        (target / name).rmdir()
    run(source, target)
    assert refs_of(target) == {REF: commit}


def test_a_source_that_is_only_read(source: Path, target: Path, tmp_path: Path) -> None:
    commit = build(source, "one")
    with mounted("tmpfs", tmp_path / "disk", 16 << 20) as disk:
        shutil.copytree(source, disk / "build")
        (disk / "build/.lock").unlink(missing_ok=True)
        rpmrepo.run("mount", "-o", "remount,ro", str(disk))
        run(disk / "build", target)
    assert refs_of(target) == {REF: commit}


@pytest.mark.parametrize("mode", ["bare", "bare-user-only"])
def test_other_kinds_are_refused_with_the_way_out(mode: str, source: Path, tmp_path: Path) -> None:
    build(source, "one")
    ostree(tmp_path / "srv", "init", f"--mode={mode}")
    with pytest.raises(RepositoryError, match="cannot be copied to") as caught:
        run(source, tmp_path / "srv")
    assert "archive" in (caught.value.hint or "")


def test_the_command(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = history(source, "one", "two")
    words = ["publish", f"--repo={source}", f"--to={target}", "--progress=none"]
    assert main([*words, f"{REF}={one}", f"--gpg-key={KEY}"]) == 0
    assert f"{REF}: new -> {one} (one)" in capsys.readouterr().out
    assert main([*words, REF, f"--gpg-key={KEY}", "--keep=1", "--format=json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is False
    assert told["refs"] == [{"name": REF, "before": one, "commit": two, "version": "two"}]
    assert told["pruned"]["commits"] == [one]
    assert told["signatures"] == 2
    assert main([*words, REF]) == 2
    assert "hint: give its keys" in capsys.readouterr().err
    assert main([*words, f"{REF}={one}", f"--gpg-key={KEY}"]) == 7
    assert main([*words, REF, OTHER, "--as=os/new"]) == 2
    assert main([*words, REF, f"{REF}={one}"]) == 2
    assert main([*words, f"{REF}={one}", "--as=os/new"]) == 2
    capsys.readouterr()
    for wanted in ([REF], [REF, OTHER], [f"{REF}={one}"]):
        assert main([*words, *wanted, "--as=", f"--gpg-key={KEY}"]) == 2
        assert "--as=: the name is empty" in capsys.readouterr().err

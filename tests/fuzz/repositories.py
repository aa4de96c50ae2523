"""Repositories that others made or that a disk damaged: every command that reads one, on commits with any metadata."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compose.cli.app import main
from compose.ostree.gvariant import Variant, encode
from compose.ostree.objects import Commit, encode_commit, object_name
from compose.ostree.repo import Repo
from tests.fuzz.target import Target
from tests.support.commits import file, link, write_commit
from tests.support.publication import REF, make

_KEYS = (
    *("version", "ostree.bootable", "ostree.linux", "ostree.ref-binding", "ostree.collection-binding"),
    *("rpmostree.rpmmd-repos", "rpmostree.rpmdb.pkglist", "rpmostree.advisories", "rpmostree.inputhash"),
    *("ostree.composefs.digest.v0", "rpmostree.spec", "ostree.container-cmd", "compose.metadata"),
)
_VALUES: tuple[tuple[str, Any], ...] = (
    *(("s", "x"), ("s", ""), ("s", "a\nb\x1b[31m"), ("b", True), ("t", 1 << 63), ("i", -1), ("d", 1.5)),
    *(("ay", b"\xff\0"), ("as", ["x", "y"]), ("as", []), ("a{sv}", [("a", Variant("s", "b"))])),
    *(("aa{sv}", [[("id", Variant("s", "r")), ("timestamp", Variant("t", 5))]]), ("aa{sv}", [[]])),
    *(("aa{sv}", [[("id", Variant("i", 1)), ("timestamp", Variant("s", "x"))]]), ("v", Variant("s", "x"))),
    *(("a(sssss)", [("a", "0", "1", "1", "noarch")]), ("a(sssss)", [("a", "x", "1", "1", "noarch")])),
    *(("a(ss)", [("a", "b")]), ("(ss)", ("a", "b")), ("a(suuasa{sv})", [("A", 1, 2, ["x-1-1.noarch"], [])])),
    ("a(suuasa{sv})", [("A", 1, 2, ["x"], [("cve_references", Variant("s", "x"))])]),
)
_FILES = {
    "usr/bin/sudo": file(b"sudo", 0o4755),
    "usr/bin/sh": link("bash"),
    "usr/etc/passwd": file(b"root:x:0:0::/root:/bin/sh\n"),
    "usr/lib/group": file(b"root:x:0:\na:x:5:b,c\n"),
    "usr/lib/os-release": file(b'ID=a\nNAME="b"\n'),
    "usr/lib/systemd/system/a.service": file(b"[Install]\n"),
    "usr/etc/systemd/system/multi-user.target.wants/a.service": link("/usr/lib/systemd/system/a.service"),
    "usr/lib/modules/6.1/vmlinuz": file(b"kernel"),
    "usr/share/rpm/rpmdb.sqlite": file(b"SQLite format 3\0" + bytes(100)),
}


def repository_targets(scratch: Path) -> list[Target]:
    """scratch: an existing directory."""
    repo, cache = scratch / "damaged", scratch / "fuzz-cache"
    good = make(scratch / "good")
    roots = [_root(good, number) for number in range(3)]

    def read(data: bytes) -> None:
        chance = random.Random(data)
        shutil.rmtree(repo, ignore_errors=True)
        for name in ("published", "image"):
            shutil.rmtree(scratch / name, ignore_errors=True)
        shutil.copytree(good, repo, symlinks=True)
        shutil.copytree(good, scratch / "published", symlinks=True)
        parent = b""
        for _ in range(2):
            parent = _commit(repo, parent, chance.choice(roots), chance)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            _harm(repo, chance)
        words = chance.choice(_commands(scratch))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            status = main([*words, f"--repo={repo}", *([f"--cachedir={cache}"] if words[0] == "lint" else [])])
        if status not in (0, 1, 2, 5, 7) or "Traceback" in errors.getvalue():
            raise RuntimeError(f"{words}: {status}: {errors.getvalue()}")

    return [Target("repository", read, [bytes([number]) for number in range(40)])]


def _commands(scratch: Path) -> list[list[str]]:
    published = f"--to={scratch / 'published'}"
    return [
        *(["diff", f"{REF}^", REF, f"--format={form}"] for form in ("json", "markdown", "text")),
        *(["size", REF, f"--format={form}"] for form in ("json", "text")),
        ["size", REF, f"--since={REF}^"],
        *(["lint", REF, f"--format={form}"] for form in ("json", "text")),
        ["blame", "/usr/bin/sudo", f"--ref={REF}"],
        ["delta", REF],
        ["publish", published, REF],
        ["publish", published, REF, "--deltas=1", "--keep=1", "--progress=none"],
        ["sbom", REF],
        ["provenance", REF, "--builder-id=x"],
        ["container-encapsulate", REF, f"oci:{scratch / 'image'}"],
    ]


def _root(repo: Path, number: int) -> Commit:
    """A commit of most of the files."""
    items = {path: item for place, (path, item) in enumerate(_FILES.items()) if place % 4 != number}
    items[f"usr/share/{number}"] = file(bytes(20 + number))
    with Repo.open(str(repo)) as opened:
        return opened.read_commit(write_commit(opened, items))


def _commit(repo: Path, parent: bytes, root: Commit, chance: random.Random) -> bytes:
    """Write a commit object without libostree's or our own checks of metadata, and move the ref. Returns the checksum."""
    metadata = {key: Variant(*chance.choice(_VALUES)) for key in chance.sample(_KEYS, chance.randrange(4))}
    data = encode_commit(replace(root, metadata=tuple(metadata.items()), parent=parent))
    checksum = hashlib.sha256(data)
    place = repo / "objects" / object_name(checksum.hexdigest(), "commit")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    if chance.random() < 0.2:
        detached = [("ostree.gpgsigs", Variant(*chance.choice(_VALUES)))]
        place.with_suffix(".commitmeta").write_bytes(encode("a{sv}", detached))
    ref = repo / "refs/heads" / REF
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(f"{checksum.hexdigest()}\n")
    return checksum.digest()


def _harm(repo: Path, chance: random.Random) -> None:
    """Damage one file."""
    files = sorted(path for path in repo.rglob("*") if path.is_file() and not path.name.startswith("."))
    path, other = chance.choice(files), chance.choice(files)
    data = path.read_bytes()
    harms: list[Callable[[], object]] = [
        path.unlink,
        lambda: path.write_bytes(data[: len(data) // 2]),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(other.read_bytes()),
        lambda: path.write_bytes(bytes(byte ^ (chance.random() < 0.05) for byte in data)),
        lambda: (path.unlink(), path.mkdir()),
        lambda: (path.unlink(), path.symlink_to(os.path.basename(other))),
    ]
    chance.choice(harms)()

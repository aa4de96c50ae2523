"""A repository that is composed into, one that clients pull, and what goes from one to the other."""

from __future__ import annotations

from pathlib import Path

from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant
from compose.ostree.repo import Repo
from tests.support.commits import EPOCH, Item, file, link, write_commit

REF, OTHER = "os/x86_64/main", "os/x86_64/other"
LABEL = ((b"security.selinux", b"system_u:object_r:bin_t:s0\0"),)
HOUR = 3600


def items(content: str) -> dict[str, Item]:
    """Odd modes and owners, labels, symlinks, and what is in every commit beside what is in this one alone."""
    return {
        "usr/bin/sudo": file(b"sudo", 0o4755, 0, 3, LABEL),
        "usr/bin/sh": link("bash", LABEL),
        "usr/lib/secret": file(b"secret", 0o600, 7, 7),
        "usr/lib/empty": file(b""),
        "usr/lib/large": file(bytes(range(256)) * 20_000),
        "usr/share/content": file(content.encode() * 1000),
        f"usr/share/{content}": file(content.encode()),
    }


def make(path: Path, mode: Mode = Mode.ARCHIVE, config: str = "") -> Path:
    Repo.create(str(path), mode).__exit__()
    with (path / "config").open("a") as text:
        text.write(config)
    return path


def build(
    repo: Path,
    content: str,
    ref: str = REF,
    *,
    age: int = 0,
    parent: str = "",
    collection: str = "",
    refs: object = None,
) -> str:
    """A commit as a compose makes it. age: hours before the present."""
    metadata = [
        ("ostree.ref-binding", Variant("as", refs if refs is not None else [ref])),
        ("version", Variant("s", content)),
    ]
    if collection:
        metadata.append(("ostree.collection-binding", Variant("s", collection)))
    with Repo.open(str(repo)) as opened:
        return write_commit(
            opened, items(content), metadata=tuple(metadata), timestamp=EPOCH - age * HOUR, parent=parent, ref=ref
        )


def history(repo: Path, *contents: str, ref: str = REF) -> list[str]:
    """Commits, each with the one before as parent, an hour later."""
    found: list[str] = []
    for number, content in enumerate(contents):
        found.append(build(repo, content, ref, age=len(contents) - number, parent=found[-1] if found else ""))
    return found


def refs_of(repo: Path) -> dict[str, str]:
    with Repo.open(str(repo)) as opened:
        return opened.refs()


def objects_of(repo: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in (repo / "objects").glob("*/*")}


def snapshot(repo: Path) -> dict[str, bytes]:
    """All files, but locks."""
    return {
        str(path.relative_to(repo)): path.read_bytes()
        for path in repo.rglob("*")
        if path.is_file() and not path.name.endswith("lock")
    }

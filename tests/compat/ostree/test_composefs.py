"""composefs digests: those of libostree, and of the images that `ostree checkout` makes of a commit."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.blobs import BlobStore
from compose.commit import CommitOptions, commit_tree
from compose.errors import DamagedError, RepositoryError
from compose.events import Reporter, Task
from compose.ostree.composefs import require_program
from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant
from compose.ostree.objects import COMPOSEFS_DIGEST as DIGEST
from compose.ostree.objects import Xattrs
from compose.ostree.repo import Repo
from compose.ostree.verity import Verity
from compose.tree import Entry, Tree
from tests.compat.ostree.test_commit import MODES, make_nasty, ostree
from tests.support.disk import scan_disk

pytestmark = pytest.mark.root
REF = "os/x86_64/main"
NEED = "tests/toolbox/toolbox.sh need mkcomposefs composefs composefs"


@pytest.fixture(scope="module", autouse=True)
def program() -> None:
    assert shutil.which("mkcomposefs"), NEED


class Tasks(Reporter):
    """Notes what was begun, and how much there was to do."""

    def __init__(self) -> None:
        self.begun: dict[str, int | None] = {}

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        self.begun[name] = total
        return super().task(name, total=total, unit=unit)


def make_nastier(top: Path) -> None:
    """Sizes on the limits of blocks and of levels of their digests; names and xattrs that a text must not get wrong."""
    make_nasty(top)
    for size in (1, 63, 64, 65, 4095, 4096, 4097, 512 << 10, (512 << 10) + 1, 3 << 20):
        (top / f"bytes-{size}").write_bytes(os.urandom(size))
    with open(top / "sparse", "wb") as file:
        file.truncate(70 << 20)
    shutil.copy(top / "bytes-4097", top / "the-same")
    shutil.copy(top / "bytes-4097", top / "the-same-but-closed")
    (top / "the-same-but-closed").chmod(0o600)
    for name in ("a b", "back\\slash", "new\nline", "tab\t", "-", "e=q", "@", "#", "\\x2d", "ctrl\x01\x7f", "ß\u2028"):
        (top / name).write_text(name)
        os.symlink(name, top / f"to {name}")
    os.symlink("x" * 1023, top / "longer-target")
    (top / ".ostree-wh.gone").touch()
    (top / ".wh.gone").touch()
    for name, value in (
        ("user.sp ace=x\n\\y", b"val =\\\n\xff\0"),
        ("user.n", b"\n"),
        ("trusted.overlay.opaque", b"y"),
        ("trusted.overlay.redirect", b"/usr"),
        ("trusted.overlay.metacopy", b"x"),
        ("user.overlay.opaque", b"y"),
        ("user.long", b"long" * 200),
    ):
        os.setxattr(top / "a b", name, value)
        os.setxattr(top / "many", name, value)
    os.setxattr(top / "usr", "trusted.overlay.whiteouts", b"y")
    os.setxattr(top / "to -", "trusted.overlay.x", b"y", follow_symlinks=False)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("nasty") / "root"
    top.mkdir()
    make_nastier(top)
    return top


def commit(
    tree: Tree,
    blobs: BlobStore,
    repo: Path,
    *,
    memo: Path | None = None,
    reporter: Reporter | None = None,
    given: tuple[tuple[str, Variant], ...] = (("version", Variant("s", "1")),),
) -> str:
    options = CommitOptions(
        metadata=given, parent=None, timestamp=0, ref=REF, jobs=2, memo=None if memo is None else str(memo)
    )
    with Repo.open(str(repo)) as opened:
        return commit_tree(tree, blobs, opened, options, reporter or Reporter()).checksum


def digest_of(repo: Path, revision: str = REF) -> str:
    return ostree(repo, "show", "--print-hex", f"--print-metadata-key={DIGEST}", revision)


def of_the_real_tool(repo: Path) -> str:
    """For the tree of the ref."""
    how = ("--timestamp=@0", f"--tree=ref={REF}", "--generate-composefs-metadata")
    return digest_of(repo, ostree(repo, "commit", "--branch=theirs", *how))


def measured(path: Path) -> str:
    verity = Verity()
    verity.update(path.read_bytes())
    return verity.digest().hex()


@pytest.mark.parametrize("mode", MODES)
def test_that_of_the_real_tool_and_of_the_image_it_makes(
    mode: Mode, nasty: Path, tree: Tree, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it makes the image in the directory that it is called from
    monkeypatch.chdir(tmp_path)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    ostree(theirs, "init", f"--mode={mode.removesuffix('-z2')}")
    how = ("--timestamp=@0", "--add-metadata-string=version=1", "--generate-composefs-metadata")
    ostree(theirs, "commit", f"--branch={REF}", f"--tree=dir={nasty}", *how)
    Repo.create(str(ours), mode, composefs=True)
    checksum = commit(tree, blobs, ours)
    assert digest_of(ours) == digest_of(theirs)
    ostree(ours, "fsck")
    client = tmp_path / "client"
    ostree(client, "init", "--mode=bare-user")
    ostree(client, "pull-local", str(ours), checksum)
    ostree(client, "checkout", "--composefs", checksum, "image")
    assert measured(tmp_path / "image") == digest_of(ours)


def test_the_real_tool_refuses_another_digest(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    Repo.create(str(repo), Mode.BARE_USER)
    commit(tree, blobs, repo, given=((DIGEST, Variant("ay", bytes(32))),))
    with pytest.raises(AssertionError, match="doesn't match expected digest"):
        ostree(repo, "checkout", "--composefs", REF, str(tmp_path / "image"))


@pytest.mark.parametrize("value", ["yes", "true", "1", "maybe"])
def test_each_spelling_of_the_switch(value: str, blobs: BlobStore, tmp_path: Path) -> None:
    tree, repo = Tree({"": Entry(mode=stat.S_IFDIR | 0o755)}), tmp_path / "repo"
    ostree(repo, "init")
    commit(tree, blobs, repo)
    assert DIGEST not in ostree(repo, "show", "--raw", REF)
    ostree(repo, "config", "set", "ex-integrity.composefs", value)
    commit(tree, blobs, repo)
    assert digest_of(repo) == of_the_real_tool(repo)


def test_keys_stay_sorted_and_another_digest_is_replaced(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"), composefs=True)
    given = (("a", Variant("s", "")), (DIGEST, Variant("ay", bytes(32))), ("version", Variant("s", "1")))
    checksum = commit(tree, blobs, tmp_path / "repo", given=given)
    with Repo.open(str(tmp_path / "repo")) as repo:
        metadata = repo.read_commit(checksum).metadata
    assert [key for key, _ in metadata] == ["a", DIGEST, "version"]
    assert dict(metadata)[DIGEST].value != bytes(32)


def test_what_did_not_change_is_not_read_again(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    for name in ("one", "other"):
        Repo.create(str(tmp_path / name), composefs=True)
    first, again, changed = Tasks(), Tasks(), Tasks()
    commit(tree, blobs, tmp_path / "one", memo=tmp_path / "memo", reporter=first)
    total = sum({each.blob.digest: each.blob.size for each in tree.entries.values() if each.blob}.values())
    # one that another owner has is the same
    assert first.begun["Measuring files"] == total
    commit(tree, blobs, tmp_path / "other", memo=tmp_path / "memo", reporter=again)
    assert "Measuring files" not in again.begun
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "other")
    with blobs.writer() as writer:
        writer.write(b"new")
        blob = writer.commit()
    editor = tree.edit()
    editor.put("new", Entry(mode=stat.S_IFREG | 0o644, blob=blob))
    commit(editor.build(), blobs, tmp_path / "one", memo=tmp_path / "memo", reporter=changed)
    assert changed.begun["Measuring files"] == 3


def test_nothing_is_measured_unless_asked_for(tree: Tree, blobs: BlobStore, tmp_path: Path) -> None:
    tasks = Tasks()
    Repo.create(str(tmp_path / "repo"))
    commit(tree, blobs, tmp_path / "repo", reporter=tasks)
    assert [*tasks.begun] == ["Writing objects"]


def test_a_damaged_blob_is_found_though_its_object_is_there(tmp_path: Path) -> None:
    top = tmp_path / "root"
    top.mkdir()
    (top / "file").write_bytes(b"good")
    tree = scan_disk(top, BlobStore(str(tmp_path / "blobs")))
    # another: it has made nothing itself
    blobs = BlobStore(str(tmp_path / "blobs"))
    Repo.create(str(tmp_path / "repo"))
    commit(tree, blobs, tmp_path / "repo", memo=tmp_path / "memo")
    ostree(tmp_path / "repo", "config", "set", "ex-integrity.composefs", "true")
    before = ostree(tmp_path / "repo", "rev-parse", REF)
    blob = tree["file"].blob
    assert blob is not None
    path = Path(blobs.path(blob))
    path.chmod(0o644)
    path.write_bytes(b"evil")
    with pytest.raises(DamagedError, match="was damaged"):
        commit(tree, blobs, tmp_path / "repo", memo=tmp_path / "memo")
    assert not path.exists()
    assert ostree(tmp_path / "repo", "rev-parse", REF) == before


def test_what_no_image_can_hold_is_told_and_nothing_is_committed(blobs: BlobStore, tmp_path: Path) -> None:
    Repo.create(str(tmp_path / "repo"), composefs=True)
    xattrs = ((b"user.x", b"x" * (1 << 17)),)
    tree = Tree({"": Entry(mode=stat.S_IFDIR | 0o755, xattrs=xattrs)})
    with pytest.raises(RepositoryError, match="cannot compute the composefs digest"):
        commit(tree, blobs, tmp_path / "repo")
    assert ostree(tmp_path / "repo", "refs") == ""
    assert not list((tmp_path / "repo/objects").rglob("*.*"))
    # nor can the real tool
    ostree(tmp_path / "plain", "init")
    commit(tree, blobs, tmp_path / "plain")
    with pytest.raises(AssertionError, match="composefs"):
        ostree(tmp_path / "plain", "commit", "--branch=x", f"--tree=ref={REF}", "--generate-composefs-metadata")


def test_a_root_with_attributes_and_mount_points_of_other_kinds(blobs: BlobStore, tmp_path: Path) -> None:
    xattrs = ((b"user.a", b"-"), (b"user.b", b""), (b"user.c", b"c" * 30_000))
    with blobs.writer() as writer:
        writer.write(b"no directory")
        blob = writer.commit()
    tree = Tree(
        {
            "": Entry(mode=stat.S_IFDIR | 0o1711, uid=3, gid=4, xattrs=xattrs),
            "boot": Entry(mode=stat.S_IFDIR | 0o700, uid=5, gid=6, xattrs=xattrs[:2]),
            "etc": Entry(mode=stat.S_IFLNK | 0o777, target="usr/etc", xattrs=xattrs[:1]),
            "sysroot": Entry(mode=stat.S_IFREG | 0o644, blob=blob),
        }
    )
    Repo.create(str(tmp_path / "repo"), Mode.BARE_USER, composefs=True)
    commit(tree, blobs, tmp_path / "repo")
    assert digest_of(tmp_path / "repo") == of_the_real_tool(tmp_path / "repo")


def test_the_program_is_tried() -> None:
    """That it lays out as libostree does is what the other tests show."""
    require_program()


names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..")
)
owners = st.integers(0, 70_000)
xattrs = st.dictionaries(
    st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name).map(lambda name: b"user." + name),
    st.binary(max_size=60) | st.just(b"-"),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))
kinds = st.one_of(
    st.none(),
    st.binary(max_size=70),
    st.integers(0, 20_000).map(bytes),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300),
)


rows = st.lists(st.tuples(st.integers(0, 8), names, kinds, st.integers(0, 0o7777), owners, owners, xattrs), max_size=12)


@settings(max_examples=25)
@given(rows=rows)
def test_trees_of_all_sorts(
    rows: list[tuple[int, str, bytes | str | None, int, int, int, Xattrs]],
    blobs: BlobStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directories = [""]
    entries = {"": Entry(mode=stat.S_IFDIR | 0o755)}
    for above, name, content, mode, uid, gid, attributes in rows:
        parent = directories[above % len(directories)]
        path = f"{parent}/{name}" if parent else name
        if path in entries or len(name.encode()) > 255:
            continue
        owner = {"uid": uid, "gid": gid, "xattrs": attributes}
        if content is None:
            entries[path] = Entry(mode=stat.S_IFDIR | mode, **owner)
            directories.append(path)
        elif isinstance(content, str):
            entries[path] = Entry(mode=stat.S_IFLNK | 0o777, target=content, **owner)
        else:
            with blobs.writer(mode) as writer:
                writer.write(content)
                entries[path] = Entry(mode=stat.S_IFREG | mode, blob=writer.commit(), **owner)
    repo = tmp_path_factory.mktemp("repo")
    Repo.create(str(repo), Mode.BARE_USER, composefs=True)
    commit(Tree(entries), blobs, repo)
    assert digest_of(repo) == of_the_real_tool(repo)

"""Replayed programs: what real programs look at, and whether replaying them has the same result as running them.

Each replay is checked against the program itself: after every change of the tree, the result of the remembered run is compared
with that of running the program on the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.sandbox.lookups import abi_of
from compose.tree import Entry, Tree, TreeEditor
from compose.workroot import workroot
from compose.workroot.materialise import MOUNT_POINTS, as_materialised
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot
from tests.support.told import Told
from tests.support.workroots import scan

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(abi_of(os.uname().machine) is None, reason="unknown system calls"),
]


class Site:
    """Runs programs with one memory, and knows which of them were actually run."""

    def __init__(self, store: BlobStore, path: Path) -> None:
        self.store = store
        self.path = path
        self.memory = ProgramMemory(str(path / "programs"))

    def run(self, tree: Tree, *programs: Program, remembering: bool = True) -> tuple[Tree, list[ProgramRecord]]:
        memory = self.memory if remembering else None
        with Workroot(
            tree, self.store, str(self.path / "root"), reporter=Reporter(), epoch=1_700_000_000, memory=memory
        ) as root:
            root.apply(tree)
            records = [root.run(program) for program in programs]
            return root.absorb(), records


@pytest.fixture
def site(store: BlobStore, tmp_path: Path) -> Site:
    return Site(store, tmp_path)


def timeless(tree: Tree) -> Tree:
    """The part of a tree that a commit holds: contents by digest, no times."""
    return Tree(
        {
            path: replace(entry, mtime=0, blob=entry.blob and replace(entry.blob, mtime=0))
            for path, entry in tree.entries.items()
        }
    )


def shell(body: str, **more: object) -> Program:
    return Program(owner="scriptlet:x", phase="%post", argv=("/bin/sh", "{script}"), body=body, **more)  # type: ignore[arg-type]


def was_run(record: ProgramRecord) -> bool:
    return record.seconds > 0


def without(tree: Tree, path: str) -> Tree:
    editor = tree.edit()
    editor.remove(path)
    return editor.build()


def put(path: str, text: str) -> Callable[[TreeEditor, BlobStore], None]:
    def change(editor: TreeEditor, store: BlobStore) -> None:
        editor.remove(path)
        editor.add_file(path, store.add_bytes(text.encode(), 0o644, 5), writer="t")

    return change


def link(path: str, target: str) -> Callable[[TreeEditor, BlobStore], None]:
    def change(editor: TreeEditor, store: BlobStore) -> None:
        del store
        editor.remove(path)
        editor.add_symlink(path, target, writer="t")

    return change


def gone(path: str) -> Callable[[TreeEditor, BlobStore], None]:
    def change(editor: TreeEditor, store: BlobStore) -> None:
        del store
        editor.remove(path)

    return change


def owner(path: str, uid: int) -> Callable[[TreeEditor, BlobStore], None]:
    def change(editor: TreeEditor, store: BlobStore) -> None:
        del store
        editor.replace(path, uid=uid)

    return change


CHANGES = {
    "nothing": lambda editor, store: None,
    "a file's content": put("usr/full/a", "A"),
    "another file's content": put("usr/full/deep/b", "B"),
    "a file that was missing": put("usr/full/c", "c"),
    "a directory that was missing": put("usr/none/x", "x"),
    "a file gone": gone("usr/full/a"),
    "a directory gone": gone("usr/full/deep"),
    "a symlink in place of a directory": link("usr/full/deep", "/etc"),
    "an owner": owner("usr/full/a", 7),
    "accounts": put("etc/passwd", "root:x:0:0::/root:/bin/sh\nnew:x:5:5::/:/bin/sh\n"),
    "when a directory was made": lambda editor, store: editor.replace("usr/full", mtime=99),
    "something else": put("usr/lib/leaf/x", "x"),
}
PROGRAMS = {
    "reads": "cat /usr/full/a > /usr/out",
    "reads relative to a directory": "cd /usr/full && cat ./a deep/../a > /usr/out",
    "tests": "if [ -e /usr/full/c ]; then echo yes; else echo no; fi > /usr/out",
    "tests below what is missing": "[ -e /usr/none/x ] && touch /usr/yes; true",
    "lists": "ls /usr/full > /usr/out",
    # but not how many names a file has: of a blob that depends on the cachedir
    "lists long": "set -- $(ls -ln /usr/full/a); echo $1 $3 $4 $5 > /usr/out",
    "globs": "for f in /usr/full/*; do echo $f; done > /usr/out",
    "walks": "ls -R /usr/full > /usr/out",
    "appends": "echo more >> /usr/full/a",
    "moves": "[ ! -e /usr/full/a ] || mv /usr/full/a /usr/full/z",
    "links": "[ ! -e /usr/full/a ] || ln /usr/full/a /usr/full/hard",
    "moves a directory": "[ ! -e /usr/full/deep ] || mv /usr/full/deep /usr/full/deeper",
    "removes": "rm -rf /usr/full",
    "replaces": "rm -rf /usr/full; mkdir /usr/full; echo new > /usr/full/new",
    "changes modes": "chmod 600 /usr/full/a 2>/dev/null; true",
    "copies": "cp -a /usr/full /usr/copy",
    "follows its own symlink": "ln -s full /usr/ln; cat /usr/ln/a > /usr/out; true",
    "follows a symlink in /tmp": "ln -s /usr/full /tmp/ln; cat /tmp/ln/a > /usr/out; [ -e /tmp/ln/c ] && touch /usr/c; true",
    "follows a relative symlink in /tmp": "mkdir /tmp/d; ln -s ../../usr/full/a /tmp/d/ln; cat /tmp/d/ln > /usr/out; true",
    "lists by a symlink in /tmp": "ln -s /usr/full /tmp/ln; cd /tmp/ln; ls > /usr/out",
    "reads by a descriptor": "exec 3< /usr/full/a; cat /proc/self/fd/3 > /usr/out; true",
    "runs": "/usr/full/a 2>/dev/null; echo $? > /usr/out",
    "reads by its root in /proc": "cat /proc/self/root/usr/full/a > /usr/out; true",
    "reads below /dev/stdin": "cat /dev/stdin/a > /usr/out < /usr/full; true",
    "reads by way of /proc and back": "cat /proc/self/../self/root/usr/full/a > /usr/out; true",
    "follows a symlink that is gone again": (
        "ln -s full/a /usr/l; [ -e /usr/l ] && echo yes > /usr/yes; cat /usr/l > /usr/out; rm /usr/l; true"
    ),
    "follows a symlink that leads elsewhere then": (
        "ln -s full/a /usr/l; cat /usr/l > /usr/out; ln -sf full/deep/b /usr/l; true"
    ),
    "follows a symlink that another replaces": (
        "ln -s full/a /usr/l; cat /usr/l > /usr/out; ln -s full/deep/b /usr/m; mv -T /usr/m /usr/l; true"
    ),
    "follows a symlink to a directory that is made anew": (
        "ln -s full /usr/l; cat /usr/l/a > /usr/out; rm /usr/l; ln -s full/deep /usr/l; true"
    ),
    "follows a symlink of two names": (
        "ln -s full/a /usr/l; ln /usr/l /usr/m; cat /usr/m > /usr/out; rm /usr/l /usr/m; true"
    ),
    "follows a symlink that it made from /tmp": (
        "cd /tmp; ln -s full/a ../usr/l; cat /usr/l > /usr/out; rm /usr/l; true"
    ),
    "moves a directory and back": (
        "[ ! -e /usr/full ] || mv /usr/full /usr/m; cat /usr/m/a > /usr/out; mv /usr/m /usr/full; true"
    ),
    "tells times": "stat -c '%n %Y' /usr/full /usr/full/deep > /usr/out; true",
    "reads accounts": "id new > /usr/out 2>&1; true",
    "is another program": "env cat /usr/full/deep/b > /usr/out; true",
}
# what must make them run again; all else must not
NOTICED = {
    "tests": {"a file that was missing"},
    "tests below what is missing": {"a directory that was missing"},
    "reads": {"a file's content", "a file gone", "an owner"},
    "reads relative to a directory": {
        *("a file's content", "a file gone", "an owner", "a directory gone", "a symlink in place of a directory"),
    },
    "reads accounts": {"accounts"},
    "follows a symlink that is gone again": {"a file's content", "a file gone", "an owner"},
    "follows a symlink that it made from /tmp": {"a file's content", "a file gone", "an owner"},
    "lists": {"a file that was missing", "a file gone", "a directory gone", "a symlink in place of a directory"},
    "is another program": {"another file's content", "a directory gone", "a symlink in place of a directory"},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_not_run_again_is_what_it_would_do(name: str, small: Tree, site: Site, tmp_path: Path) -> None:
    program = shell(PROGRAMS[name])
    site.run(small, program)
    again = set()
    for what, change in CHANGES.items():
        editor = small.edit()
        change(editor, site.store)
        changed = editor.build()
        # each from the memory of the first run alone
        if (site.path / "programs").exists():
            shutil.copytree(
                site.path / "programs", tmp_path / what / "programs", ignore=shutil.ignore_patterns("lower-*")
            )
        (tmp_path / what).mkdir(exist_ok=True)
        found, (record,) = Site(site.store, tmp_path / what).run(changed, program)
        if was_run(record):
            again.add(what)
            continue
        expected, _ = site.run(changed, program, remembering=False)
        found, expected = timeless(found), timeless(expected)
        differ = {path for path in {*expected.entries, *found.entries} if expected.get(path) != found.get(path)}
        assert not differ, what
    if "/proc" in name or "/dev" in name:
        # where that leads is not followed
        assert again == set(CHANGES)
    else:
        assert not again & {"nothing", "something else"}
    if name in NOTICED:
        assert again == NOTICED[name]


def test_the_interpreter_of_a_script_is_looked_at(small: Tree, site: Site) -> None:
    """The kernel opens it without notifying the observer."""
    program = Program(owner="step:postprocess", phase="script", argv=("{script}",), body="#!/usr/full/interpreter\n")
    made = []
    for text in ("one", "one", "two"):
        editor = small.edit()
        blob = site.store.add_bytes(f"#!/bin/sh\necho {text} > /usr/out\n".encode(), 0o755, 5)
        editor.add_file("usr/full/interpreter", blob, 0o755, writer="t")
        tree, (record,) = site.run(editor.build(), program)
        assert record.status == 0, record.output
        found = tree["usr/out"].blob
        assert found is not None
        made.append((site.store.read(found), was_run(record)))
    assert made == [(b"one\n", True), (b"one\n", False), (b"two\n", True)]


WRITE = "printf '#!/usr/full/interpreter\\n' > {0}; chmod 755 {0}; "
OWN_SCRIPTS = {
    "in /tmp": WRITE.format("/tmp/s") + "/tmp/s > /usr/out",
    "from /tmp": "cd /tmp; " + WRITE.format("./s") + "./s > /usr/out",
    "in the tree": WRITE.format("/usr/s") + "/usr/s > /usr/out; rm /usr/s",
    "under the name of another": (
        "printf '#!/bin/cat\\n' > /usr/s; chmod 755 /usr/s; /usr/s; "
        + WRITE.format("/usr/s")
        + "/usr/s > /usr/out; rm /usr/s"
    ),
    "by a symlink": WRITE.format("/tmp/s") + "ln -s s /tmp/l; /tmp/l > /usr/out",
    "as the interpreter of another": WRITE.format("/tmp/s")
    + "printf '#!/tmp/s' > /tmp/t; chmod 755 /tmp/t; /tmp/t > /usr/out",
    "by a descriptor": WRITE.format("/tmp/s") + "exec 3< /tmp/s; /proc/self/fd/3 > /usr/out",
}


@pytest.mark.parametrize("how", OWN_SCRIPTS)
def test_the_interpreter_of_a_script_that_a_program_wrote(how: str, small: Tree, site: Site) -> None:
    """The script may be gone later, so its interpreter must be recorded when it is run."""
    made = []
    for program in ("cat", "cat", "ls"):
        editor = small.edit()
        editor.put("usr/full/interpreter", small[f"usr/bin/{program}"])
        tree, (record,) = site.run(editor.build(), shell(OWN_SCRIPTS[how]))
        assert record.status == 0, record.output
        found = tree["usr/out"].blob
        assert found is not None
        made.append((site.store.read(found).startswith(b"#!"), was_run(record)))
    assert made == [(True, True), (True, False), (False, True)]


def test_nothing_is_on_disk_when_nothing_runs(small: Tree, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = (shell("echo new > /usr/new"), shell("cat /usr/new; chown 5:6 /usr/new"))
    first, _ = site.run(small, *programs)

    def refuse(*_arguments: object, **_more: object) -> None:
        raise AssertionError("a live root was made")

    monkeypatch.setattr(workroot, "LiveRoot", refuse)
    second, records = site.run(small, *programs)
    assert second == first
    assert (records[1].output, records[1].changed) == ("new\n", ("usr/new",))


def test_what_was_done_without_a_program_is_there_for_the_next(small: Tree, site: Site) -> None:
    done = shell(
        "mkdir -m 2750 /usr/made; echo text > /usr/made/f; chown 5:6 /usr/made /usr/made/f; chmod 640 /usr/made/f;"
        " ln /usr/made/f /usr/made/g; rm -r /usr/full/deep; ln -s made /usr/link; rm /usr/capable; echo x >> /etc/passwd"
    )
    look = "ls -lnR /usr/made; ls -R /usr/full; cat /usr/link/f /etc/passwd; [ -e /usr/capable ] || echo gone"
    site.run(small, done)
    for first in ((), (shell("echo a live root is there"),)):
        _, (*_, record) = site.run(small, *first, done, shell(look), remembering=False)
        _, (*_, repeated, now) = site.run(small, *first, done, shell(f"{look} # {len(first)}"))
        assert not was_run(repeated)

        def lines(text: str) -> list[str]:
            # without the time of day
            return [" ".join(word for word in line.split(" ") if ":" not in word) for line in text.splitlines()]

        assert lines(now.output) == lines(record.output)


def test_before_owners_are_known(small: Tree, site: Site) -> None:
    """Files made by %pre have their owner at once; packaged files are root's until apply()."""
    make = shell("echo s > /etc/shadow; chmod 640 /etc/shadow; chown 1:42 /etc/shadow")
    for look, times in (("ls -ln /etc/shadow /usr/setuid", 1), ("ls -ln /usr/setuid /etc/shadow", 2)):
        with Workroot(
            small, site.store, str(site.path / "root"), reporter=Reporter(), epoch=1, memory=site.memory
        ) as root:
            assert was_run(root.run(make)) == (times == 1)
            rows = {line.split()[-1]: line.split()[:4] for line in root.run(shell(look)).output.splitlines()}
            assert rows["/etc/shadow"] == ["-rw-r-----", "1", "1", "42"]
            assert rows["/usr/setuid"] == ["-rwxr-xr-x", "1", "0", "0"]
            root.apply(small)
            assert root.run(shell("ls -ln /usr/setuid")).output.startswith("-rwsr-xr-x 1 3 4")


@pytest.mark.parametrize("before", [(), (shell("exit 1"),)])
def test_lua(before: tuple[Program, ...], small: Tree, site: Site) -> None:
    """Lua runs in our own process, which is hidden from programs but not from the observer."""
    body = "for name in posix.files('/usr/full') do print(name) end print(posix.stat('/usr/full/c', 'type'))"
    program = Program(owner="scriptlet:x", phase="%post", argv=("<lua>", "1"), body=body, lua=True)
    site.run(small, *before, program)
    _, (*_, record) = site.run(small, *before, program)
    assert not was_run(record)
    editor = small.edit()
    put("usr/full/c", "c")(editor, site.store)
    _, (*_, record) = site.run(editor.build(), *before, program)
    assert was_run(record)
    assert record.output.endswith("regular\n")


def test_what_is_looked_at_after_the_output_was_closed(small: Tree, site: Site) -> None:
    program = shell("exec >&- 2>&-; sleep 0.1; cat /usr/full/a >/usr/made")
    site.run(small, program)
    _, (record,) = site.run(small, program)
    assert not was_run(record)
    editor = small.edit()
    put("usr/full/a", "another")(editor, site.store)
    tree, (record,) = site.run(editor.build(), program)
    assert was_run(record)
    made = tree["usr/made"].blob
    assert made is not None
    assert made.size == len("another")


@pytest.mark.parametrize("ends", ["exit 3", "kill -9 $$", "sleep 5"])
def test_what_failed_is_tried_again(ends: str, small: Tree, site: Site) -> None:
    program = shell(f"touch /usr/made; {ends}", timeout=0.5)
    for _ in range(2):
        _, (record,) = site.run(small, program)
        assert record.status != 0
        assert was_run(record)


@pytest.mark.parametrize(
    "other",
    [
        shell("cat /usr/full/a # more"),
        shell("cat /usr/full/a", stdin=b"x"),
        shell("cat /usr/full/a", environment=(("X", "1"),)),
        replace(shell("cat /usr/full/a"), argv=("/bin/sh", "{script}", "2")),
    ],
)
def test_another_program_is_another(other: Program, small: Tree, site: Site) -> None:
    site.run(small, shell("cat /usr/full/a"))
    _, (record,) = site.run(small, other)
    assert was_run(record)


@pytest.mark.parametrize("fault", ["memory cut short", "memory of something else", "content lost", "content cut short"])
def test_a_damaged_cache_is_not_believed(fault: str, small: Tree, site: Site) -> None:
    program = shell(f"echo {fault} > /usr/made")
    expected, _ = site.run(small, program)
    memory = Path(*site.memory.paths())
    blob = expected["usr/made"].blob
    assert blob is not None
    content = Path(site.store.path(blob))
    match fault:
        case "memory cut short":
            memory.write_bytes(memory.read_bytes()[:-20])
        case "memory of something else":
            memory.write_bytes(b"[]")
        case "content lost":
            content.unlink()
        case "content cut short":
            os.truncate(content, 3)
    found, (record,) = site.run(small, program)
    assert was_run(record)
    assert timeless(found) == timeless(expected)
    now = found["usr/made"].blob
    assert now is not None
    assert site.store.read(now).decode() == f"{fault}\n"
    # healed
    _, (record,) = site.run(small, program)
    assert not was_run(record)


def test_a_few_states_of_the_tree_are_remembered(small: Tree, site: Site) -> None:
    program = shell("cat /usr/full/a")
    trees = []
    for number in range(5):
        editor = small.edit()
        put("usr/full/a", str(number))(editor, site.store)
        trees.append(editor.build())
    for tree in trees:
        site.run(tree, program)
    ran = [was_run(site.run(tree, program)[1][0]) for tree in reversed(trees)]
    assert ran == [False, False, False, False, True]


def test_what_is_warned_of_is_warned_of_again(small: Tree, site: Site) -> None:
    told = Told()
    for _ in range(2):
        with Workroot(small, site.store, str(site.path / "root"), reporter=told, epoch=1, memory=site.memory) as root:
            root.run(shell("mkfifo /usr/fifo"))
            root.absorb()
    assert told.warnings == ["/usr/fifo: fifo made by scriptlet:x:%post dropped, a commit cannot hold it"] * 2


ALWAYS = shell("exit 1")
"""Never remembered, so that a live root is made."""


def test_the_lower_layer_is_brought_to_the_next_tree(small: Tree, site: Site) -> None:
    site.run(small, ALWAYS)
    lower = site.path / "programs/lower-0/tree"
    kept = (lower / "usr/bin/cat").stat().st_ino
    editor = small.edit()
    for name in (
        "a file's content",
        "an owner",
        "a file that was missing",
        "a symlink in place of a directory",
        "accounts",
    ):
        CHANGES[name](editor, site.store)
    editor.remove("usr/private")
    editor.add_symlink("usr/private", "full", writer="t")
    editor.remove("bin")
    editor.add_dir("bin", writer="t")
    editor.put("usr/twin", replace(small["usr/setuid"], link="twins"))
    editor.put("usr/other-twin", replace(small["usr/setuid"], link="twins"))
    editor.remove("dev")
    # the second one finds the root of the first, with all that is to change
    for tree in (editor.build(), small):
        site.run(tree, ALWAYS)
        assert shown(lower, site) == as_it_should_be(tree)
        assert (lower / "usr/bin/cat").stat().st_ino == kept


def give_away(path: Path) -> None:
    if os.geteuid():
        # to one of the user's subordinate ids
        subprocess.run(["unshare", "--user", "--map-root-user", "--map-auto", "chown", "5:5", path], check=True)
    else:
        os.chown(path, 5, 5)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a file gone": lambda lower: (lower / "etc/passwd").unlink(),
    "a file of the same size and time": lambda lower: copied(lower / "usr/full/a", b"b"),
    "a copy changed in place": lambda lower: copied(lower / "usr/setuid", b"SETUID"),
    "a file more": lambda lower: copied(lower / "usr/full/deep/more", b"more"),
    "a directory more": lambda lower: (lower / "usr/full/more/deep").mkdir(parents=True),
    "a directory as a symlink": lambda lower: (
        (lower / "usr/full").rename(lower / "usr/f"),
        (lower / "usr/full").symlink_to("f"),
    )[1],
    "a symlink that leads out": lambda lower: ((lower / "bin").unlink(), (lower / "bin").symlink_to(elsewhere(lower)))[
        1
    ],
    "a symlink as a file": lambda lower: copied(lower / "sbin", b"x"),
    "a file as a directory": lambda lower: ((lower / "usr/full/a").unlink(), (lower / "usr/full/a").mkdir())[1],
    "another mode and time": lambda lower: (os.chmod(lower / "usr/full", 0o700), os.utime(lower / "usr/full", (9, 9)))[
        1
    ],
    "somebody else's": lambda lower: give_away(lower / "usr/full"),
    "all of it somebody else's": give_away,
    "a file in its own place": lambda lower: (shutil.rmtree(lower), lower.write_bytes(b""))[0],
    "a symlink in its own place": lambda lower: (shutil.rmtree(lower), lower.symlink_to(elsewhere(lower)))[1],
    "a symlink above it": lambda lower: (
        shutil.rmtree(lower.parent),
        lower.parent.symlink_to(elsewhere(lower)),
    )[1],
}


def elsewhere(lower: Path) -> Path:
    """A directory outside the cachedir, to which symlinks lead: nothing in it may change."""
    return lower.parents[2] / "elsewhere"


def copied(path: Path, data: bytes) -> None:
    """Replace a path by a file with the same mode and times."""
    times = path.stat() if path.exists() and not path.is_dir() else None
    if path.is_symlink() or path.exists():
        path.unlink()
    path.write_bytes(data)
    if times is not None:
        os.chmod(path, times.st_mode)
        os.utime(path, ns=(times.st_mtime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_lower_layer_heals(damage: str, small: Tree, site: Site) -> None:
    site.run(small, ALWAYS)
    lower = site.path / "programs/lower-0/tree"
    (elsewhere(lower) / "tree/usr").mkdir(parents=True)
    (elsewhere(lower) / "tree/usr/file").write_text("not ours")
    before = sorted(elsewhere(lower).rglob("*"))
    DAMAGE[damage](lower)
    # the next compose, which knows nothing of what this one left
    site.memory = ProgramMemory(str(site.path / "programs"))
    site.run(small, ALWAYS)
    assert sorted(elsewhere(lower).rglob("*")) == before
    assert shown(lower, site) == as_it_should_be(small)
    assert (lower / "usr/full").stat().st_mtime == small["usr/full"].mtime
    assert small["usr/full/a"].blob is not None
    assert site.store.read(small["usr/full/a"].blob) == b"a"


def test_two_live_roots_at_once(small: Tree, site: Site) -> None:
    with (
        Workroot(small, site.store, str(site.path / "one"), reporter=Reporter(), epoch=1, memory=site.memory) as one,
        Workroot(small, site.store, str(site.path / "two"), reporter=Reporter(), epoch=1, memory=site.memory) as two,
    ):
        assert one.run(shell("echo one > /usr/full/a; cat /usr/full/a; exit 1")).output == "one\n"
        assert two.run(shell("cat /usr/full/a; exit 1")).output == "a"
        assert len(site.memory.lowers()) == 2
    site.run(small, ALWAYS)
    assert len(site.memory.lowers()) == 2


def shown(lower: Path, site: Site) -> dict[str, tuple[object, ...]]:
    tree = scan(str(lower), site.store, writer="t", reporter=Reporter())
    # from outside, what is root's is the user's
    mine = {os.geteuid(): 0, os.getegid(): 0}
    inside = {
        path: replace(entry, uid=mine.get(entry.uid, entry.uid), gid=mine.get(entry.gid, entry.gid))
        for path, entry in tree.entries.items()
    }
    return {path: facts(entry) for path, entry in inside.items()}


def as_it_should_be(tree: Tree) -> dict[str, tuple[object, ...]]:
    points = {path: facts(Entry(mode=0o40755)) for path in MOUNT_POINTS if tree.is_dir(path.rpartition("/")[0])}
    return points | {path: facts(as_materialised(entry)) for path, entry in tree.entries.items()}


def facts(entry: Entry) -> tuple[object, ...]:
    return entry.mode, entry.uid, entry.gid, entry.target, entry.blob and entry.blob.digest


# version 2; everything for the owner, the group and others (linux/posix_acl_xattr.h)
_OPEN_DOOR = "0x02000000" + "".join(f"{tag:02x}000700ffffffff" for tag in (1, 4, 32))


@pytest.mark.parametrize(
    ("hostile", "innocent"),
    [
        ("mkfifo /etc/flag", "[ ! -e /etc/flag ] || echo found >/etc/result"),
        (
            f"setfattr -n system.posix_acl_default -v {_OPEN_DOOR} /etc",
            "rm /etc/a; umask 22; echo 1 >/etc/c; mkdir /etc/d",
        ),
        ("setfattr -n user.flag /etc/a", "getfattr -n user.flag /etc/a && echo found >/etc/result; true"),
        ("setfattr -n user.overlay.opaque -v y /usr/full", "[ ! -e /usr/full/a ] || echo found >/etc/result"),
        ("rm /etc/b; ln /etc/a /etc/b", "echo more >>/etc/a"),
    ],
    ids=["fifo", "ACL", "xattr", "opaque", "link"],
)
def test_what_a_tree_cannot_hold_does_not_reach_other_composes(
    site: Site, small: Tree, hostile: str, innocent: str
) -> None:
    """A hostile package leaves something for a program of another package, which is then remembered."""
    editor = small.edit()
    for name in ("etc/a", "etc/b"):
        put(name, "")(editor, site.store)
    tree = editor.build()
    _, records = site.run(tree, shell(hostile), shell(innocent))
    assert [record.status for record in records] == [0, 0], records
    for other in (tree, without(tree, "usr/full/a")):
        wanted, _ = site.run(other, shell(innocent), remembering=False)
        found, _ = site.run(other, shell(innocent))
        assert timeless(found).entries == timeless(wanted).entries


def test_a_private_directory_that_the_tree_has_elsewhere(site: Site, small: Tree) -> None:
    """Where /tmp is a symlink into the tree, nothing is mounted on it, and what is there stays for the next program."""
    editor = small.edit()
    editor.remove("tmp")
    editor.add_symlink("tmp", "usr/full", writer="t")
    tree = editor.build()
    innocent = shell("[ ! -e /tmp/flag ] || echo found >/etc/result")
    found, _ = site.run(tree, shell("echo >/tmp/flag"), innocent)
    assert "usr/full/flag" in found
    wanted, _ = site.run(tree, innocent, remembering=False)
    found, _ = site.run(tree, innocent)
    assert timeless(found).entries == timeless(wanted).entries

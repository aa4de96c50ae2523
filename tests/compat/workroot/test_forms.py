"""Every way to set up a sandbox, the errors where there is none, and what killed composes leave behind.

Each runs in its own process, whose mounts disappear with it; the programs are Lua, which needs no tools.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compose.assemble.early import settle
from compose.blobs import BlobStore
from compose.errors import SandboxError, StorageError
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from compose.workroot.probe import probe
from compose.workroot.workroot import Workroot
from tests.support.manifests import directory, package
from tests.support.ordinary import Stage

pytestmark = pytest.mark.root

_FIRST = """
    local file = io.open("/etc/append", "a") file:write("more") file:close()
    os.remove("/etc/removed")
    posix.mkdir("/etc/made")
    posix.chown("/etc/made", 5, 6)
    posix.chmod("/etc/touched", "rw-r--r--")
    posix.symlink("append", "/etc/link")
    os.remove("/full/deep/b") posix.rmdir("/full/deep") os.remove("/full/a") posix.rmdir("/full") posix.mkdir("/full")
    file = io.open("/full/c", "w") file:write("c") file:close()
"""


# what scripts do to directories of packages before these are unpacked
_BEFORE = """
    for _, each in ipairs({"gone", "anew", "file"}) do
        for _, name in ipairs({"/deep/f", "/g"}) do os.remove("/pkg/" .. each .. name) end
        posix.rmdir("/pkg/" .. each .. "/deep") posix.rmdir("/pkg/" .. each)
    end
    posix.mkdir("/pkg/anew")
    local file = io.open("/pkg/anew/more", "w") file:write("more") file:close()
    file = io.open("/pkg/file", "w") file:write("file") file:close()
"""
_LOOK = """
    for _, each in ipairs({"gone", "anew", "file"}) do
        for _, name in ipairs({"", "/deep", "/deep/f", "/g"}) do
            local found = posix.stat("/pkg/" .. each .. name)
            print(each .. name, found and found.type, found and found.mode)
        end
        print(io.open("/pkg/" .. each .. "/deep/f"):read("a"))
    end
"""
_SEEN = "{0} directory rwxr-xr-x {0}/deep directory rwx------ {0}/deep/f regular rw-r----- {0}/g regular rw-r--r-- f"


def settled(store: BlobStore, place: str) -> None:
    """Print what differs in the tree after unpacking packages, and what programs see of it."""
    editor = Tree.empty().edit()
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp"):
        editor.add_dir(name, writer="t")
    for top in ("gone", "anew", "file"):
        editor.add_dir(f"pkg/{top}/deep", 0o700, writer="t", uid=3)
        editor.add_file(f"pkg/{top}/deep/f", store.add_bytes(b"f", 0o640, 5), 0o640, writer="t", gid=4)
        editor.add_file(f"pkg/{top}/g", store.add_bytes(b"g", 0o644, 5), writer="t")
    tree = editor.build()
    one = package("one", directory("pkg"))
    with Workroot(tree, store, f"{place}/settled", reporter=Reporter(), epoch=1) as root:
        root.run(replace(lua(_BEFORE), owner=f"scriptlet:{one.nevra}", phase="%pre"))
        settle(root, tree, root.records, (one,), {path: str(one.nevra) for path, _ in tree.walk("pkg")})
        root.apply(tree)
        print("seen", *root.run(lua(_LOOK)).output.split())
        after = root.absorb()
    differing = (path for path in tree.entries.keys() | after.entries.keys() if tree.get(path) != after.get(path))
    print("settled", *differing)


def tree_of(store: BlobStore) -> Tree:
    editor = Tree.empty().edit()
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "etc", "full/deep"):
        editor.add_dir(name, writer="t")
    for name in ("etc/append", "etc/same", "etc/removed", "etc/touched", "full/a", "full/deep/b"):
        editor.add_file(name, store.add_bytes(b"text", 0o644, 5), writer="t")
    editor.add_file("etc/secret", store.add_bytes(b"secret", 0o600, 5), 0o600, writer="t", uid=4, gid=5)
    return editor.build()


def lua(body: str) -> Program:
    return Program(owner="x", phase="%post", argv=("<lua>", "1"), body=body, lua=True)


def main(place: str) -> None:
    """Compose in a directory."""
    store = BlobStore(f"{place}/blobs")
    before = tree_of(store)
    try:
        rung = probe(store, place)
    except SandboxError as error:
        print(error.message, error.hint, sep="\n")
        return
    print(rung)
    with Workroot(before, store, f"{place}/workroot", reporter=Reporter(), epoch=1) as root:
        root.apply(before)
        record: ProgramRecord = root.run(lua(_FIRST))
        print("status", record.status, record.output)
        print("changed", *record.changed)
        print("nothing", *root.run(lua("return")).changed)
        after = root.absorb()
    for path in sorted(before.entries.keys() | after.entries.keys()):
        if before.get(path) != after.get(path):
            print("differs", path)
    blob = before["etc/append"].blob
    assert blob is not None
    print("blob", store.read(blob).decode())
    now = after["etc/append"].blob
    assert now is not None
    print("now", store.read(now).decode())
    print("owner", after["etc/made"].uid, after["etc/made"].gid)
    settled(store, place)
    print("left", *sorted(set(os.listdir(place)) - {"blobs"}))


SCRIPT = ("python3", "/mnt/project/tests/compat/workroot/test_forms.py")
# an overlay's upper layer must be on something that is none
OVERLAY = """
mount -t tmpfs -o mode=755 tmpfs /mnt/home
for name in 0 1; do
    mkdir /mnt/home/lower$name /mnt/home/upper$name /mnt/home/work$name /mnt/home/place$name
    mount -t overlay overlay -o lowerdir=/mnt/home/$below,upperdir=/mnt/home/upper$name,workdir=/mnt/home/work$name \\
        /mnt/home/place$name
    chown 4242:4242 /mnt/home/place$name
    below=place$name
    [ LAYERS != 1 ] || break
done
"""
PLACES = {
    "disk": ("", "/mnt/home"),
    "tmpfs": ("mount -t tmpfs -o mode=755,uid=4242,gid=4242 tmpfs /mnt/home", "/mnt/home"),
    # no xattrs of any kind
    "ramfs": ("mount -t ramfs ramfs /mnt/home; chown 4242:4242 /mnt/home", "/mnt/home"),
    "overlay": ("below=lower0" + OVERLAY.replace("LAYERS", "1"), "/mnt/home/place0"),
    "two overlays": ("below=lower0" + OVERLAY.replace("LAYERS", "2"), "/mnt/home/place1"),
}


def check(output: str, rung: str) -> None:
    """Check that the changes are the same, whatever the sandbox."""
    lines = output.splitlines()
    assert lines[0] == rung, output
    assert lines[1] == "status 0 ", output
    changed = lines[2].split()[1:]
    assert set(changed) >= {"etc/append", "etc/removed", "etc/made", "etc/link", "full", "full/c"}
    assert not {"etc", "etc/same", "etc/secret"} & set(changed)
    assert lines[3] == "nothing"
    assert [line.split()[1] for line in lines if line.startswith("differs")] == [
        "etc/append",
        "etc/link",
        "etc/made",
        "etc/removed",
        "full/a",
        "full/c",
        "full/deep",
        "full/deep/b",
    ]
    seen = "seen " + " ".join(_SEEN.format(top) for top in ("gone", "anew", "file"))
    assert lines[-6:] == ["blob text", "now textmore", "owner 5 6", seen, "settled pkg/anew/more", "left"]


@pytest.mark.parametrize("who", ["root", "user"])
@pytest.mark.parametrize(
    ("place", "form"),
    [
        ("disk", "overlay"),
        ("tmpfs", "overlay"),
        ("ramfs", "overlay in memory"),
        ("overlay", "overlay in memory"),
        ("two overlays", "copies"),
    ],
)
def test_the_same_changes_everywhere(who: str, place: str, form: str, tmp_path: Path) -> None:
    before, directory = PLACES[place]
    done = Stage(directory=tmp_path, before=before).run(*SCRIPT, directory, root=who == "root")
    check(done.stdout, f"{who} namespace{'s' * (who == 'root')}, {form}")


# Root of an ordinary user's container, with another user in it; newuidmap is setuid only for its owner there.
CONTAINER = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")
INNER = """set -e
mount -t tmpfs -o mode=755 tmpfs /run
for name in newuidmap newgidmap; do
    cp /usr/bin/$name /run
    chmod 4755 /run/$name
    mount --bind /run/$name /usr/bin/$name
done
for name in subuid subgid; do
    printf 'inner:1:999\ninner:1001:64535\n' >/run/$name
    mount --bind /run/$name /etc/$name
done
echo inner:x:1000:1000::/:/bin/sh >/run/passwd
mount --bind /run/passwd /etc/passwd
mkdir -m 700 /mnt/home/inner
chown 1000:1000 /mnt/home/inner
chmod 755 /mnt/home
exec setpriv --reuid=1000 --regid=1000 --clear-groups -- "$@" /mnt/home/inner
"""


def test_root_of_a_container(tmp_path: Path) -> None:
    # root there has no CAP_SYS_ADMIN with podman, docker and kubernetes
    done = Stage(directory=tmp_path).run(*SCRIPT, "/mnt/home", root=True, flags="--bounding-set=-sys_admin")
    check(done.stdout, "user namespace, overlay")


def test_root_of_an_ordinary_user_s_container(tmp_path: Path) -> None:
    check(Stage(directory=tmp_path).run(*CONTAINER, *SCRIPT, "/mnt/home").stdout, "root namespaces, overlay")


def test_an_ordinary_user_in_an_ordinary_user_s_container(tmp_path: Path) -> None:
    done = Stage(directory=tmp_path).run(*CONTAINER, "sh", "-c", INNER, "sh", *SCRIPT)
    check(done.stdout, "user namespace, overlay")


# an old filter answers EPERM to calls that are newer
@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        ("ENOSYS", "copy_file_range clone3 statx renameat2 close_range fchmodat2 faccessat2 io_uring_setup keyctl"),
        ("EPERM", "copy_file_range statx renameat2 close_range io_uring_setup keyctl add_key ptrace bpf"),
    ],
)
def test_system_calls_that_a_container_may_refuse(answer: str, calls: str, tmp_path: Path) -> None:
    stage = Stage(directory=tmp_path, around=f"python3 -m tests.support.refusing {answer} {calls} --")
    check(stage.run(*SCRIPT, "/mnt/home").stdout, "user namespace, overlay")


def test_a_cachedir_that_only_a_group_of_the_user_s_leads_to(tmp_path: Path) -> None:
    before = """
        mount -t tmpfs -o mode=750,uid=0,gid=77 tmpfs /mnt/home
        mkdir /mnt/home/cache
        chown 4242:4242 /mnt/home/cache
    """
    stage = Stage(directory=tmp_path, before=before, groups="--groups=77")
    check(stage.run(*SCRIPT, "/mnt/home/cache").stdout, "user namespace, overlay")


REFUSE = "python3 -m tests.support.refusing EPERM {} --"
PODMAN = "mount -t tmpfs -o mode=755 tmpfs /run; : >/run/.containerenv"


@pytest.mark.parametrize(
    ("who", "stage", "flags", "said", "way_out"),
    [
        (
            "user",
            {"around": REFUSE.format("unshare mount"), "before": PODMAN},
            "",
            "this machine refuses a user namespace: Operation not permitted",
            "podman run --cap-add=sys_admin",
        ),
        (
            "root",
            {"around": REFUSE.format("unshare mount"), "before": PODMAN},
            "",
            "this machine refuses a user namespace: Operation not permitted",
            "podman run --cap-add=sys_admin",
        ),
        (
            "root",
            {"around": REFUSE.format("mount")},
            "",
            "this machine refuses mounts: ",
            "must allow unshare, setns, mount and pivot_root",
        ),
        (
            "user",
            {"before": "mount --bind /dev/null /proc/cmdline;" + PODMAN},
            "",
            "cannot isolate probe of step:probe: [Errno 1] mount proc on /proc: Operation not permitted",
            "--security-opt unmask=ALL",
        ),
        (
            "user",
            {"subordinates": ""},
            "",
            "not enough subordinate ids for file owners: /etc/subuid grants composer too few",
            "as root: echo composer:100000:65536 | tee -a /etc/subuid /etc/subgid",
        ),
        (
            "user",
            {"subordinates": "200000:1000"},
            "",
            "not enough subordinate ids for file owners: /etc/subuid grants composer too few",
            "as root: echo composer:201000:65536 | tee -a /etc/subuid /etc/subgid",
        ),
        (
            "user",
            {"before": "mount --bind /dev/null /usr/bin/newuidmap"},
            "",
            "cannot map ids for file owners: newuidmap is not installed",
            "as root: ",
        ),
        (
            "user",
            {},
            "--no-new-privs",
            "mapping ids for file owners is refused: newuidmap: ",
            "which no_new_privs forbids",
        ),
    ],
)
def test_no_rung(who: str, stage: dict[str, str], flags: str, said: str, way_out: str, tmp_path: Path) -> None:
    done = Stage(directory=tmp_path, **stage).run(*SCRIPT, "/mnt/home", root=who == "root", flags=flags)  # type: ignore[arg-type]
    message, hint = done.stdout.splitlines()
    assert message.startswith(said)
    assert way_out in hint


@pytest.mark.parametrize(
    ("mapping", "mapped"), [("--map-root-user", "only ids 0 to 0 are"), ("--map-user=0", "id 0 is not")]
)
def test_too_few_ids_in_a_container(mapping: str, mapped: str, tmp_path: Path) -> None:
    done = Stage(directory=tmp_path).run("unshare", "--user", mapping, *SCRIPT, "/mnt/home")
    assert done.stdout.startswith(f"{mapped} mapped for file owners; 0 to 65534 are needed\n")


def test_user_namespaces_shut_off(tmp_path: Path) -> None:
    shut = 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-sys_admin -- "$@"'
    done = Stage(directory=tmp_path).run(*CONTAINER, "sh", "-c", shut, "sh", *SCRIPT, "/mnt/home")
    message, hint = done.stdout.splitlines()
    assert message == "this machine refuses a user namespace: No space left on device"
    assert "sysctl -w user.max_user_namespaces=15000" in hint


@pytest.mark.parametrize("by", ["the next compose", "compose cache gc"])
def test_what_a_killed_compose_left_is_removed_though_it_is_not_the_user_s(by: str, tmp_path: Path) -> None:
    script = """
import os, sys
from compose.cachedir import CacheDir
from compose.sandbox import identity
cache = CacheDir("/mnt/home/cache")
scratch = cache.scratch()
work = scratch.__enter__()
if sys.argv[1:]:
    scratch.__exit__(None, None, None)
elif not os.fork():
    identity.enter()
    os.makedirs(f"{work}/upper/var/lib")
    open(f"{work}/upper/var/lib/file", "w").close()
    os.chown(f"{work}/upper/var/lib", 5, 6)
    os.chmod(f"{work}/upper/var", 0)
    os.chown(f"{work}/upper/var", 7, 8)
    os._exit(0)
else:
    os.wait()
    os.kill(os.getpid(), 9)
"""
    stage = Stage(directory=tmp_path)
    assert stage.run("python3", "-c", script).returncode == -signal.SIGKILL
    work = tmp_path / "home/cache/work"
    assert len(os.listdir(work)) == 3
    gc = ("-m", "compose", "cache", "gc", "--cachedir=/mnt/home/cache")
    refused = Stage(directory=tmp_path, subordinates="").run("python3", *gc)
    assert refused.returncode == 1
    reason = "holds files that can only be removed in a user namespace: not enough subordinate ids for file owners"
    assert reason in refused.stdout
    done = stage.run("python3", *(gc if by == "compose cache gc" else ("-c", script, "clean")))
    assert done.returncode == 0, done.stdout
    assert [name for name in os.listdir(work) if not name.endswith(".lock")] == []


def test_what_a_killed_compose_left_is_cleaned(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    (tmp_path / "w/layers/work/work").mkdir(parents=True)
    (tmp_path / "w/lower/old").mkdir(parents=True)
    with Workroot(tree_of(store), store, str(tmp_path / "w"), reporter=Reporter(), epoch=1) as root:
        root.run(lua("assert(not io.open('/old'))"))
        assert root.records[0].status == 0, root.records
        assert not (tmp_path / "w/lower/old").exists()
        assert os.stat(tmp_path / "w").st_mode & 0o777 == 0o700
    assert not (tmp_path / "w").exists()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    (tmp_path / "w/mine").mkdir(parents=True)
    with (
        pytest.raises(StorageError, match="is not a workroot"),
        Workroot(tree_of(store), store, str(tmp_path / "w"), reporter=Reporter(), epoch=1),
    ):
        pass
    assert (tmp_path / "w/mine").is_dir()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""install, postprocess, commit: one after the other they give the commit that `compose tree` gives."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiny import EPOCH, REF, Site
from tests.support import rpmrepo
from tests.support.ordinary import Stage

pytestmark = pytest.mark.root

# something of each kind that the halves do: files, units, scripts, a finalize.d, a module that makes depmod run
KEYS = {
    "units": ["hello.service"],
    "default_target": "multi-user.target",
    "automatic_version_prefix": "9",
    "mutate_os_release": "1",
    "postprocess": [
        "mkdir -p /usr/share/made /var/lib/made\necho script >/usr/share/made/by-script\n"
        "ln /usr/share/made/by-script /usr/share/made/linked\n"
        "for each in /usr/lib/modules/*/vmlinuz; do echo initramfs >${each%vmlinuz}initramfs.img; done"
    ],
    "add_files": [["motd", "etc/motd"]],
    "remove_files": ["usr/share/doc"],
    "check_passwd": {"type": "none"},
}


def run(site: Site, *arguments: str | Path, status: int = 0) -> str:
    command = [sys.executable, "-m", "compose", *map(str, arguments), f"--cachedir={site.cachedir}"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tree(site: Site) -> Path:
    (site.path / "motd").write_text("hello\n")
    finalize = site.path / "finalize.d" / "10-mark"
    finalize.parent.mkdir()
    finalize.write_text(
        "#!/bin/sh\nset -e\necho finalized >/usr/share/finalized\ncat /etc/motd >>/usr/share/finalized\n"
        "mkdir -p /var/lib/left /var/log\necho log >/var/log/left\necho old >/etc/passwd-\n"
    )
    finalize.chmod(0o755)
    return site.write_treefile(**KEYS)


def test_the_parts_make_the_commit_that_tree_makes(site: Site, tree: Path) -> None:
    site.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    whole = site.head()
    site.ostree("refs", "--delete", REF)
    out = site.path / "out"
    run(site, "install", tree, out, f"--repo={site.repo}")
    rootfs = out / "rootfs"
    # what a person would look at: owners, setuid, hard links as they will be
    assert stat.S_IMODE((rootfs / "usr/bin/hello-setuid").stat().st_mode) == 0o4755
    assert (rootfs / "usr/share/hello/private").stat().st_uid == 700
    assert (rootfs / "usr/share/made/by-script").stat().st_nlink == 2
    assert (rootfs / "usr/share/made/by-script").read_text() == "script\n"
    assert not (rootfs / "usr/share/finalized").exists()
    assert "is postprocessed" in run(site, "postprocess", rootfs, tree)
    assert (rootfs / "usr/share/finalized").read_text() == "finalized\nhello\n"
    assert "already" in run(site, "postprocess", rootfs, tree)
    run(site, "commit", tree, rootfs, f"--repo={site.repo}")
    assert site.head() == whole
    site.ostree("fsck", "--quiet")
    assert "/initramfs.img" in site.ostree("ls", "-R", REF, "/usr/lib/modules")
    # what finalize.d left there goes the way of what all programs leave
    assert site.ostree("ls", "-R", REF, "/var").splitlines() == ["d00755 0 0      0 /var"]
    assert "d /var/lib/left 0755 root root" in site.ostree("cat", REF, "/usr/lib/tmpfiles.d/rpm-ostree-autovar.conf")
    assert "passwd-" not in site.ostree("ls", REF, "/usr/etc")
    shutil.rmtree(site.path / "out")
    assert ": reproduced" in run(site, "verify", REF, f"--repo={site.repo}")


def test_an_ordinary_user_makes_the_same_commit_in_parts(site: Site, tree: Path, tmp_path: Path) -> None:
    """Files have their owners in a user namespace, into which `compose unshare` leads."""
    site.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    whole = site.head()
    repofile = site.path / "tiny.repo"
    repofile.write_text(re.sub("baseurl=.*", "baseurl=file:///mnt/packages", repofile.read_text()))
    commands = f"""set -e
        compose() {{ python3 -m compose "$@"; }}
        export SOURCE_DATE_EPOCH={EPOCH} XDG_CACHE_HOME=/mnt/home/cache
        ostree --repo=repo init --mode=archive
        compose install /mnt/treefile/{tree.name} out --repo=repo
        compose unshare stat --format=%u:%a out/rootfs/usr/share/hello/private out/rootfs/usr/bin/hello-setuid
        compose postprocess out/rootfs /mnt/treefile/{tree.name}
        compose commit /mnt/treefile/{tree.name} out/rootfs --repo=repo
        ostree --repo=repo fsck --quiet
        compose lint out/rootfs || echo lint $?
        compose unshare no-such-program || echo unshare $?
        compose unshare rm -r out
        compose rootfs /mnt/treefile/{tree.name} plain
        compose unshare sh -c 'stat --format=%u plain/usr/share/hello/private; rm -r plain; exit 3' || echo status $?
        find . ! -user composer
        cat repo/refs/heads/{REF}
    """
    stage = Stage(directory=tmp_path / "stage", bound={"treefile": tree.parent, "packages": site.packages})
    (tmp_path / "stage").mkdir()
    for each in (tree.parent, site.packages):
        each.chmod(0o755)
    done = stage.run("sh", "-c", commands)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    first = lines.index("700:640")
    assert lines[first + 1] == "0:4755"
    assert lines[lines.index("unshare 2") - 1] == "error: cannot run no-such-program: No such file or directory"
    assert lines[lines.index("lint 1") - 1].startswith("hint: run it as root, or, if an ordinary user made the root")
    assert lines[-4:] == ["/mnt/home/plain", "700", "status 3", whole]


def test_commit_postprocesses_what_was_not(site: Site, tree: Path) -> None:
    site.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    whole = site.head()
    site.ostree("refs", "--delete", REF)
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}", "--postprocess")
    run(site, "commit", tree, site.path / "out/rootfs", f"--repo={site.repo}")
    assert site.head() == whole


def test_what_was_changed_in_between_is_committed(site: Site, tree: Path) -> None:
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    rootfs = site.path / "out/rootfs"
    (rootfs / "usr/share/by-hand").write_text("by hand\n")
    os.chown(rootfs / "usr/share/by-hand", 700, 700)
    os.setxattr(rootfs / "usr/share/by-hand", "user.ima", b"\3signature")
    (rootfs / "usr/etc/hello.conf").unlink()
    report = site.path / "compose.json"
    run(site, "commit", tree, rootfs, f"--repo={site.repo}", f"--write-composejson-to={report}")
    assert "rpm-ostree-inputhash" not in json.loads(report.read_text())
    assert "00644 700 700" in site.ostree("ls", REF, "/usr/share/by-hand")
    xattrs = site.ostree("ls", "-X", REF, "/usr/share/by-hand")
    assert ("security.ima" in xattrs, "user.ima" in xattrs) == (True, False)
    assert "hello.conf" not in site.ostree("ls", REF, "/usr/etc")
    told = run(site, "verify", REF, f"--repo={site.repo}", status=1)
    assert "was committed from a root directory that was changed or not made by compose install" in told
    # a compose would not make this tree, so the next one has something to do
    assert "rpmostree.inputhash" not in site.ostree("show", "--raw", REF)
    assert "No apparent changes" not in site.compose(treefile=tree)
    assert "by-hand" not in site.ostree("ls", REF, "/usr/share")


@pytest.mark.parametrize("step", ["postprocess", "commit"])
def test_finished_with_another_treefile(site: Site, tree: Path, step: str) -> None:
    """The commit is not what the first treefile makes, so a compose of that has something to do."""
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    rootfs = site.path / "out/rootfs"
    other = site.write_treefile(name="other.yaml", **KEYS | {"default_target": "rescue.target"})
    if step == "postprocess":
        run(site, "postprocess", rootfs, other)
        run(site, "commit", tree, rootfs, f"--repo={site.repo}")
    else:
        run(site, "commit", other, rootfs, f"--repo={site.repo}")
    assert "rpmostree.inputhash" not in site.ostree("show", "--raw", REF)
    run(site, "verify", REF, f"--repo={site.repo}", status=1)


def test_what_does_not_decide_the_tree_may_change(site: Site, tree: Path) -> None:
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    (site.path / "extra.json").write_text('{"example.number": 7}')
    site.write_treefile(**KEYS, add_commit_metadata={"example.text": "x"})
    extra = f"--add-metadata-from-json={site.path}/extra.json"
    run(site, "commit", tree, site.path / "out/rootfs", f"--repo={site.repo}", extra)
    assert "'x'" in site.ostree("show", REF, "--print-metadata-key=example.text")
    assert ": reproduced" in run(site, "verify", REF, f"--repo={site.repo}")


def test_a_root_that_something_else_made(site: Site) -> None:
    """Without compose.json the packages are read from the root's own rpm database."""
    tree = site.write_treefile(check_passwd={"type": "none"}, check_groups={"type": "none"})
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    (site.path / "out/compose.json").unlink()
    report = site.path / "report.json"
    run(site, "commit", tree, site.path / "out/rootfs", f"--repo={site.repo}", f"--write-composejson-to={report}")
    listed = site.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist")
    assert "'hello-lib'" in listed
    assert json.loads(report.read_text())["packages"] == listed.count("), (") + 1 > 5
    # whose packages another tool has chosen, and repositories are not asked
    tree = site.write_treefile(repos=["ignored"], packages=None, container=True)
    for step in (
        ("postprocess", site.path / "out/rootfs", tree),
        ("commit", tree, site.path / "out/rootfs", f"--repo={site.repo}"),
    ):
        run(site, *step)
    assert site.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist") == listed
    assert "no packages are listed" in run(site, "install", tree, site.path / "new", f"--repo={site.repo}", status=2)


def test_postprocessing_leaves_nothing_beside_the_root(site: Site) -> None:
    """A file that happens to have a similar name stays, too."""
    tree = site.write_treefile()
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    (site.path / "out/rootfs.old").mkdir()
    (site.path / "out/rootfs.new").write_text("mine")
    run(site, "postprocess", site.path / "out/rootfs", tree)
    assert sorted(path.name for path in (site.path / "out").iterdir()) == [
        "compose-records.json.zst", "compose-sources.tar.zst", "compose.json", "rootfs", "rootfs.new", "rootfs.old",
    ]  # fmt: skip


def test_a_root_is_there_when_it_is_whole(site: Site, tree: Path) -> None:
    """What a killed install has written of it would be committed as if other tools had made it."""
    out = site.path / "out"
    killed = (
        "import os, signal; from compose import cli, rootfs\n"
        "rootfs._write_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ncli.program()"
    )
    for words in (["install", tree, out, f"--repo={site.repo}"], ["rootfs", tree, out / "plain"]):
        command = [sys.executable, "-c", killed, *map(str, words), f"--cachedir={site.cachedir}"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=100)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not list(out.glob("[!.]*"))
        run(site, *words)
        assert not list(out.glob(".*"))
        shutil.rmtree(out)
        out.mkdir()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("again", [False, True])
def test_a_killed_postprocess_loses_nothing(site: Site, tree: Path, when: str, again: bool) -> None:
    """Neither the input hash nor the writers of paths, whichever of the two roots is there."""
    site.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    whole = site.head()
    blame = ("blame", "/usr/share/finalized", f"--repo={site.repo}", f"--ref={REF}")
    seconds = re.compile(r"\d+\.\d+ s")
    writer = seconds.sub("", site.tool(*blame).stdout)
    assert "finalize.d" in writer
    site.ostree("refs", "--delete", REF)
    out = site.path / "out"
    run(site, "install", tree, out, f"--repo={site.repo}")
    killed = (
        "import os, signal; from compose import cli, syscalls\n"
        "def exchange(*paths, real=syscalls.exchange):\n"
        f"    {'real(*paths); ' if when == 'after' else ''}os.kill(os.getpid(), signal.SIGKILL)\n"
        "syscalls.exchange = exchange; cli.program()"
    )
    words = ["postprocess", out / "rootfs", tree]
    command = [sys.executable, "-c", killed, *map(str, words), f"--cachedir={site.cachedir}"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / "rootfs/usr/share/finalized").exists() is (when == "after")
    if again:
        run(site, *words)
        assert sorted(path.name for path in out.iterdir()) == [
            "compose-records.json.zst", "compose-sources.tar.zst", "compose.json", "rootfs",
        ]  # fmt: skip
    run(site, "commit", tree, out / "rootfs", f"--repo={site.repo}")
    assert site.head() == whole
    assert seconds.sub("", site.tool(*blame).stdout) == writer
    assert ": reproduced" in run(site, "verify", REF, f"--repo={site.repo}")


def test_rootfs_is_a_plain_root(site: Site, tree: Path) -> None:
    out = site.path / "plain"
    run(site, "rootfs", tree, out)
    assert (out / "etc/motd").read_text() == "hello\n"
    assert not (out / "usr/etc").exists()
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert "security.selinux" not in os.listxattr(out / "usr/bin/hello")
    assert "already exists" in run(site, "rootfs", tree, out, status=2)
    assert not list(site.path.glob(".compose-*"))


def test_a_plain_root_becomes_a_commit_again(site: Site, tree: Path) -> None:
    site.compose(SOURCE_DATE_EPOCH=str(EPOCH))
    whole = site.ostree("ls", "-R", "-X", "--checksum", REF)
    out = site.path / "plain"
    run(site, "rootfs", tree, out)
    run(site, "commit", tree, out, f"--repo={site.repo}")
    assert site.ostree("ls", "-R", "-X", "--checksum", REF) == whole
    (out / "usr/etc").mkdir()
    (out / "usr/etc/more").touch()
    assert "contains both /etc and /usr/etc" in run(site, "commit", tree, out, f"--repo={site.repo}", status=1)


def test_rootfs_has_the_layers(site: Site, tree: Path) -> None:
    """As bootc-base-imagectl asks for it: a directory committed to a repository of its own, laid over the packages."""
    layers, extra = site.path / "layers", site.path / "extra"
    (extra / "usr/share").mkdir(parents=True)
    (extra / "usr/share/extra").write_text("extra\n")
    rpmrepo.run("ostree", f"--repo={layers}", "init", "--mode=bare")
    rpmrepo.run(
        "ostree", f"--repo={layers}", "commit", "-b", "overlay/extra", str(extra), "--owner-uid=0", "--owner-gid=0",
        "--no-xattrs", "--mode-ro-executables",
    )  # fmt: skip
    override = site.path / "override.json"
    override.write_text(json.dumps({"include": str(tree), "ostree-override-layers": ["overlay/extra"]}))
    out = site.path / "plain"
    # without: the message names a flag that there is
    assert "--layer-repo" in run(site, "rootfs", override, out, status=2)
    told = run(site, "rootfs", f"--ostree-repo={layers}", override, out)
    assert (out / "usr/share/extra").read_text() == "extra\n"
    # it is no commit, so whether its sources could be kept does not matter
    assert "verify" not in told


def test_download_only_makes_no_directory(site: Site, tree: Path) -> None:
    stamp = site.path / "stamp"
    for flag in ("--download-only", "--download-only-rpms"):
        told = run(site, "install", tree, site.path / "out", f"--repo={site.repo}", flag, f"--touch-if-changed={stamp}")
        assert "packages downloaded" in told
        stamp.unlink()
    listed = run(site, "install", tree, site.path / "out", f"--repo={site.repo}", "--dry-run")
    assert "(tiny)" in listed
    whole = run(site, "tree", tree, f"--repo={site.repo}", "--dry-run")
    assert [each for each in listed.splitlines() if "(tiny)" in each] == re.findall(r"(?m)^.*\(tiny\)$", whole)
    assert not (site.path / "out").exists()


def test_postprocess_of_what_is_not_there_removes_nothing(site: Site) -> None:
    """The name may be misspelt. Where two directories cannot be exchanged at once, a kill may leave both in the scratch one."""
    out = site.path / "out"
    kept = out / ".compose-root-0123456789abcdef/rootfs/usr"
    kept.mkdir(parents=True)
    (out / ".compose.json.77").touch()
    command = [sys.executable, "-m", "compose", "postprocess", out / "rootfs", f"--cachedir={site.cachedir}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a root directory" in done.stderr
    assert kept.is_dir()
    assert (out / ".compose.json.77").exists()


def hollow(path: Path) -> None:
    """A file without content that is larger than the disk."""
    path.touch()
    os.truncate(path, 15 << 40)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda root: os.mkfifo(root / "usr/fifo"), "/usr/fifo is a fifo, which a commit cannot hold"),
        (lambda root: (root / os.fsdecode(b"usr/\xff")).touch(), "is not UTF-8"),
        (
            lambda root: hollow(root / "usr/hole"),
            f"/usr/hole has {15 << 40} bytes with its holes, which a commit fills; there is no space",
        ),
        (lambda root: (root / "etc").mkdir() or (root / "etc/x").touch(), "both /etc and /usr/etc"),
    ],
)
def test_what_cannot_be_committed_is_refused(site: Site, make: object, complaint: str) -> None:
    tree = site.write_treefile()
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    make(site.path / "out/rootfs")  # type: ignore[operator]
    before = site.snapshot()
    done = subprocess.run(
        [sys.executable, "-m", "compose", "commit", tree, site.path / "out/rootfs", f"--repo={site.repo}",
         f"--cachedir={site.cachedir}"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert site.snapshot() == before


def test_devices_and_whiteouts(site: Site, tree: Path) -> None:
    """Devices are left out, and what overlayfs has for deleted files comes back where a client deploys."""
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    rootfs = site.path / "out/rootfs"
    layer = rootfs / "usr/lib/layer"
    layer.mkdir()
    os.mknod(layer / "gone", stat.S_IFCHR | 0o400, os.makedev(0, 0))
    os.chown(layer / "gone", 7, 8)
    for name in ("trusted", "user"):
        (layer / name).mkdir()
        (layer / name / "file").touch()
        os.setxattr(layer / name, f"{name}.overlay.opaque", b"y")
    os.mknod(rootfs / "usr/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(rootfs / "usr/disk", stat.S_IFBLK | 0o660, os.makedev(8, 0))
    report = site.path / "compose.json"
    told = run(site, "commit", tree, rootfs, f"--repo={site.repo}", f"--write-composejson-to={report}")
    assert "left out: 2 (/usr/disk, /usr/null)" in told
    assert "deployments recreate them: 1 (/usr/lib/layer/gone)" in told
    dropped = [each["path"] for each in json.loads(report.read_text())["dropped"] if each["reason"] == "device"]
    assert dropped == ["/usr/disk", "/usr/null"]
    assert (layer / "gone").is_char_device()
    content = site.ostree("ls", "-RCX", REF)
    site.ostree("checkout", "--process-passthrough-whiteouts", REF, str(site.path / "deployed"))
    found = (site.path / "deployed/usr/lib/layer/gone").stat()
    assert (found.st_mode, found.st_rdev, found.st_uid, found.st_gid) == (stat.S_IFCHR | 0o400, 0, 7, 8)
    assert not (site.path / "deployed/usr/null").exists()
    for name in ("trusted", "user"):
        assert os.getxattr(site.path / "deployed/usr/lib/layer" / name, f"{name}.overlay.opaque") == b"y"
    # in place they are what the commit has, and the commit is the same
    told = run(site, "postprocess", rootfs, tree)
    assert "left out: 2 (/usr/disk, /usr/null)" in told
    assert sorted(os.listdir(layer)) == [".ostree-wh.gone", "trusted", "user"]
    assert not (rootfs / "usr/null").exists()
    run(site, "commit", tree, rootfs, f"--repo={site.repo}")
    assert site.ostree("ls", "-RCX", REF) == content
    # of a finished root, too
    os.mknod(rootfs / "usr/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert "left out: 1 (/usr/null)" in run(site, "commit", tree, rootfs, f"--repo={site.repo}")


def test_devices_are_refused_where_the_treefile_says_so(site: Site) -> None:
    tree = site.write_treefile(ignore_devices=False)
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    rootfs = site.path / "out/rootfs"
    os.mknod(rootfs / "usr/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(rootfs / "usr/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for words in (("postprocess", rootfs, tree), ("commit", tree, rootfs, f"--repo={site.repo}")):
        told = run(site, *words, status=2)
        assert "/usr/null is a device, which a commit cannot hold" in told
        assert "ignore-devices: true" in told
    (rootfs / "usr/null").unlink()
    (rootfs / "usr/.ostree-wh.gone").touch()
    long = "n" * 250
    os.mknod(rootfs / "usr" / long, stat.S_IFCHR, os.makedev(0, 0))
    told = run(site, "commit", tree, rootfs, f"--repo={site.repo}", status=2)
    assert "/usr/gone is a whiteout, which a commit holds as /usr/.ostree-wh.gone, but that already exists" in told
    assert f"a commit holds as /usr/.ostree-wh.{long}, but that name is too long" in told


def test_what_is_mounted_below_a_root_is_left_alone(site: Site, tree: Path, tmp_path: Path) -> None:
    """The directory is replaced by a finished one, and the old one removed with all that is in it."""
    out, precious = site.path / "out", tmp_path / "precious"
    run(site, "install", tree, out, f"--repo={site.repo}")
    precious.mkdir()
    (precious / "file").write_text("data")
    mounted = out / "rootfs/usr/share/mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", str(precious), str(mounted)], check=True)
    try:
        told = run(site, "postprocess", out / "rootfs", tree, status=2)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert f"{mounted} is a mount point" in told
    assert (precious / "file").read_text() == "data"
    mounted.rmdir()
    (site.path / "link").symlink_to(out / "rootfs")
    run(site, "postprocess", site.path / "link", tree)
    assert (site.path / "link").is_symlink()
    assert (out / "rootfs/usr/etc").is_dir()


def test_packages_of_a_root_with_the_database_where_fedora_has_it(site: Site, tree: Path) -> None:
    run(site, "install", tree, site.path / "out", f"--repo={site.repo}")
    foreign = site.path / "foreign"
    shutil.move(site.path / "out/rootfs", foreign)
    place = foreign / "usr/lib/sysimage/rpm"
    if place.is_symlink():
        place.unlink()
        shutil.move(foreign / "usr/share/rpm", place)
    assert place.is_dir()
    assert not (foreign / "usr/share/rpm").is_dir()
    run(site, "commit", tree, foreign, f"--repo={site.repo}")
    assert "hello" in site.ostree("show", "--print-metadata-key=rpmostree.rpmdb.pkglist", REF)

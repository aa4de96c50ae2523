"""The real universe, composed, pulled over HTTP by the real client and checked out: every file against its RPM's header.

What the header says of owner, mode and capabilities, and the policy of the label, must be what a client gets; a file that
something else wrote must say who did. Every path is compared, one by one, and counted.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rpm

from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.pipeline.encapsulate import EncapsulateOptions, encapsulate_commit
from compose.pipeline.inspect import blame, lint_commit
from compose.pipeline.options import ComposeOptions, ComposeResult
from compose.pipeline.requests import load, repo_access, request_of
from compose.rpm.database import DATABASE_PATH
from compose.rpm.repos import RepoNetwork
from compose.solve.installed import installed_links
from compose.solve.solver import solve
from compose.systemdiff import units_of
from compose.tree import Tree
from tests.compat.oci.test_judges import extract, seen, wanted
from tests.compat.ostree.test_commit import ostree, served
from tests.e2e.whole import UNIVERSE, Whole, treefile_in
from tests.support.imageimporter import import_image
from tests.support.labels import compare
from tests.support.ordinary import Stage

pytestmark = [pytest.mark.root, pytest.mark.universe]

# Who may write what packages own, and why.
KNOWN_WRITERS = {
    "step:sysusers:sysusers": "accounts that packages declare",
    "step:passwd": "accounts moved to /usr/lib",
    "step:shadow": "mode 0000, no day of change",
    "step:nsswitch": "nsswitch.conf reads /usr/lib/passwd",
    "step:etc": "/etc itself becomes /usr/etc",
    "step:machine-id": "emptied",
    "step:os-release": "version",
    "step:useradd": "homes are in /var",
    "step:selinux": "aliases and home directories for the OSTree layout",
    "step:rpmdb": "the database's place",
    "step:rootfs": "links into /var",
    "step:kernel": "the kernel's place",
}
# Directories whose content moves into one that is there already and stays as it is.
JOINED = {"/var/lib/selinux/default": "/etc/selinux/default"}


@dataclass(frozen=True)
class Composed:
    name: str
    result: ComposeResult
    tree: Tree
    checkout: Path
    rpms: list[Path]


@pytest.fixture(scope="module", params=["min", pytest.param("big", marks=pytest.mark.slow)])
def composed(request: pytest.FixtureRequest, whole_sets: Callable[[str], Whole]) -> Composed:
    whole = whole_sets(request.param)
    result, top = whole.result, whole.top
    assert result.ref is not None
    assert result.tree is not None
    client = top / "client"
    ostree(client, "init", "--mode=bare")
    with served(top / "repo") as url:
        ostree(client, "remote", "add", "--no-gpg-verify", "o", url)
        ostree(client, "pull", "o", result.ref)
    ostree(client, "fsck")
    ostree(client, "checkout", "-H", f"o:{result.ref}", str(top / "checkout"))
    names = {str(package.nevra) for package in result.packages}
    rpms = [
        path
        for path in sorted((UNIVERSE.with_name(request.param) / "Packages").glob("*.rpm"))
        if nevra_of(header_of(path)) in names
    ]
    assert len(rpms) == len(names) > 190
    return Composed(name=request.param, result=result, tree=result.tree, checkout=top / "checkout", rpms=rpms)


def test_an_ordinary_user_makes_the_same_commit(composed: Composed, tmp_path: Path) -> None:
    name = composed.name
    # make rootless-check is this: setuid and capable programs, odd owners and labels are in it as the next test counts them
    source = treefile_in(tmp_path / "treefile", name).parent
    repofile = source / "universe.repo"
    repofile.write_text(
        re.sub(r"file:///\S*?(?=/RPM|$)", "file:///mnt/universe", repofile.read_text(), flags=re.MULTILINE)
    )
    stage = Stage(directory=tmp_path, bound={"treefile": source, "universe": UNIVERSE.with_name(name)})
    commands = """
        ostree --repo=repo init --mode=archive &&
        python3 -m compose tree /mnt/treefile/whole.yaml --repo=repo --cachedir=cache --write-commitid-to=commit &&
        ostree --repo=repo fsck --quiet && ls -A cache/work && find . ! -user composer
    """
    done = stage.run("sh", "-c", commands)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert "Sandbox: user namespace, overlay" in done.stdout
    # nothing is left that the user could not remove
    assert done.stdout.splitlines()[-1] == ".lock"
    commit = (tmp_path / "home/commit").read_text().strip()
    print(f"{name}: as root {composed.result.commit}\n{name}: as user {commit}")
    assert commit == composed.result.commit


def test_units_are_enabled_as_systemctl_has_it(composed: Composed) -> None:
    with Repo.open(composed.result.repo) as repo:
        assert composed.result.commit is not None
        found = units_of(repo, composed.result.commit, "system")
    # /etc in its place, as after a deployment
    script = (
        "mount --bind $0/usr/etc $0/etc && exec chroot $0 systemctl --root=/ list-unit-files --no-legend --no-pager"
    )
    root = str(composed.checkout)
    made = not os.path.isdir(f"{root}/etc")
    os.makedirs(f"{root}/etc", exist_ok=True)
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, root], capture_output=True, text=True, check=True
        )
    finally:
        if made:
            os.rmdir(f"{root}/etc")
    states = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert len(states) > 100
    assert {unit for unit, state in states.items() if state == "masked"} == found.masked
    # of an instance (getty@tty1) its template is told
    ours = {re.sub(r"@.*\.", "@.", unit) for unit in found.enabled} & states.keys()
    assert ours == {unit for unit, state in states.items() if state == "enabled"}
    assert len(ours) > 5


def header_of(path: Path) -> Any:
    transaction = rpm.TransactionSet()
    transaction.setVSFlags(rpm._RPMVSF_NOSIGNATURES | rpm._RPMVSF_NODIGESTS)
    with path.open("rb") as file:
        return transaction.hdrFromFdno(file.fileno())


def nevra_of(header: Any) -> str:
    epoch = f"{header['epoch']}:" if header["epoch"] else ""
    return f"{header['name']}-{epoch}{header['version']}-{header['release']}.{header['arch']}"


def files_of(composed: Composed) -> Iterator[tuple[str, Any]]:
    """(package, file) of every file that is no %ghost, as librpm reads the header."""
    for path in composed.rpms:
        header = header_of(path)
        for file in rpm.files(header):
            if not file.fflags & rpm.RPMFILE_GHOST:
                yield nevra_of(header), file


def committed_path(tree: Tree, path: str, *, directory: bool) -> str:
    """Where the commit has what a package has at path: /etc is /usr/etc, symlinked directories are followed."""
    path = path.lstrip("/")
    if path.startswith("var/lib/selinux/"):
        # the policy's module store may not be in /var, where clients have none
        path = path.replace("var/lib/selinux/", "etc/selinux/", 1)
    if path == "etc" or path.startswith("etc/"):
        path = f"usr/{path}"
    if directory and path in tree and not tree[path].writer.startswith("step:"):
        return tree.resolve(path)
    parent, _, name = path.rpartition("/")
    return f"{tree.resolve(parent)}/{name}".lstrip("/")


def ids(checkout: Path, name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in ("usr/etc", "usr/lib"):
        for line in (checkout / place / name).read_text().splitlines():
            fields = line.split(":")
            found.setdefault(fields[0], int(fields[2]))
    return found


def capabilities(checkout: Path) -> dict[str, str]:
    listing = subprocess.run(["getcap", "-r", str(checkout)], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = (line.rsplit(" ", 1) for line in listing.splitlines())
    return {os.path.relpath(path, checkout): text for path, text in rows}


def test_every_file_is_what_its_header_says(composed: Composed) -> None:
    users, groups = ids(composed.checkout, "passwd"), ids(composed.checkout, "group")
    caps = capabilities(composed.checkout)
    compared = 0
    special: collections.Counter[str] = collections.Counter()
    by_others: collections.Counter[str] = collections.Counter()
    dropped = {path for path, _ in composed.result.dropped}
    made_at_boot = declared(composed.checkout)
    missing: list[str] = []
    wrong: list[str] = []
    for package, file in files_of(composed):
        path = committed_path(composed.tree, file.name, directory=stat.S_ISDIR(file.mode))
        entry = composed.tree.get(path)
        if file.name in JOINED:
            by_others["(directory joined to another)"] += 1
            continue
        if entry is None and file.name.lstrip("/") in made_at_boot:
            by_others["(made at boot, by tmpfiles.d)"] += 1
            continue
        if entry is None:
            if not {path, file.name.lstrip("/")} & dropped and not is_listed(file.name, dropped):
                missing.append(f"{package}: {file.name}")
            by_others["(not in the commit, listed)"] += 1
            continue
        if not entry.writer.startswith("package:"):
            by_others[entry.writer] += 1
            continue
        status = os.lstat(composed.checkout / path)
        expected = (file.mode & 0xFFFF, users[file.user], groups[file.group])
        if stat.S_ISLNK(file.mode):
            expected = (stat.S_IFLNK | 0o777, *expected[1:])
        found = (status.st_mode, status.st_uid, status.st_gid)
        if found != expected:
            wrong.append(
                f"/{path} of {package}: {[oct(found[0]), *found[1:]]} is not {[oct(expected[0]), *expected[1:]]}"
            )
        if caps.pop(path, "") != file.caps.lstrip("="):
            wrong.append(f"/{path} of {package}: capabilities are not {file.caps!r}")
        if stat.S_ISLNK(file.mode) and os.readlink(composed.checkout / path) != file.linkto:
            wrong.append(f"/{path} of {package}: does not point at {file.linkto}")
        special["setuid or setgid"] += bool(file.mode & 0o6000 and stat.S_ISREG(file.mode))
        special["capabilities"] += bool(file.caps)
        special["not root's"] += (file.user, file.group) != ("root", "root")
        compared += 1
    print(f"compared {compared} files of {len(composed.rpms)} packages: {dict(special)}")
    for writer, count in sorted(by_others.items()):
        print(f"  {count:5} {writer}")
    assert not wrong, f"{len(wrong)} files differ:\n" + "\n".join(wrong[:40])
    assert not missing, f"{len(missing)} files are gone and not listed:\n" + "\n".join(missing[:40])
    assert not caps, f"capabilities that no header has: {caps}"
    assert compared > 10_000
    assert special["setuid or setgid"] >= 8
    assert special["capabilities"] >= 2
    assert special["not root's"] >= 4
    unknown = [
        writer for writer in by_others if not writer.startswith(("(", "scriptlet:")) and writer not in KNOWN_WRITERS
    ]
    assert not unknown, f"writers without a reason in KNOWN_WRITERS: {unknown}"


def is_listed(path: str, dropped: set[str]) -> bool:
    """Is a directory above the path listed as dropped?"""
    parts = path.lstrip("/").split("/")
    return any("/".join(parts[:count]) in dropped for count in range(1, len(parts)))


def test_every_label_is_what_the_policy_says(composed: Composed, tmp_path: Path) -> None:
    compared, unnamed = compare(composed.checkout, composed.tree.entries, "default", tmp_path)
    print(f"compared {compared} labels, {len(unnamed)} that the policy does not name: {unnamed[:5]}")
    assert compared > 11_000
    assert len(unnamed) < 10


def test_what_brings_what_is_known_of_the_commit_as_of_its_repositories(
    composed: Composed, whole_sets: Callable[[str], Whole], tmp_path: Path
) -> None:
    whole = whole_sets(composed.name)
    options = ComposeOptions(treefile=str(whole.treefile), cachedir=str(whole.top / "cache"))
    loaded = load(options, Reporter())
    request = request_of(loaded.treefile, repo_access(options, loaded, with_lockfile=False), links=True)
    solved = solve(request, RepoNetwork(cachedir=options.cachedir), Reporter())
    database = tmp_path / DATABASE_PATH
    database.mkdir(parents=True)
    shutil.copy(composed.checkout / DATABASE_PATH / "rpmdb.sqlite", database)
    packages, links = installed_links(str(tmp_path), Reporter())
    assert packages == tuple(each.nevra for each in solved.packages)
    assert len(links) > 500
    assert links == solved.links


def test_the_target_s_own_rpm_reads_the_database(composed: Composed) -> None:
    done = subprocess.run(
        ["chroot", str(composed.checkout), "/usr/bin/rpm", "--dbpath", "/usr/share/rpm", "-qa"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert len(done.stdout.split()) == len(composed.rpms)


def test_layout_a_client_needs(composed: Composed) -> None:
    root = composed.checkout
    kernels = list((root / "usr/lib/modules").glob("*/vmlinuz"))
    assert len(kernels) == 1
    image = kernels[0].with_name("initramfs.img")
    assert image.stat().st_size > 5 << 20
    assert "usr/lib/ostree/ostree-prepare-root" in initramfs_files(root, image)
    assert not (root / "etc").exists()
    assert os.listdir(root / "var") == []
    assert os.listdir(root / "boot") == []
    assert os.readlink(root / "ostree") == "sysroot/ostree"
    for name in ("shadow", "gshadow"):
        assert stat.S_IMODE((root / "usr/etc" / name).stat().st_mode) == 0
    assert {"var/log", "var/cache/ldconfig", "var/mail", "var/home", "var/roothome"} <= declared(root)


def initramfs_files(root: Path, image: Path) -> set[str]:
    """Files and symlinks of an initramfs, as dracut's own lsinitrd lists them."""
    listing = subprocess.run(
        ["chroot", str(root), "lsinitrd", f"/{image.relative_to(root)}"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    return set(re.findall(r"(?m)^[-l][-rwxsStT]{9} .* \d{4} (\S+)(?: -> .*)?$", listing))


def test_blame_of_the_initramfs(composed: Composed) -> None:
    """Each file in it is counted for whoever made the path in the commit."""
    assert composed.result.commit is not None
    (image,) = (composed.checkout / "usr/lib/modules").glob("*/initramfs.img")
    found = blame(composed.result.repo, composed.result.commit, str(image.relative_to(composed.checkout)))
    listed = initramfs_files(composed.checkout, image)
    assert sum(count for _, count in found.holds) == len(listed) > 300
    holds = {writer.partition("-2")[0]: count for writer, count in found.holds}
    assert holds["package:systemd"] > 20
    assert holds["package:ostree-boot"] >= 1
    # what dracut writes itself, and its hooks' places
    assert 0 < holds[""] < len(listed) / 2
    print(f"{image.name} holds {len(listed)} files: {found.holds[:5]}")


def declared(checkout: Path) -> set[str]:
    """Paths that tmpfiles.d lines make at boot."""
    lines = [
        line.split()
        for path in (checkout / "usr/lib/tmpfiles.d").glob("*.conf")
        for line in path.read_text().splitlines()
    ]
    return {words[1].lstrip("/") for words in lines if len(words) > 1 and words[0][0] in "dDvqQCLfF"}


def test_nothing_for_lint_to_say(composed: Composed) -> None:
    assert composed.result.commit is not None
    found = lint_commit(
        composed.result.repo, composed.result.commit, str(composed.checkout.parent / "cache"), Reporter()
    )
    # composefs is the treefile's author's choice
    assert {finding.rule for finding in found} <= {"baseimage-composefs"}


def test_its_image_is_what_clients_import(composed: Composed, tmp_path: Path) -> None:
    repo, commit = composed.result.repo, composed.result.commit
    assert commit is not None
    options = EncapsulateOptions(repo=repo, revision=commit, target=f"oci:{tmp_path}/out", jobs=os.cpu_count() or 1)
    image = encapsulate_commit(options, Reporter()).image
    assert import_image(tmp_path / "out").commit == commit
    top = extract(tmp_path / "out", None, tmp_path / "root")
    ostree(top / "sysroot/ostree/repo", "fsck")
    assert seen(top) == wanted((Path(repo), commit), tmp_path)
    print(f"{len(image.layers)} layers, {sum(each.size for each in image.layers)} bytes")

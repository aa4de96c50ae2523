"""A small Fedora (tests/fedora), composed by the treefiles that come with the project, as a Fedora would be.

Its packages have the names, owners, scriptlets and triggers of Fedora's; what they hold is small. The commit is judged as
a client gets it, and the assembled tree beside `dnf5 --installroot` of the same packages.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rpm

from compose import records
from compose.architecture import host_basearch
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.rootfs import write_rootfs
from tests.compat.assemble.test_dnf5 import RULES as REAL_RULES
from tests.compat.ostree.test_commit import ostree, served
from tests.e2e import tiny
from tests.e2e.test_min import header_of, ids, nevra_of
from tests.fedora.build import EPOCH, HERE, Fedora, build
from tests.support import differential
from tests.support.differential import Difference, Rule, Side, exactly
from tests.support.labels import compare
from tests.support.rpmrepo import Keys, run

pytestmark = pytest.mark.root
PROJECT = Path(__file__).parents[2]
TREEFILES = PROJECT / "treefiles"
ARCH = host_basearch()
# What runs in a package that is installed for the first time.
KINDS = ("pretrans", "pre", "post", "posttrans")
IGNORED = {("kernel-core", "%posttrans"), ("kernel-modules", "%posttrans")}
# Lines of `rpm -Va` of a booted client, each with its reason.
EXPLAINED = {
    "/": "0755 in every image",
    "/afs": "the top level of an OSTree system is fixed",
    "/boot": "0755, and what is in it is the machine's",
    "/boot/efi/EFI/BOOT/BOOTX64.EFI": "kept in /usr/lib/ostree-boot",
    "/boot/efi/EFI/fedora/grub{efi}.efi": "kept in /usr/lib/ostree-boot",
    "/proc": "a mount point",
    "/sys": "a mount point",
    "/root": "a link to /var/roothome, which is 0700",
    "/var/lib/rpm-state": "of the transaction only",
    "/var/lib/selinux/targeted/semanage.read.LOCK": "made by whoever locks",
    "/var/lib/selinux/targeted/semanage.trans.LOCK": "made by whoever locks",
    "/etc/default/useradd": "homes are in /var/home",
    "/etc/selinux/semanage.conf": "the module store is in /etc/selinux",
    "/etc/selinux/targeted/contexts/files/file_contexts.subs_dist": "aliases of the OSTree layout",
    "/usr/lib/os-release": "mutate-os-release",
    "/lib/modules/{kver}/.vmlinuz.hmac": "names the kernel beside it",
}


@dataclass(frozen=True)
class Composed:
    """stderr: what was told on the way. checkout: of the commit, by the real client. rpms: what it is made of."""

    repo: Path
    commit: str
    ref: str
    stderr: str
    told: dict[str, Any]
    checkout: Path
    rpms: list[Path]

    def read(self, path: str) -> str:
        return (self.checkout / path).read_text()

    def records(self) -> records.Records:
        """Who made each path, and what ran."""
        with Repo.open(str(self.repo)) as repo:
            return records.read(repo, self.commit)

    def names(self) -> dict[str, str]:
        """Name -> version of the packages."""
        return {header_of(each)["name"]: header_of(each)["version"] for each in self.rpms}

    @property
    def kernel(self) -> Path:
        (found,) = (self.checkout / "usr/lib/modules").iterdir()
        return found


@pytest.fixture(scope="module")
def fedora(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Fedora:
    return build(tmp_path_factory.mktemp("fedora") / "small", keys, tiny.SIGNER, ARCH)


def compose(fedora: Fedora, treefile: Path, top: Path) -> Composed:
    repo = top / "repo"
    ostree(repo, "init", "--mode=archive")
    done = subprocess.run(
        [sys.executable, "-m", "compose", "tree", treefile, f"--source-root={fedora.root}",
         f"--repo={repo}", f"--cachedir={top}/cache", f"--write-composejson-to={top}/compose.json"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=top, timeout=300,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((top / "compose.json").read_text())
    client = top / "client"
    ostree(client, "init", "--mode=bare")
    with served(repo) as url:
        ostree(client, "remote", "add", "--no-gpg-verify", "o", url)
        ostree(client, "pull", "o", told["ref"])
    ostree(client, "fsck")
    ostree(client, "checkout", "-H", f"o:{told['ref']}", str(top / "checkout"))
    # asking makes files beside the database
    ostree(client, "checkout", "-U", "--subpath=/usr/share/rpm", f"o:{told['ref']}", str(top / "rpmdb"))
    query = run("rpm", f"--dbpath={top}/rpmdb", "-qa", "--qf=%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n")
    installed = set(query.split())
    rpms = [path for paths in fedora.packages.values() for path in paths if path.stem in installed]
    assert len(rpms) == len(installed)
    return Composed(repo, told["ostree-commit"], told["ref"], done.stderr, told, top / "checkout", rpms)


@pytest.fixture(scope="module")
def composed(fedora: Fedora, tmp_path_factory: pytest.TempPathFactory) -> Composed:
    return compose(fedora, TREEFILES / "fedora.yaml", tmp_path_factory.mktemp("minimal"))


def test_nothing_is_told_but_this(composed: Composed) -> None:
    assert composed.ref == f"fedora/{ARCH}/minimal"
    assert composed.told["ostree-version"].startswith("43.")
    # the first is told of; the others each machine makes for itself
    dropped = [each["path"] for each in composed.told["dropped"]]
    assert dropped == ["/afs", "/etc/machine-id", "/var/cache/ldconfig/aux-cache"]
    lines = [line for line in composed.stderr.splitlines() if "warning" in line or "error" in line]
    assert lines == []
    done = subprocess.run(
        [sys.executable, "-m", "compose", "lint", composed.ref, f"--repo={composed.repo}", "--strict", "--format=json"],
        capture_output=True, text=True, check=False, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0
    # files of polkitd and chrony, whose ids float in Fedora; id-lock pins them
    assert [each["rule"] for each in json.loads(done.stdout)] == ["etc-uid-drift"]


def test_packages(composed: Composed) -> None:
    names = composed.names()
    assert names["less"] == "1.1", "the newer build is in the updates"
    assert "NetworkManager-wifi" not in names, "recommends: false"
    assert "glibc-all-langpacks" not in names
    assert "basesystem" not in names, "filesystem provides it"


def test_directories_are_merged(composed: Composed) -> None:
    links = {name: os.readlink(composed.checkout / name) for name in ("bin", "sbin", "lib", "lib64", "usr/sbin")}
    assert links == {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "usr/sbin": "bin"}
    listed = {file.name for each in composed.rpms for file in rpm.files(header_of(each))}
    programs = [name for name in listed if name.startswith(("/sbin/", "/usr/sbin/", "/bin/"))]
    assert len(programs) > 10
    assert all((composed.checkout / "usr/bin" / Path(name).name).exists(follow_symlinks=False) for name in programs)
    writers = composed.records().writers
    assert writers["usr/sbin"].startswith("package:filesystem-")
    # links that nothing is below come to be when the script runs
    assert writers["usr/lib/debug/usr/sbin"].startswith("scriptlet:filesystem-")
    assert "L /var/usrlocal/sbin - - - - bin" in composed.read("usr/lib/tmpfiles.d/rpm-ostree-autovar.conf")


def test_every_scriptlet_ran(composed: Composed) -> None:
    found = composed.records().programs
    ran = {(each.owner.partition(":")[2], each.phase) for each in found if each.owner.startswith("scriptlet:")}
    assert all(each.status == 0 for each in found)
    expected, skipped = set(), set()
    for path in composed.rpms:
        header = header_of(path)
        phases = {f"%{kind}" for kind in KINDS if header[{"pre": "prein", "post": "postin"}.get(kind, kind) + "prog"]}
        phases |= {
            f"%{kind}" for kind in ("filetriggerin", "transfiletriggerin", "triggerin") if triggers(header, kind)
        }
        for phase in phases:
            (skipped if (header["name"], phase) in IGNORED else expected).add((nevra_of(header), phase))
    assert ran == expected
    assert len(ran) > 30
    told = [line.partition("Skipping ")[2] for line in composed.stderr.splitlines() if "Skipping %" in line]
    assert {tuple(line.split(": ")[0].split(" of ")[::-1]) for line in told} == skipped


def triggers(header: Any, kind: str) -> bool:
    """Has it a trigger that fires when something is installed?"""
    if kind == "triggerin":
        return any(flags & rpm.RPMSENSE_TRIGGERIN for flags in header["triggerflags"])
    tag = "filetriggerflags" if kind == "filetriggerin" else "transfiletriggerflags"
    return any(flags & rpm.RPMSENSE_TRIGGERIN for flags in header[tag])


def test_accounts(composed: Composed) -> None:
    assert [line.split(":")[0] for line in composed.read("usr/etc/passwd").splitlines()] == ["root"]
    users, groups = ids(composed.checkout, "passwd"), ids(composed.checkout, "group")
    fixed = {
        "root": 0,
        "rpm": 37,
        "dbus": 81,
        "sshd": 74,
        "systemd-network": 192,
        "systemd-resolve": 193,
        "nobody": 65534,
    }
    assert fixed.items() <= users.items()
    floating = [users[name] for name in ("chrony", "polkitd", "systemd-oom", "systemd-coredump")]
    assert len({*floating}) == len(floating)
    assert all(200 < number < 1000 for number in floating)
    assert "systemd-journal:x:190:systemd-oom" in composed.read("usr/lib/group").splitlines()
    owners = {
        "usr/etc/chrony.keys": (0, groups["chrony"], 0o640),
        "usr/etc/polkit-1/rules.d": (0, groups["polkitd"], 0o750),
        "usr/libexec/openssh/ssh-keysign": (0, groups["ssh_keys"], 0o2555),
        "usr/lib/rpm/rpm.daily": (0, groups["rpm"], 0o2755),
        "usr/bin/write": (0, groups["tty"], 0o2755),
        "usr/bin/sudo": (0, 0, 0o4111),
        "usr/etc/shadow": (0, 0, 0),
        "usr/etc/gshadow": (0, 0, 0),
    }
    for path, expected in owners.items():
        status = os.lstat(composed.checkout / path)
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == expected, path
    assert "d /var/lib/chrony 0750 chrony chrony - -" in composed.read("usr/lib/tmpfiles.d/rpm-ostree-autovar.conf")
    # authselect's own profile, for there was a /run/ostree-booted
    assert os.readlink(composed.checkout / "usr/etc/nsswitch.conf") == "/etc/authselect/nsswitch.conf"
    assert "passwd:     files altfiles systemd" in composed.read("usr/etc/authselect/nsswitch.conf")


def test_rpm_ostree_makes_autovar_anew_when_a_client_layers_packages(composed: Composed) -> None:
    """Its deduplicate_tmpfiles_entries(): what is in the packages' files, less what other tmpfiles.d files name."""

    def read(directory: Path, without: str = "") -> dict[str, str]:
        files = sorted(each for each in directory.glob("*.conf") if each.name != without)
        lines = (line for each in files for line in each.read_text().splitlines())
        return {line.split()[1]: line for line in lines if line and not line.startswith("#")}

    staged, system = (composed.checkout / "usr/lib" / each for each in ("rpm-ostree/tmpfiles.d", "tmpfiles.d"))
    assert "d /var/cache 0755 root root - -" in (staged / "filesystem.conf").read_text().splitlines()
    assert "d /var/lib/chrony 0750 chrony chrony - -" in (staged / "chrony.conf").read_text().splitlines()
    assert {each.stem for each in staged.iterdir()} <= composed.names().keys()
    ours = "rpm-ostree-autovar.conf"
    configured = read(system, without=ours)
    anew = {line for path, line in read(staged).items() if path not in configured}
    now = {line for line in (system / ours).read_text().splitlines() if not line.startswith("#")}
    # it takes the line "z /var/log/journal" for one that makes it
    assert (now - anew, anew - now) == ({"d /var/log/journal 2755 root systemd-journal - -"}, set())


def test_kernel(composed: Composed) -> None:
    kver = composed.kernel.name
    assert kver.endswith(f".fc43.{ARCH}")
    assert os.listdir(composed.checkout / "boot") == []
    assert composed.read(f"usr/lib/modules/{kver}/modules.dep").splitlines() == [
        "kernel/drivers/net/e1000.ko.xz:", "kernel/fs/ext4.ko.xz:"
    ]  # fmt: skip
    assert composed.read(f"usr/lib/modules/{kver}/.vmlinuz.hmac").endswith(f"  vmlinuz-{kver}\n")
    with (composed.kernel / "initramfs.img").open("rb") as image:
        unpacked = subprocess.run(["gzip", "-dc"], stdin=image, capture_output=True, check=False).stdout
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=unpacked, capture_output=True, check=True).stdout.split()
    assert b"usr/lib/ostree/ostree-prepare-root" in listed
    # what belongs to a boot loader is kept for the tool that installs it
    assert (composed.checkout / "usr/lib/ostree-boot/efi/EFI").is_dir() or ARCH not in ("x86_64", "aarch64")


def test_what_scripts_made(composed: Composed) -> None:
    for backend in ("gnutls", "openssh", "nss", "opensslcnf"):
        link = os.readlink(composed.checkout / f"usr/etc/crypto-policies/back-ends/{backend}.config")
        assert link == f"/usr/share/crypto-policies/DEFAULT/{backend}.txt"
    assert composed.read("usr/etc/crypto-policies/state/current") == "DEFAULT\n"
    assert composed.read("usr/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem") == "certificate: tiny\n"
    assert "ID_VENDOR=Tiny" in composed.read("usr/etc/udev/hwdb.bin")
    assert (composed.checkout / "usr/etc/ld.so.cache").stat().st_size > 100
    assert (composed.checkout / "usr/lib64/gconv/gconv-modules.cache").stat().st_size > 0
    wanted = composed.checkout / "usr/etc/systemd/system/multi-user.target.wants"
    services = ("NetworkManager.service", "chronyd.service", "dbus-broker.service", "sshd.service")
    assert {each.name for each in wanted.iterdir()} == {*services}
    # machineid-compat: false
    assert not (composed.checkout / "usr/etc/machine-id").exists()


def test_the_policy_s_store_is_the_image_s(composed: Composed) -> None:
    store = composed.checkout / "usr/etc/selinux/targeted/active"
    assert {each.name for each in (store / "modules/100").iterdir()} == {"base", "usermanage"}
    assert stat.S_IMODE((store / "modules").stat().st_mode) == 0o700
    # spelled as rpm-ostree looks for it when a client layers packages; otherwise it would append another line
    assert "\nstore-root=/etc/selinux\n" in composed.read("usr/etc/selinux/semanage.conf")
    assert composed.read("usr/etc/selinux/config").splitlines()[-1] == "SELINUXTYPE=targeted"
    assert os.listdir(composed.checkout / "var") == []
    assert "L /var/lib/selinux - - - - ../../etc/selinux" in composed.read(
        "usr/lib/tmpfiles.d/rpm-ostree-0-integration.conf"
    )
    homes = composed.read("usr/etc/selinux/targeted/contexts/files/file_contexts.homedirs")
    assert homes.startswith("/var/home\t-d")


def test_labels(composed: Composed, tmp_path: Path) -> None:
    compared, unnamed = compare(composed.checkout, composed.records().writers, "targeted", tmp_path)
    assert compared > 450
    assert sorted(unnamed) == ["dev", "proc", "sys"]


def test_rpm_finds_nothing_wrong_on_a_client(composed: Composed, tmp_path: Path) -> None:
    root = tmp_path / "root"
    ostree(composed.repo.with_name("client"), "checkout", f"o:{composed.ref}", str(root))
    (root / "usr/etc").rename(root / "etc")
    for name in ("passwd", "group"):
        # as altfiles reads them
        text = (root / "etc" / name).read_text() + (root / "usr/lib" / name).read_text()
        (root / "etc" / name).write_text(text)
    run("chroot", str(root), "/usr/bin/systemd-tmpfiles", "--create")
    names = {"kver": composed.kernel.name, "efi": {"x86_64": "x64", "aarch64": "aa64"}.get(ARCH, "")}
    explained = {path.format_map(names): reason for path, reason in EXPLAINED.items()}
    wrong = {line.split()[-1]: line for line in differential.verified(root, "/usr/share/rpm")}
    assert [line for path, line in wrong.items() if path not in explained] == []
    assert sorted(explained.keys() - wrong.keys()) == []


@pytest.mark.parametrize("name", ["iot", "bootc", "desktop"])
def test_the_other_treefiles(name: str, fedora: Fedora, tmp_path: Path) -> None:
    made = compose(fedora, TREEFILES / f"fedora-{name}.yaml", tmp_path)
    assert made.ref == f"fedora/{ARCH}/{name}"
    assert [line for line in made.stderr.splitlines() if "warning" in line] == []
    compare(made.checkout, made.records().writers, "targeted", tmp_path / "cache")
    if name == "desktop":
        assert {"NetworkManager-wifi", "tzdata", "gnome-shell", "glibc-all-langpacks"} <= made.names().keys()
        assert not {"dnf", "dnf5"} & made.names().keys(), "exclude-packages, from a group"
        assert "wheel:x:10:" in made.read("usr/etc/group").splitlines()
    else:
        # %post put a module into the store while it was in /var
        store = made.checkout / "usr/etc/selinux/targeted/active/modules"
        assert (store / "200/container/cil").exists()
        label = os.getxattr(made.checkout / "usr/bin/container-runtime", "security.selinux")
        assert label.startswith(b"system_u:object_r:container_runtime_exec_t:")
    if name == "bootc":
        assert os.readlink(made.checkout / "usr/local/sbin") == "bin"


def test_what_treefiles_of_coreos_rely_on(fedora: Fedora, tmp_path: Path) -> None:
    """Fedora CoreOS and RHEL CoreOS have all of this in their treefiles."""
    (tmp_path / "passwd").write_text(
        "root:x:0:0:Super User:/root:/bin/bash\nnobody:x:99:99:Kernel Overflow User:/:/usr/sbin/nologin\n"
        "nfsnobody:x:65534:65534:Anonymous NFS User:/var/lib/nfs:/usr/sbin/nologin\n#kube:x:996:994:::\n"
        "chrony:x:994:992::/var/lib/chrony:/usr/sbin/nologin\n"
    )
    (tmp_path / "group").write_text("root:x:0:\nnobody:x:99:\nnfsnobody:x:65534:\nchrony:x:992:\nssh_keys:x:999:\n")
    (tmp_path / "coreos.yaml").write_text(
        f"""\
include: {TREEFILES}/fedora.yaml
check-passwd: {{type: file, filename: passwd}}
check-groups: {{type: file, filename: group}}
ignore-removed-users: [root]
ignore-removed-groups: [root]
remove-from-packages: [[curl, /]]
postprocess:
  - |
    #!/usr/bin/bash
    set -xeuo pipefail
    (echo "# Do not edit"; cat /usr/etc/chrony.conf) > /tmp/chrony.conf
    cp /tmp/chrony.conf /usr/etc/chrony.conf
    # what bootupctl moves
    test -d /usr/lib/ostree-boot/efi/EFI || test {ARCH} != x86_64
    grep -q '"name": "coreos"' /usr/share/rpm-ostree/treefile.json
metadata: {{name: coreos}}
"""
    )
    made = compose(fedora, tmp_path / "coreos.yaml", tmp_path)
    users = [line.split(":")[:4] for line in made.read("usr/lib/passwd").splitlines()]
    assert [each for each in users if each[0] in ("nobody", "nfsnobody", "bin", "chrony", "#kube")] == [
        ["nobody", "x", "99", "99"],
        ["nfsnobody", "x", "65534", "65534"],
        ["chrony", "x", "994", "992"],
        ["bin", "x", "1", "1"],
    ]
    assert os.lstat(made.checkout / "usr/etc/chrony.keys").st_gid == 992
    assert os.lstat(made.checkout / "usr/libexec/openssh/ssh-keysign").st_gid == 999
    assert made.read("usr/etc/chrony.conf").startswith("# Do not edit\n")
    assert not (made.checkout / "usr/bin/curl").exists()


def same_length(difference: Difference, ours: Side, theirs: Side) -> bool:
    if difference.path != "etc/machine-id" or difference.aspect != "content":
        return False
    return len(ours.read(difference.path)) == len(theirs.read(difference.path)) == 33


RULES = (
    *REAL_RULES,
    Rule("machine-id", "another one each time; the compose empties it", same_length),
    Rule("mount points", "%ghost, and mounted in both", exactly("proc", "sys", aspect="missing")),
    Rule(
        "state of the running system",
        "systemd-tmpfiles makes it in %post; here /run is not the tree's while programs run",
        exactly(
            *("run/motd", "run/user", "run/systemd", "run/systemd/ask-password", "run/selinux-policy"),
            aspect="missing",
        ),
    ),
)


def test_assembled_as_dnf5_installs(composed: Composed, tmp_path: Path) -> None:
    """All scriptlets run in both, the kernel's too. rpm makes accounts by the same program."""
    ours = differential.assembled(composed.rpms, tmp_path, EPOCH, default_ignored_scriptlets=False)
    macros = f"%__systemd_sysusers {HERE}/programs/systemd-sysusers\n"
    theirs, their_root = differential.installed_by_dnf5(composed.rpms, tmp_path, EPOCH, macros=macros)
    found = list(differential.differences(ours, theirs))
    unexplained, explained = differential.explain(found, RULES, ours, theirs)
    print(f"{len(ours.tree.entries)} paths of {len(composed.rpms)} packages; explained: {dict(explained)}")
    assert not unexplained, "\n".join(map(str, unexplained))
    assert len(ours.tree.entries) > 500
    assert set(explained) >= {rule.name for rule in RULES[len(REAL_RULES) :]}
    # kernel-install ran its plugins
    assert ours.tree[f"usr/lib/modules/{composed.kernel.name}/initramfs.img"].writer.startswith(
        "scriptlet:kernel-core-"
    )
    our_root = tmp_path / "ours"
    write_rootfs(ours.tree, ours.store, str(our_root), Reporter())
    assert differential.headers(our_root, "/usr/share/rpm") == differential.headers(their_root, "/var/lib/rpm")
    assert differential.verified(our_root, "/usr/share/rpm") == []

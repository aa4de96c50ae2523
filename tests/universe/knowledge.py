"""What single packages get when Debian installs them, and their RPMs must carry: data, and a few lines for each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.universe.errors import run
from tests.universe.maintainer import declare_sysusers
from tests.universe.model import CHANGES, CONFIG, Alternative, Context, FileTrigger, Ghost, Kind, Package

DATA = Path(__file__).parent / "data"
FILESYSTEM = "base-files"
ACCOUNTS = "base-passwd"
RELEASE = "universe-release"
ALTFILES = "nss-altfiles"
ADDED = (RELEASE, ALTFILES)
# Debian's own tools, which the RPMs have no use for.
NOT_NEEDED = frozenset(
    {
        *("dpkg", "debconf", "debconf-2.0", "cdebconf", "ucf", "install-info", "init-system-helpers", "runit-helper"),
        *("lsb-base", "update-inetd"),
    }
)
# Most have Fedora's payload; so that every compressor is met, some do not.
PAYLOAD = "w3.zstdio"
PAYLOADS = {
    "less": "w.ufdio",
    "attr": "w6.lzdio",
    "bash": "w19.zstdio",
    "curl": "w19.zstdio",
    **dict.fromkeys(("jq", "sudo", "libc6", "grep", "findutils", "passwd"), "w9.gzdio"),
    **dict.fromkeys(("tar", "perl-base", "libssl3t64", "ncurses-bin", "login"), "w6.xzdio"),
    **dict.fromkeys(("gzip", "sed", "procps"), "w9.bzdio"),
}
# Paths that other packages require, where /usr is not thought of as merged.
_ALIASES = {
    "/usr/bin/sh": "/bin/sh",
    "/usr/bin/bash": "/bin/bash",
    "/usr/bin/systemctl": "/bin/systemctl",
    "/usr/bin/perl": "/bin/perl",
    "/usr/sbin/ldconfig": "/sbin/ldconfig",
}
_CAPABILITIES = {
    "iputils-ping": {"/usr/bin/ping": "cap_net_raw=ep"},
    "uidmap": {"/usr/bin/newuidmap": "cap_setuid=ep", "/usr/bin/newgidmap": "cap_setgid=ep"},
}
_ALTERNATIVES = {
    "gawk": [Alternative(f"/usr/bin/{link}", "/usr/bin/gawk", 10) for link in ("awk", "nawk")],
    "mawk": [Alternative(f"/usr/bin/{link}", "/usr/bin/mawk", 5) for link in ("awk", "nawk")],
    "less": [Alternative("/usr/bin/pager", "/usr/bin/less", 77)],
    "vim-tiny": [Alternative(f"/usr/bin/{link}", "/usr/bin/vim.tiny", 15) for link in ("vi", "view", "ex", "editor")],
    "debianutils": [Alternative("/usr/bin/which", "/usr/bin/which.debianutils", 0)],
}
# Units that a boot needs and no postinst enables.
_ENABLED = (
    *("universe-marker.service", "systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"),
    *("getty@.service", "remote-fs.target", "ostree-remount.service", "ostree-finalize-staged.path"),
)
_DISABLED = ("systemd-networkd-wait-online.service",)
_UNVERIFIED = (CONFIG, CHANGES)
# Stand-ins of vim-tiny, which vim-runtime's preinst has dpkg move out of its way.
_DIVERTED_BY_VIM_RUNTIME = ("/usr/share/vim/vim91/doc/help.txt", "/usr/share/vim/vim91/doc/tags")
_EPOCH = 1760000000


def apply(package: Package, context: Context) -> None:
    """Bring a package to what Debian's installation would have made of it."""
    if change := _CHANGES.get(package.name):
        change(package)
    if match := re.fullmatch(r"linux-image-(\d.*)", package.name):
        _kernel(package, match[1])
    if package.name == "selinux-policy-default":
        _selinux_policy(package, context.policy)
    if package.name == "vim-tiny" and "vim-runtime" in context.names:
        for path in _DIVERTED_BY_VIM_RUNTIME:
            package.drop(path)
    package.alternatives += _ALTERNATIVES.get(package.name, [])
    for path, capabilities in _CAPABILITIES.get(package.name, {}).items():
        package.set_mode(path, package.files[path].mode & 0o777)
        package.files[path].capabilities = capabilities
    # one in twelve runs ldconfig itself, as all did before there were file triggers
    if package.runs_ldconfig and not package.scripts and sum(map(ord, package.name)) % 12 == 0:
        package.scripts["post"] = package.scripts["postun"] = "-p /sbin/ldconfig\n"
        package.requires_pre.append("/sbin/ldconfig")
    package.provides += [alias for path, alias in _ALIASES.items() if path in package.files]


def release(root: Path, packages: Iterable[Package]) -> Package:
    """universe-release: presets, where rpm's database is, how the initramfs is made, and a service that reports a boot."""
    package = synthetic(RELEASE, root, "Presets and configuration of the universe")
    data = DATA / "release"
    for path in sorted(each for each in data.rglob("*") if each.is_file()):
        mode = 0o755 if "/libexec/" in str(path) else 0o644
        package.add_file(f"/{path.relative_to(data)}", path.read_bytes(), mode=mode)
    units = sorted({unit for each in packages for unit in each.units} - set(_DISABLED))
    presets = [f"enable {unit}\n" for unit in (*units, *_ENABLED)] + [f"disable {unit}\n" for unit in _DISABLED]
    package.add_file("/usr/lib/systemd/system-preset/80-universe.preset", "".join(presets))
    package.provides.append(f"system-release = {package.version}")
    package.requires.append(FILESYSTEM)
    preset = "/usr/bin/systemctl preset-all && /usr/bin/systemctl --global preset-all"
    package.script("posttrans", f"[ ! -x /usr/bin/systemctl ] || {{ {preset}; }}\n")
    return package


def altfiles(root: Path) -> Package:
    """nss-altfiles: where clients of an OSTree have their accounts."""
    package = synthetic(ALTFILES, root, "Users and groups of /usr/lib", arch="x86_64")
    library = "/usr/lib/x86_64-linux-gnu/libnss_altfiles.so.2"
    package.add_file(library, "")
    source = DATA / "altfiles/nss_altfiles.c"
    options = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnss_altfiles.so.2", "-Wl,--build-id=none")
    run(["gcc", *options, "-o", str(package.place(library)), str(source)], what=ALTFILES)
    os.utime(package.place(library), (package.mtime, package.mtime))
    package.requires.append("libc6")
    return package


def unsigned(root: Path) -> Package:
    """unsigned-thing: must not be accepted where signatures are demanded."""
    package = synthetic("unsigned-thing", root, "A package nobody signed")
    package.add_file("/usr/share/unsigned-thing", "nobody vouches for this\n")
    return package


def synthetic(name: str, root: Path, summary: str, *, arch: str = "noarch") -> Package:
    """An empty package that Debian does not have."""
    root.mkdir(parents=True)
    return Package(
        name=name,
        root=root,
        version="13",
        release="1",
        arch=arch,
        summary=summary,
        description=f"{summary}.",
        mtime=_EPOCH,
    )


def _base_files(package: Package) -> None:
    shared = "/usr/share/base-files"
    copies = {
        "/etc/profile": "profile",
        "/etc/motd": "motd",
        "/root/.profile": "dot.profile",
        "/root/.bashrc": "dot.bashrc",
    }
    for path, name in copies.items():
        package.add_file(path, package.text(f"{shared}/{name}"), flags=(CONFIG,))
    for path in (
        *(
            "/mnt",
            "/srv",
            "/opt",
            "/media",
            "/dev",
            "/proc",
            "/sys",
            "/run",
            "/boot",
            "/home",
            "/var/opt",
            "/var/empty",
        ),
        *("/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/share"),
    ):
        package.add_directory(path)
    package.add_directory("/var/mail", mode=0o2775, group="mail")
    for path in ("/tmp", "/var/tmp"):
        package.add_directory(path, mode=0o1777)
    for path, target in (("/var/run", "../run"), ("/var/lock", "../run/lock"), ("/var/spool/mail", "../mail")):
        package.drop(path)
        package.add_link(path, target)
    package.provides.append("filesystem = 1")
    package.script("pretrans", _script("base-files.pretrans"))
    package.ghosts += [Ghost("/etc/machine-id", 0o444), Ghost("/etc/hostname"), Ghost("/etc/fstab")]


def _base_passwd(package: Package) -> None:
    users = package.text("/usr/share/base-passwd/passwd.master").replace(":*:", ":x:")
    groups = package.text("/usr/share/base-passwd/group.master").replace(":*:", ":x:")
    user_names = [line.partition(":")[0] for line in users.splitlines()]
    group_names = [line.partition(":")[0] for line in groups.splitlines()]
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in user_names)
    gshadow = "".join(f"{name}:*::\n" for name in group_names)
    package.add_file("/etc/passwd", users, flags=_UNVERIFIED)
    package.add_file("/etc/group", groups, flags=_UNVERIFIED)
    package.add_file("/etc/shadow", shadow, mode=0o640, group="shadow", flags=_UNVERIFIED)
    package.add_file("/etc/gshadow", gshadow, mode=0o640, group="shadow", flags=_UNVERIFIED)
    package.provides += [f"user({name})" for name in user_names] + [f"group({name})" for name in group_names]
    # nothing but the directories may have to come before it
    package.requires_pre = []
    package.requires = [FILESYSTEM]
    # rpm does not know the group yet when it unpacks the file that defines it
    package.script("posttrans", "chgrp shadow /etc/shadow /etc/gshadow\n")


def _libc_bin(package: Package) -> None:
    package.add_file("/etc/nsswitch.conf", package.text("/usr/share/libc-bin/nsswitch.conf"), flags=(CONFIG,))
    package.ghosts.append(Ghost("/etc/ld.so.cache"))
    package.script("post", "-p /sbin/ldconfig\n")
    prefixes = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib")
    package.triggers += [
        FileTrigger(kind, 2000000, prefixes, "/sbin/ldconfig\n")
        for kind in ("transfiletriggerin", "transfiletriggerpostun")
    ]


def _libpam_runtime(package: Package) -> None:
    for path in sorted((DATA / "pam").iterdir()):
        package.add_file(f"/etc/pam.d/{path.name}", path.read_bytes(), flags=(CONFIG,))


def _debianutils(package: Package) -> None:
    shells = "".join(f"{top}/bin/{shell}\n" for shell in ("sh", "bash", "dash") for top in ("", "/usr"))
    package.add_file("/etc/shells", shells, flags=("%config",))


def _systemd(package: Package) -> None:
    package.units = []
    package.script("post", _script("systemd.post"))
    package.triggers += [
        FileTrigger("transfiletriggerin", 1000700, ("/usr/lib/sysusers.d",), "systemd-sysusers\n"),
        FileTrigger(
            "transfiletriggerin",
            1000500,
            ("/usr/lib/tmpfiles.d",),
            "test -d /run/systemd/system || exit 0\nsystemd-tmpfiles --create\n",
        ),
    ]
    package.requires += ["passwd", "base-passwd", "(systemd-sysv if linux-image-cloud-amd64)"]


def _udev(package: Package) -> None:
    trigger = FileTrigger("transfiletriggerin", 1000600, ("/usr/lib/udev/hwdb.d",), "systemd-hwdb update --usr\n")
    package.triggers.append(trigger)


def _dbus(package: Package) -> None:
    _own(package, "/usr/lib/dbus-1.0/dbus-daemon-launch-helper", "messagebus", 0o4754)


def _openssh_client(package: Package) -> None:
    _own(package, "/usr/bin/ssh-agent", "_ssh", 0o2755)
    if "group(_ssh)" not in package.provides:
        line = "g _ssh -\n"
        package.add_file("/usr/lib/sysusers.d/openssh-client.conf", line)
        declare_sysusers(package, line)


def _openssh_server(package: Package) -> None:
    package.add_file(
        "/etc/ssh/sshd_config", package.text("/usr/share/openssh/sshd_config"), mode=0o600, flags=(CONFIG,)
    )
    # one of the two listens, not both
    package.units = [unit for unit in package.units if unit != "ssh.socket"]
    package.ghosts += [Ghost(f"/etc/ssh/ssh_host_{kind}_key", 0o600) for kind in ("rsa", "ecdsa", "ed25519")]


def _ca_certificates(package: Package) -> None:
    top = "/usr/share/ca-certificates/"
    names = sorted(path.removeprefix(top) for path in package.files if path.startswith(top) and path.endswith(".crt"))
    package.add_file("/etc/ca-certificates.conf", "".join(f"{name}\n" for name in names), flags=(CONFIG,))
    package.script("post", "update-ca-certificates --fresh >/dev/null\n")
    package.ghosts.append(Ghost("/etc/ssl/certs/ca-certificates.crt"))
    # the rest is essential in Debian, and so in nobody's dependencies
    package.requires_pre += [FILESYSTEM, "openssl", "coreutils", "findutils", "grep", "sed"]


def _ca_certificates_java(package: Package) -> None:
    # a hook of update-ca-certificates that asks dpkg to run a trigger
    package.drop("/etc/ca-certificates/update.d/jks-keystore")


def _kernel(package: Package, kernel: str) -> None:
    modules = f"/usr/lib/modules/{kernel}"
    for name in ("vmlinuz", "System.map", "config"):
        package.move(f"/boot/{name}-{kernel}", f"{modules}/{name}")
    package.set_mode(f"{modules}/vmlinuz", 0o755)
    package.drop("/boot")
    package.ghosts += [Ghost(f"/boot/vmlinuz-{kernel}", 0o755), Ghost(f"/boot/initramfs-{kernel}.img", 0o600)]
    generated = ("dep", "dep.bin", "alias", "alias.bin", "symbols", "symbols.bin", "softdep", "devname", "weakdep")
    names = (f"{modules}/modules.{name}" for name in (*generated, "builtin.bin", "builtin.alias.bin"))
    package.ghosts += [Ghost(name) for name in names if name not in package.files]
    evr = f"{package.version}-{package.release}"
    package.provides += [f"kernel = {evr}", f"kernel-core = {evr}", f"kernel-uname-r = {kernel.replace('-', '_')}"]
    package.script("posttrans", f"/sbin/depmod -a {kernel}\n")
    package.requires_pre.append("kmod")


def _selinux_policy(package: Package, policy: Path) -> None:
    for top, directories, files in os.walk(policy):
        directories.sort()
        below = Path("/", os.path.relpath(top, policy))
        for name in directories:
            path = str(below / name)
            # the first two levels are everybody's
            if path not in package.files and path.count("/") > 2:
                package.add_directory(path, mode=0o700 if "/active" in path else 0o755)
        for name in sorted(files):
            source = Path(top, name)
            flags = (CONFIG,) if name == "config" else (CHANGES,)
            package.add_file(str(below / name), source.read_bytes(), mode=source.stat().st_mode & 0o777, flags=flags)


def _own(package: Package, path: str, group: str, mode: int) -> None:
    """What a postinst does with chown and chmod."""
    entry = package.files[path]
    assert entry.kind is Kind.FILE, path
    entry.group = group
    package.set_mode(path, mode)


def _script(name: str) -> str:
    return (DATA / "scripts" / name).read_text()


_CHANGES: dict[str, Callable[[Package], None]] = {
    "base-files": _base_files,
    ACCOUNTS: _base_passwd,
    "libc-bin": _libc_bin,
    "libpam-runtime": _libpam_runtime,
    "debianutils": _debianutils,
    "systemd": _systemd,
    "udev": _udev,
    "dbus": _dbus,
    "openssh-client": _openssh_client,
    "openssh-server": _openssh_server,
    "ca-certificates": _ca_certificates,
    "ca-certificates-java": _ca_certificates_java,
}

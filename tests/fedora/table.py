"""Packages without a shape of their own: a few files, a unit, an account; one row each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plain:
    """files: "PATH", or "MODE OWNER GROUP [CAPABILITIES] PATH"; a slash at the end is a directory. requires and the like:
    separated by blanks. unit: a service that multi-user.target wants, if a preset says so. sysusers: lines."""

    name: str
    files: tuple[str, ...] = ()
    requires: str = ""
    recommends: str = ""
    provides: str = ""
    unit: str = ""
    sysusers: str = ""
    post: str = ""
    version: str = "1.0"

    def section(self) -> Iterator[str]:
        """Of a spec file: the package."""
        yield f"%package -n {self.name}\nVersion: {self.version}\nSummary: {self.name}\nRequires: filesystem"
        for tag, words in (("Requires", self.requires), ("Recommends", self.recommends), ("Provides", self.provides)):
            yield from (f"{tag}: {word}" for word in words.split())
        yield f"%description -n {self.name}\n%{{summary}}."

    def install(self) -> Iterator[str]:
        """Of a spec file: what makes the files."""
        for path, _ in self._listed():
            if path.endswith("/"):
                yield f"mkdir -p .{path}"
            else:
                yield f"mkdir -p .{path.rpartition('/')[0]}; echo '{self.name} {self.version}' >.{path}"
        if self.unit:
            text = "[Service]\\nExecStart=/usr/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n"
            yield f"printf '{text}' >.{self._unit}"
        if self.sysusers:
            yield f"cat >.{self._accounts} <<'EOF'\n{self.sysusers}\nEOF"

    def sections(self) -> Iterator[str]:
        """Of a spec file: scriptlets and files."""
        if self.unit:
            yield f"%post -n {self.name}\n%{{systemd_post {self.unit}}}\n"
        if self.post:
            yield f"%post -n {self.name}{self.post}"
        yield f"%files -n {self.name}"
        yield from (line for _, line in self._listed())
        if self.unit:
            yield self._unit
        if self.sysusers:
            yield self._accounts

    @property
    def _unit(self) -> str:
        return f"/usr/lib/systemd/system/{self.unit}"

    @property
    def _accounts(self) -> str:
        return f"/usr/lib/sysusers.d/{self.name}.conf"

    def _listed(self) -> Iterator[tuple[str, str]]:
        for each in self.files or (f"/usr/share/{self.name}/readme",):
            *facts, path = each.split()
            what = "%dir " if path.endswith("/") else "%config(noreplace) " if path.startswith("/etc/") else ""
            mode, user, group = facts[:3] or ("0755" if "/bin/" in path or "/sbin/" in path else "-", "root", "root")
            caps = f"%caps({facts[3]}) " if len(facts) > 3 else ""
            yield path, f"%attr({mode},{user},{group}) {caps}{what}{path.rstrip('/')}"


# what the other treefiles name beside fedora.yaml
_NAMES = """
greenboot greenboot-default-health-checks ignition ignition-edge ssh-key-dir fdo-client fdo-owner-cli
NetworkManager-wifi NetworkManager-wwan ModemManager wpa_supplicant wireless-regdb firewalld
usbguard bluez libgpiod-utils i2c-tools setools-console zram-generator tpm2-tools
clevis-luks clevis-dracut clevis-pin-tpm2 uboot-images-armv8 bcm283x-firmware
bootc bootupd composefs tar xz zstd dnf5 dnf gnome-software-dnf
flatpak gnome-shell gnome-software-rpm-ostree plymouth-system-theme fwupd switcheroo-control tuned-ppd
"""
_GROUP_NAMES = """
base-graphical desktop-accessibility fonts guest-desktop-agents hardware-support multimedia networkmanager-submodules printing
"""
PLAIN = (
    # administration
    Plain("pam", ("/etc/security/limits.conf", "4755 root root /usr/sbin/unix_chkpwd"), requires="authselect"),
    Plain(
        "util-linux",
        ("/usr/bin/mount", "4755 root root /usr/bin/su", "2755 root tty /usr/bin/write", "/usr/sbin/nologin"),
        requires="pam",
    ),
    Plain("sudo", ("4111 root root /usr/bin/sudo", "0440 root root /etc/sudoers", "0750 root root /etc/sudoers.d/")),
    Plain(
        "shadow-utils",
        ("/usr/sbin/useradd", "0755 root root cap_setuid=ep /usr/bin/newuidmap", "0644 root root /etc/default/useradd"),
        provides="passwd",
    ),
    Plain("less", ("/usr/bin/less",)),
    Plain("procps-ng", ("/usr/bin/ps",)),
    Plain("hostname", ("/usr/bin/hostname",)),
    Plain("vim-minimal", ("/usr/bin/vi", "0644 root root /etc/virc")),
    # boot
    Plain("grub2-common", ("/etc/grub.d/", "/usr/lib/grub/readme")),
    Plain("grub2-pc", requires="grub2-common", provides="grub2"),
    Plain("grub2-efi-x64", ("0700 root root /boot/efi/EFI/fedora/grubx64.efi",), requires="grub2-common"),
    Plain("grub2-efi-aa64", ("0700 root root /boot/efi/EFI/fedora/grubaa64.efi",), requires="grub2-common"),
    Plain("shim-x64", ("0700 root root /boot/efi/EFI/BOOT/BOOTX64.EFI",), provides="shim"),
    Plain("efibootmgr", ("/usr/sbin/efibootmgr",)),
    Plain("microcode_ctl", ("/usr/lib/firmware/intel-ucode/06",)),
    # accounts of every kind: fixed, floating, members, a group of its own, one that other packages' files belong to
    Plain(
        "dbus-common",
        ("/usr/share/dbus-1/system.conf",),
        sysusers='# of dbus-broker\nu dbus 81 "System Message Bus" - -',
    ),
    Plain(
        "dbus-broker", ("/usr/bin/dbus-broker",), requires="dbus-common", provides="dbus", unit="dbus-broker.service"
    ),
    Plain(
        "polkit",
        ("/usr/lib/polkit-1/polkitd", "0750 root polkitd /etc/polkit-1/rules.d/", "4755 root root /usr/bin/pkexec"),
        requires="dbus",
        unit="polkit.service",
        sysusers='u polkitd - "User for polkitd" / -',
    ),
    Plain(
        "chrony",
        (
            *("/usr/sbin/chronyd", "0644 root root /etc/chrony.conf", "0640 root chrony /etc/chrony.keys"),
            *("0750 chrony chrony /var/lib/chrony/", "0750 chrony chrony /var/log/chrony/"),
        ),
        requires="systemd",
        unit="chronyd.service",
        sysusers='#Type Name ID GECOS Home\nu chrony - "chrony system user" /var/lib/chrony /sbin/nologin',
    ),
    Plain(
        "openssh",
        ("0755 root root /etc/ssh/", "2555 root ssh_keys /usr/libexec/openssh/ssh-keysign"),
        sysusers="g ssh_keys - - - -",
    ),
    Plain(
        "openssh-server",
        ("/usr/sbin/sshd", "0600 root root /etc/ssh/sshd_config", "0711 root root /usr/share/empty.sshd/"),
        requires="openssh crypto-policies",
        unit="sshd.service",
        sysusers='u sshd 74 "Privilege-separated SSH" /usr/share/empty.sshd -',
    ),
    Plain("openssh-clients", ("/usr/bin/ssh",), requires="openssh"),
    Plain("tpm2-tss", ("/usr/lib64/libtss2.so.0",), sysusers='u tss 59 "TPM access" - -'),
    Plain(
        "clevis",
        ("/usr/bin/clevis", "0750 clevis clevis /var/cache/clevis/"),
        requires="tpm2-tss",
        sysusers='u clevis - "Clevis" /var/cache/clevis -\nm clevis tss',
    ),
    # network
    Plain(
        "NetworkManager",
        (
            *("/usr/sbin/NetworkManager", "0700 root root /etc/NetworkManager/system-connections/"),
            *("0700 root root /var/lib/NetworkManager/", "0644 root root /etc/NetworkManager/NetworkManager.conf"),
        ),
        requires="dbus polkit",
        recommends="NetworkManager-wifi",
        unit="NetworkManager.service",
    ),
    Plain("iproute", ("/sbin/ip",)),
    Plain("iputils", ("/usr/bin/ping", "0755 root root cap_net_raw=p /usr/bin/arping")),
    Plain("curl", ("/usr/bin/curl",), requires="ca-certificates libcurl"),
    # its script is a program
    Plain("libcurl", ("/usr/lib64/libcurl.so.4",), post=" -p /sbin/ldconfig\n"),
    # disks
    Plain("e2fsprogs", ("/usr/sbin/mkfs.ext4",)),
    Plain("lvm2", ("/usr/sbin/lvm", "0700 root root /etc/lvm/archive/"), requires="device-mapper"),
    *(Plain(name, (f"/usr/sbin/{name}",)) for name in ("xfsprogs", "dosfstools", "cryptsetup", "device-mapper")),
    # images
    Plain("nss-altfiles", ("0755 root root /usr/lib64/libnss_altfiles.so.2",)),
    Plain("tzdata", ("/usr/share/zoneinfo/UTC",)),
    Plain("pcre2", ("/usr/lib64/libpcre2.so.0",)),
    Plain("libsemanage", ("0644 root root /etc/selinux/semanage.conf",), requires="pcre2"),
    # containers
    Plain("container-runtime", ("/usr/bin/container-runtime",), requires="container-selinux"),
    *(Plain(name, requires="container-runtime") for name in ("podman", "skopeo", "toolbox")),
    *map(Plain, _NAMES.split()),
)
# What Fedora's comps metadata has, as far as treefiles ask for it: group -> packages.
GROUPS = {
    "core": ("bash", "coreutils", "sudo", "NetworkManager", "dnf5"),
    "gnome-desktop": ("gnome-shell",),
    **dict.fromkeys(_GROUP_NAMES.split(), ("tzdata",)),
}
# In the updates.
UPDATES = (Plain("less", ("/usr/bin/less", "/usr/bin/lesskey"), version="1.1"),)

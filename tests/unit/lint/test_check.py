"""Each rule has a tree that breaks it, and says nothing of one that is right."""

from __future__ import annotations

import gzip
import lzma
import time
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from compose.label import Audit, Mislabelled
from compose.lint.check import lint_tree
from compose.lint.rules import RULES
from compose.lint.subject import Finding
from compose.ostree.gvariant import Variant, be64
from compose.ostree.objects import COMPOSEFS_DIGEST, Commit
from compose.tree import Tree
from tests.support.rpmmaker import newc_entry
from tests.support.treetext import MemoryStore, parse

END = newc_entry(b"TRAILER!!!", 0, b"")

GOOD = r"""
l bin usr/bin
l sbin usr/sbin
l lib usr/lib
l lib64 usr/lib64
d boot 0755
d dev 0755
d proc 0755
d run 0755
d sys 0755
d sysroot 0755
d var 0755
d tmp 1777
l ostree sysroot/ostree
l home var/home
l root var/roothome
l srv var/srv
l mnt var/mnt
l media run/media
l opt var/opt
l usr/local ../var/usrlocal
f usr/lib/os-release 0644 "ID=test\n"
f usr/lib/modules/6.1/vmlinuz 0755 "kernel"
f usr/lib/modules/6.1/initramfs.img 0644 "... ostree-prepare-root ..."
f usr/lib/ostree/prepare-root.conf 0644 "[composefs]\nenabled = true\n"
f usr/lib/passwd 0644 "chrony:x:998:996::/:/bin/false\n"
f usr/lib/group 0644 "chrony:x:996:\n"
f usr/etc/passwd 0644 "root:x:0:0::/root:/bin/sh\n"
f usr/etc/group 0644 "root:x:0:\n"
f usr/etc/nsswitch.conf 0644 "passwd: files altfiles\ngroup: files altfiles\n"
f usr/lib64/libnss_altfiles.so.2 0755 "module"
f usr/etc/machine-id 0444 ""
f usr/etc/shadow 0000 ""
f usr/share/rpm/rpmdb.sqlite 0644 "db"
f usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite 0644 "db"
l usr/lib/sysimage/rpm ../../share/rpm
f usr/lib/rpm/macros.d/macros.rpm-ostree 0644 "%_dbpath /usr/share/rpm\n"
f usr/lib/tmpfiles.d/a.conf 0644 "d /home\nd /var/srv/x\nd /root\nd /mnt\nd /media\nd /var/opt\nd /usr/local/bin\n"
"""
TMPFILES = "d /home\\nd /var/srv/x\\nd /root\\nd /mnt\\nd /media\\nd /var/opt\\nd /usr/local/bin\\n"
POLICY = "usr/etc/selinux/mls"
CONTEXTS = f"{POLICY}/contexts/files/file_contexts"
LABEL = "xattr=security.selinux=00"


def commit_with(**metadata: Variant) -> Commit:
    return Commit(
        metadata=tuple(sorted((key.replace("_", "."), value) for key, value in metadata.items())),
        parent=b"", subject="", body="", timestamp=0, root_tree=b"\0" * 32, root_meta=b"\0" * 32,
    )  # fmt: skip


PACKAGES = {"rpmostree_rpmdb_pkglist": Variant("a(sssss)", [("a", "0", "1", "1", "noarch")])}
GOOD_COMMIT = commit_with(ostree_bootable=Variant("b", True), ostree_linux=Variant("s", "6.1"), **PACKAGES)


def with_times(*timestamps: int) -> Commit:
    """A commit with the times of repositories as they are decoded: bytes in the other order."""
    repos = [
        [("id", Variant("s", f"r{number}")), ("timestamp", Variant("t", timestamp))]
        for number, timestamp in enumerate(timestamps)
    ]
    linux = {"ostree_bootable": Variant("b", True), "ostree_linux": Variant("s", "6.1")}
    return commit_with(**linux, **PACKAGES, **{"rpmostree_rpmmd-repos": Variant("aa{sv}", repos)})


def changed(gone: str = "", added: str = "") -> tuple[Tree, MemoryStore]:
    store = MemoryStore()
    editor = parse(GOOD, store).edit()
    for path in gone.split():
        assert editor.remove(path), path
    for path, entry in parse(added, store).walk():
        if path and not (entry.is_dir and path in editor and path not in added.split()):
            editor.put(path, entry)
    return editor.build(), store


def found(gone: str = "", added: str = "", *, bootable: bool = True, commit: Commit | None = None) -> list[str]:
    tree, store = changed(gone, added)
    rows = lint_tree(tree, store, bootable=bootable, commit=commit)
    return [f"{row.rule} {row.path}: {row.message}" for row in rows]


def test_nothing_to_say() -> None:
    assert found(commit=GOOD_COMMIT) == []


@pytest.mark.parametrize(
    ("gone", "added", "expected"),
    [
        ("usr/lib/modules/6.1", "", "kernel /usr/lib/modules: has 0 kernels instead of one"),
        (
            "",
            'f usr/lib/modules/7/vmlinuz 0755 ""\nf usr/lib/modules/7/initramfs.img 0644 "ostree-prepare-root"',
            "kernel /usr/lib/modules: has 2 kernels instead of one: 6.1, 7",
        ),
        (
            "usr/lib/modules/6.1/vmlinuz",
            "l usr/lib/modules/6.1/vmlinuz x",
            "kernel /usr/lib/modules/6.1/vmlinuz: is not a regular file",
        ),
        (
            "",
            f'f usr/lib/ostree-boot/vmlinuz-6.1-{"a" * 64} 0644 ""\nf usr/lib/ostree-boot/initramfs-6.1.img-{"b" * 64} 0644 ""',
            "boot-checksums /usr/lib/ostree-boot: file names have different checksums",
        ),
        (
            "usr/lib/os-release",
            'f usr/lib/os-release 0644 "NAME=x\\n"',
            "os-release /usr/lib/os-release: has neither PRETTY_NAME nor ID",
        ),
        ("", "d etc 0755", "etc-usretc /etc: exists, but defaults belong in /usr/etc"),
        ("proc", "", "api-base-directories /proc: is not a directory"),
        ("", 'f run/x 0644 ""', "api-base-directories /run: is not empty: x"),
        ("tmp", "l tmp var/tmp", "api-base-directories /tmp: is neither a directory nor a symlink to sysroot/tmp"),
        ("", 'f tmp/x 0644 ""', "api-base-directories /tmp: is not empty"),
        ("ostree", "", "baseimage-root /ostree: is not a symlink to sysroot/ostree"),
        ("", "d sysroot/x 0755", "baseimage-root /sysroot: is not empty: x"),
        ("", 'f var/lib/x 0644 ""', "var-content /var: is not empty: lib"),
        ("", 'f boot/vmlinuz 0644 ""\nd boot/EFI 0755', "nonempty-boot /boot: is not empty: vmlinuz"),
        ("", 'f usr/etc/gshadow 0644 ""', "shadow-mode /usr/etc/gshadow: has mode 0644, owner 0 and group 0"),
        (
            "",
            'f usr/etc/gshadow 0600 "" owner=8:0\nf usr/lib/sysusers.d/a.conf 0644 "u mail 8"',
            "shadow-mode /usr/etc/gshadow: has mode 0600, owner 8 and group 0",
        ),
        (
            "",
            'f usr/etc/gshadow 0640 "" owner=0:42\nf usr/lib/sysusers.d/a.conf 0644 "g other 42"',
            "shadow-mode /usr/etc/gshadow: has mode 0640, owner 0 and group 42",
        ),
        ("usr/etc/machine-id", 'f usr/etc/machine-id 0644 "0123"', "machine-id /usr/etc/machine-id: is not empty"),
        (
            "",
            'f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = 3"',
            "bootc-kargs /usr/lib/bootc/kargs.d/1.toml: kargs is not a list of strings",
        ),
        (
            "",
            'f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = []\\nmatch-architectures = 1"',
            "bootc-kargs /usr/lib/bootc/kargs.d/1.toml: match-architectures is not a list of strings",
        ),
        (
            "",
            'f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = []\\narches = []"',
            "bootc-kargs /usr/lib/bootc/kargs.d/1.toml: unknown keys: arches",
        ),
        (
            "",
            'f usr/share/1.toml 0644 "kargs = []"\nl usr/lib/bootc/kargs.d/1.toml ../../../share/1.toml',
            "bootc-kargs /usr/lib/bootc/kargs.d/1.toml: is not a regular file",
        ),
        ("", 'f usr/lib/bootc/kargs.d 0644 "quiet"', "bootc-kargs /usr/lib/bootc/kargs.d: is not a directory"),
        ("", "d usr/lib/bootc/kargs.d/1.toml 0755", "bootc-kargs /usr/lib/bootc/kargs.d/1.toml: is not a regular file"),
        (
            "",
            'f usr/lib/modules/6.1/.vmlinuz.hmac 0644 "0123  /boot/vmlinuz-6.1\\n"',
            "vmlinuz-hmac /usr/lib/modules/6.1/.vmlinuz.hmac: does not name the kernel by a relative path, so the self-test "
            "fails where clients boot it",
        ),
        (
            "usr/lib/tmpfiles.d/a.conf",
            f'f usr/lib/tmpfiles.d/a.conf 0644 "{TMPFILES.replace("d /home", "z /home")}"',
            "toplevel-targets /home: points to /var/home, which no line of tmpfiles.d creates",
        ),
        ("", 'f usr/etc/hostname 0644 ""', "buildah-injected /usr/etc/hostname: is an empty file"),
        (
            "",
            'f usr/share/.wh.x 0644 ""',
            "whiteout /usr/share/.wh.x: names of whiteouts: usr/share/.wh.x",
        ),
        (
            "",
            f'f {POLICY}/active/modules/x 0644 ""\nf usr/etc/selinux/semanage.conf 0644 "store-root = /var/lib/selinux"',
            "policy-store /usr/etc/selinux/semanage.conf: does not set store-root = /etc/selinux, where the modules of mls are",
        ),
        (
            "",
            f'f {CONTEXTS} 0644 ""\nf {CONTEXTS}.subs 0644 "/home /var/home\\n"',
            f"policy-aliases /{CONTEXTS}.subs_dist: does not label /usr/etc as /etc",
        ),
        (
            "",
            f'f {CONTEXTS} 0644 ""\nf {CONTEXTS}.subs_dist 0644 "# /usr/etc /etc\\n/var/home /usr\\n"',
            f"policy-aliases /{CONTEXTS}.subs_dist: does not label /usr/etc as /etc nor /home and /var/home alike",
        ),
        (
            "usr/lib/group",
            "",
            "accounts /usr/lib/group: is missing while /usr/lib/passwd exists: rpm-ostree cannot layer packages without it",
        ),
        ("usr/etc/passwd", "", "accounts /usr/etc/passwd: has no entry for root"),
        (
            "usr/etc/passwd",
            'f usr/etc/passwd 0644 "root:x:0:0::/:/x\\na:x:5:5::/:/x\\nb:x:6:6::/:/x\\nchrony:x:998:996::/:/x\\n"\n'
            'f usr/lib/sysusers.d/b.conf 0644 "u b 6\\n"',
            "sysusers /usr/etc/passwd: neither /usr/lib/passwd nor sysusers.d has a",
        ),
        (
            "",
            'f usr/etc/a 0600 "" owner=998:0\nf usr/etc/b 0600 "" owner=10:11\nf usr/etc/c/d 0600 "" owner=0:998\n'
            'f usr/lib/sysusers.d/b.conf 0644 "u b 10\\ng g 11\\nu chrony -\\n"\n'
            'f usr/lib/tmpfiles.d/c.conf 0644 "Z /etc/c - - chrony\\n"',
            "etc-uid-drift /usr/etc/a: files with an owner or group whose id nothing in the image pins: usr/etc/a",
        ),
        ("usr/lib/sysimage/rpm", "", "rpmdb /usr/lib/sysimage/rpm: does not point to /usr/share/rpm"),
        (
            "usr/lib/rpm/macros.d/macros.rpm-ostree",
            "",
            "rpmdb /usr/lib/rpm/macros.d: no macro file sets %_dbpath to /usr/share/rpm",
        ),
        (
            "home",
            "d home 0755",
            "toplevel-links /home: is a directory: files put there are lost at the next update",
        ),
        ("srv", "", "toplevel-links /srv: is missing"),
        ("bin", "d bin 0755", "usrmove /bin: is not a symlink into /usr, as clients expect"),
        ("usr/lib/modules/6.1/initramfs.img", "", "initramfs /usr/lib/modules/6.1/initramfs.img: is missing"),
        (
            "usr/lib/ostree/prepare-root.conf",
            "",
            "baseimage-composefs /usr/lib/ostree/prepare-root.conf: does not enable composefs",
        ),
        (
            "usr/lib64/libnss_altfiles.so.2",
            "",
            "accounts /usr/lib/passwd: is never read, as there is no libnss_altfiles",
        ),
        (
            "usr/etc/nsswitch.conf",
            'f usr/etc/nsswitch.conf 0644 "passwd: altfiles\\ngroup: files systemd\\n"',
            "accounts /usr/etc/nsswitch.conf: group does not use altfiles, which reads /usr/lib/group",
        ),
        (
            "usr/etc/nsswitch.conf",
            'f usr/etc/nsswitch.conf 0644 "passwd: files altfiles[SUCCESS=merge]\\ngroup: files # altfiles\\n"',
            "accounts /usr/etc/nsswitch.conf: group does not use altfiles, which reads /usr/lib/group",
        ),
        ("usr/share/rpm", "", "rpmdb /usr/share/rpm: is missing"),
        (
            "usr/share/rpm/rpmdb.sqlite",
            'f usr/share/rpm/rpmdb.sqlite 0644 "newer"',
            "rpmdb /usr/lib/sysimage/rpm-ostree-base-db/rpmdb.sqlite: differs from /usr/share/rpm/rpmdb.sqlite",
        ),
        ("", 'f usr/share/x 0666 ""', "world-writable /usr/share/x: has mode 0666"),
        ("", "d usr/share/open 0777", "world-writable /usr/share/open: has mode 0777"),
    ],
)
def test_a_rule(gone: str, added: str, expected: str) -> None:
    assert found(gone, added) == [expected]


@pytest.mark.parametrize(
    ("gone", "added"),
    [
        ("tmp", "l tmp sysroot/tmp"),
        ("", 'f boot/EFI/Linux/6.1.efi 0644 "a unified kernel image"'),
        ("opt usr/local", "d opt 0755\nd usr/local 0755"),
        ("usr/etc/machine-id", ""),
        ("usr/etc/passwd", 'f usr/lib/sysusers.d/basic.conf 0644 "u root 0\\n"'),
        ("usr/lib/modules/6.1/initramfs.img", 'f usr/lib/modules/6.1/initramfs 0644 "ostree-prepare-root"'),
        ("", 'f usr/lib/modules/6.1/.vmlinuz.hmac 0644 "0123  vmlinuz\\n"'),
        ("", 'f usr/etc/hostname 0644 "name"\nl usr/etc/resolv.conf ../run/x'),
        ("", 'f usr/lib/bootc/kargs.d/README 0644 "not TOML"'),
        ("", f'f {CONTEXTS} 0644 ""\nf {CONTEXTS}.subs_dist 0644 "/var/home /home\\n/usr/etc /etc\\n"'),
        (
            "",
            f'f {POLICY}/active/modules/x 0644 ""\nf usr/etc/selinux/semanage.conf 0644 "store-root=/etc/selinux/"',
        ),
        ("", 'f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = [\\"quiet\\"]"'),
        ("", "d usr/share/sticky 1777"),
        ("usr/lib/passwd usr/lib/group usr/etc/nsswitch.conf", ""),
    ],
)
def test_what_is_right_in_another_way(gone: str, added: str) -> None:
    assert found(gone, added) == []


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000])
def test_kernel_arguments_that_no_parser_takes(value: str) -> None:
    (line,) = found("", f'f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = {value}"')
    assert line.startswith("bootc-kargs /usr/lib/bootc/kargs.d/1.toml: not TOML: ")


def test_a_container_needs_no_kernel() -> None:
    assert found("usr/lib/modules usr/lib/os-release usr/lib/ostree", bootable=False) == []


def test_a_policy_in_var() -> None:
    assert found("", 'f var/lib/selinux/targeted/x 0644 ""') == [
        "policy-store /var/lib/selinux: contains policy modules",
        "var-content /var: is not empty: lib",
    ]


def test_labels_are_for_all_or_none() -> None:
    assert found("", f'f usr/share/labelled 0644 "" {LABEL}')[0].startswith("unlabelled /: ")


def test_labels_are_those_of_the_policy() -> None:
    tree, store = changed()
    wrong = [Mislabelled(path=f"usr/{number:02}", label="a:b:c:s0", expected="a:b:d:s0") for number in range(25)]
    missing = Mislabelled(path="usr/none", label=None, expected="a:b:d:s0")
    labels = Audit(policy="mls", checked=100, inherited=0, mislabelled=(*wrong, missing))
    rows = lint_tree(tree, store, bootable=True, labels=labels)
    said = [f"{row.rule} {row.path}: {row.message}" for row in rows]
    # what has none at all is told by another rule
    assert said[:2] == [
        "label /: 5 more labels differ from the policy",
        "label /usr/00: has the label a:b:c:s0, but the policy says a:b:d:s0",
    ]
    assert len(said) == 21


def test_a_transient_root_may_have_directories_and_needs_no_composefs() -> None:
    transient = 'f usr/lib/ostree/prepare-root.conf 0644 "[root]\\ntransient = true\\n"'
    assert found("mnt usr/lib/ostree/prepare-root.conf", f"d mnt 0755\n{transient}") == []


@pytest.mark.parametrize(
    ("section", "key", "value", "on"),
    [
        ("composefs", "enabled", "verity", True),
        ("composefs", "enabled", "yes", True),
        ("composefs", "enabled", "1", True),
        ("composefs", "enabled", "maybe", True),
        ("composefs", "enabled", "no", False),
        # clients that find one of these do not boot
        ("composefs", "enabled", "on", False),
        ("composefs", "enabled", "Yes", False),
        ("root", "transient", "1", True),
        ("root", "transient", "yes", False),
        ("root", "transient", "signed", False),
    ],
)
def test_spellings_of_the_switches_in_prepare_root_conf(section: str, key: str, value: str, on: bool) -> None:
    conf, rule, line = "usr/lib/ostree/prepare-root.conf", "baseimage-composefs", ""
    if section == "root":
        rule, line = "toplevel-links", "d mnt 0755"
    rows = found(f"mnt {conf}" if line else conf, f'{line}\nf {conf} 0644 "[{section}]\\n{key} = {value}\\n"')
    assert (rule in {row.split()[0] for row in rows}) is not on


@pytest.mark.parametrize("enabled", ["yes", "no"])
def test_a_prepare_root_conf_in_etc_replaces_the_other(enabled: str) -> None:
    path = "usr/etc/ostree/prepare-root.conf"
    rows = found("", f'd usr/etc/ostree 0755\nf {path} 0644 "[composefs]\\nenabled = {enabled}\\n"')
    assert rows == [f"baseimage-composefs /{path}: does not enable composefs"] * (enabled == "no")


@pytest.mark.parametrize("measured", [True, False, None])
@pytest.mark.parametrize("enabled", ["signed", "verity", "yes"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_digest_is_missed_where_it_must_be_signed(enabled: str, measured: bool | None, committed: bool) -> None:
    conf = "usr/lib/ostree/prepare-root.conf"
    tree, store = changed(conf, f'f {conf} 0644 "[composefs]\\nenabled = {enabled}\\n"')
    commit = None
    if committed:
        more = ((COMPOSEFS_DIGEST, Variant("ay", bytes(32))),) if measured else ()
        commit, measured = replace(GOOD_COMMIT, metadata=(*GOOD_COMMIT.metadata, *more)), bool(measured)
    rows = lint_tree(tree, store, bootable=True, commit=commit, measured=None if committed else measured)
    missed = enabled == "signed" and measured is False
    assert [f"{row.rule} {row.path}" for row in rows] == ["composefs-digest /usr/lib/ostree/prepare-root.conf"] * missed


def test_shadow_files_of_debian() -> None:
    """There unix_chkpwd belongs to the group shadow, and reads a user's own password for a screen lock."""
    shadow = 'f usr/etc/shadow 0640 "" owner=0:42\nf usr/lib/sysusers.d/a.conf 0644 "g shadow 42"'
    assert found("usr/etc/shadow usr/lib/group", f'{shadow}\nf usr/lib/group 0644 "shadow:x:42:\\n"') == []


def linted(image: bytes) -> tuple[Finding, ...]:
    tree, store = changed()
    editor = tree.edit()
    editor.add_file("usr/lib/modules/6.1/initramfs.img", store.add_bytes(image), writer="test")
    return lint_tree(editor.build(), store, bootable=True)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress, bytes])
@pytest.mark.parametrize(("name", "good"), [(b"ostree-prepare-root", True), (b"ostree-prepare-root.conf", False)])
def test_compressed_initramfs(pack, name: bytes, good: bool) -> None:
    # microcode is encrypted, so the magic numbers of compressors occur in it by chance
    early = newc_entry(b"microcode", 0o100644, b"\x1f\x8b\x08 and \x28\xb5\x2f\xfd") + END
    image = early + pack(newc_entry(b"usr/lib/ostree/" + name, 0o100755, b"ostree-prepare-root") + END)
    assert [row.message for row in linted(image)] == ([] if good else ["does not contain ostree-prepare-root"])
    # the rest is compressed in some other way
    assert linted(early + b"BZh9") == ()


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"])
def test_an_initramfs_full_of_magic_numbers(magic: bytes) -> None:
    begun = time.process_time()
    assert len(linted(newc_entry(b"microcode", 0o100644, magic * 500_000) + END)) == 1
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("commit", "expected"),
    [
        (
            commit_with(ostree_bootable=Variant("b", True), ostree_linux=Variant("s", "5"), **PACKAGES),
            ["commit-metadata /: ostree.linux is 5, but the tree has 6.1"],
        ),
        (
            commit_with(),
            [
                "bootable /: the tree has the kernel 6.1, but the commit has no ostree.bootable",
                "package-list /: the commit has no rpmostree.rpmdb.pkglist",
            ],
        ),
        (
            with_times(1_700_000_000, be64(1_700_000_000)),
            ["commit-metadata /: rpmostree.rpmmd-repos: the timestamp of r0 is not big-endian"],
        ),
    ],
)
def test_metadata(commit: Commit, expected: list[str]) -> None:
    assert found(commit=commit) == expected


@pytest.mark.parametrize(
    "odd",
    [
        Variant("as", ["x"]),
        Variant("b", True),
        Variant("aa{sv}", [[("timestamp", Variant("s", "x"))]]),
        Variant("aa{sv}", [[("timestamp", Variant("i", -1))]]),
    ],
)
def test_repositories_that_are_none(odd: Variant) -> None:
    commit = replace(GOOD_COMMIT, metadata=(*GOOD_COMMIT.metadata, ("rpmostree.rpmmd-repos", odd)))
    assert found(commit=commit) == ["commit-metadata /: rpmostree.rpmmd-repos is not a list of repositories"]


def test_every_rule_is_broken_here() -> None:
    # what is about a repository takes a real one
    tests = Path(__file__).parents[2]
    text = "".join(path.read_text() for path in (Path(__file__), tests / "compat/lint/test_repository.py"))
    for rule in RULES:
        assert f'"{rule} /' in text, rule

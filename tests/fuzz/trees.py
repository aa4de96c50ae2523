"""Trees that no distribution ships: the pure steps of postprocessing, and lint, take whatever packages can make."""

from __future__ import annotations

import contextlib
import random
import stat
from dataclasses import replace
from typing import Any

from compose.assemble.accounts import resolve_owners
from compose.assemble.early import lay_under
from compose.assemble.layers import lay_over
from compose.assemble.merge import merge
from compose.assemble.options import AssembleOptions, Layer
from compose.errors import TreeError
from compose.events import Reporter
from compose.lint.check import lint_tree
from compose.postprocess import finish
from compose.postprocess.drift import ALL, Reference, check_accounts, parse_entries
from compose.postprocess.layout import lay_out
from compose.postprocess.losses import losses
from compose.postprocess.options import AddedFile, BootLocation, OptUsrLocal, PostprocessOptions
from compose.rpm.manifest import FileFlag, ManifestFile
from compose.tree import Entry, Tree, parent_of
from tests.fuzz.target import Target
from tests.support import manifests
from tests.support.treetext import MemoryStore, parse

_SYSTEM = r"""
l bin usr/bin
l sbin usr/bin
l lib usr/lib
l lib64 usr/lib64
f usr/bin/su 4755 "su"
f usr/lib64/libnss_altfiles.so.2 0755 ""
f usr/lib/os-release 0644 "ID=test\nPRETTY_NAME=\"Test 1\"\n"
l etc/os-release ../usr/lib/os-release
f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\nchrony:x:998:996::/:/bin/false\n"
f etc/group 0644 "root:x:0:\nchrony:x:996:\n"
f etc/shadow 0000 "root:*:19000::::::\nx:$6$a:20000::::::\n"
f etc/nsswitch.conf 0644 "passwd: files [SUCCESS=merge] systemd\ngroup: files\n"
f etc/default/useradd 0644 "HOME=/home\n"
f etc/selinux/config 0644 "SELINUX=enforcing\nSELINUXTYPE=targeted\n"
f etc/selinux/targeted/contexts/files/file_contexts.subs_dist 0644 "/var/home /home\n"
f etc/selinux/targeted/policy/policy.33 0644 "p"
f etc/machine-id 0644 "0123"
f usr/lib/ostree/prepare-root.conf 0644 "[composefs]\nenabled = true\n"
f usr/lib/bootc/kargs.d/1.toml 0644 "kargs = [\"a=b\"]\nmatch-architectures = [\"x86_64\"]\n"
f usr/lib/modules/6.1/vmlinuz 0755 "kernel"
f usr/lib/modules/6.1/initramfs.img 0644 "070701"
f usr/lib/modules/6.1/kernel/a.ko 0644 "a"
f usr/lib/modules/6.1/modules.dep 0644 "kernel/a.ko:\n"
f boot/vmlinuz-6.1 0755 "kernel"
f usr/lib/sysimage/rpm/rpmdb.sqlite 0644 "db"
f usr/lib/systemd/system/a.service 0644 "[Install]\nWantedBy=multi-user.target\n"
f usr/lib/sysusers.d/a.conf 0644 "u a 5:6 \"A\" /x\nm a b\nr - 500-900\n"
f usr/lib/tmpfiles.d/a.conf 0644 "d /var/lib/a 0755 a a - -\nL+ \"/var/x y\\x20\" - - - - ../z\n"
f usr/lib/python3/a.pyc 0644 "\u00a7\r\r\n0123456789abcdef"
f usr/local/bin/x 0755 ""
f opt/a/b 0644 ""
d var/lib/chrony 0750 owner=998:996
f var/lib/chrony/drift 0640 "1" owner=998:996
"""


def _is_possible(path: str, entry: Entry) -> bool:
    """Could the importer let it in?"""
    names, kind = path.split("/"), entry.mode & ~0o7777
    return not {"", ".", ".."} & set(names) and {
        stat.S_IFREG: entry.blob is not None,
        stat.S_IFLNK: bool(entry.target),
        stat.S_IFDIR: True,
    }.get(kind, False)


def _broken(tree: Tree, chance: random.Random) -> Tree:
    """The tree with an entry in the place of another one: a file, a directory, a link to somewhere."""
    editor = tree.edit()
    paths = sorted(path for path in tree.entries if path)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        path, other = chance.choice(paths), chance.choice(paths)
        if path not in editor or other not in editor:
            continue
        editor.remove(path)
        if path.startswith(f"{other}/") and other not in editor:
            continue
        match chance.randrange(4):
            case 0:
                editor.add_dir(path, 0o755, writer="fuzz")
            case 1:
                editor.add_symlink(path, chance.choice((f"/{other}", other, "..", ".", path, "a" * 300)), writer="fuzz")
            case 2 if not tree[other].is_dir:
                editor.put(path, tree[other])
            case _:
                pass
    return editor.build()


def tree_targets() -> list[Target]:
    """One."""

    def read(data: bytes) -> None:
        store, chance = MemoryStore(), random.Random(data)
        try:
            tree = parse(data.decode("utf-8", "replace"), store)
        except Exception:
            # a description that cannot be read is none
            return
        if not all(_is_possible(path, entry) for path, entry in tree.entries.items() if path):
            return
        tree = _broken(tree, chance)
        options = PostprocessOptions(
            boot_location=chance.choice(list(BootLocation)),
            opt_usrlocal=chance.choice(list(OptUsrLocal)),
            machineid_compat=chance.random() < 0.5,
            units=("a.service",),
            default_target=chance.choice((None, "multi-user.target")),
            etc_group_members=("wheel",),
            cliwrap=chance.choice(((), ("dracut", "rpm"))),
            add_files=(AddedFile(dest="etc/motd", content=b"x"),),
            remove_files=("usr/share/doc",),
            mutate_os_release=chance.choice((None, "1")),
            version="1.2",
            no_initramfs=True,
            container=chance.random() < 0.3,
            time=1_700_000_000,
        )
        before = tree
        try:
            tree, kver, _ = lay_out(tree, options, store, Reporter())
            tree, _ = finish.finish(tree, options, store, kver)
            tree, _ = finish.settle_again(tree, options, store)
            for database in ("passwd", "group"):
                entries = parse_entries(database, "root:x:0:0:::\nchrony:x:998:996:::\n")
                reference = Reference(key="check", database=database, source="x", entries=entries, ignored=(ALL,))
                check_accounts(tree, store, [reference], Reporter())
            losses(before, tree, (), (), ())
        finally:
            # whatever is refused, lint must be able to look at
            lint_tree(tree, store, bootable=not options.container)

    return [Target("tree", read, [_SYSTEM.encode()]), Target("packages", _combine, [bytes(range(64)), b"packages"])]


_NAMES = ("usr", "bin", "lib", "a", "b", "etc", "sbin", "var")
_FLAGS = [FileFlag(0), FileFlag.GHOST, FileFlag.CONFIG, FileFlag.CONFIG | FileFlag.NOREPLACE, FileFlag.DOC]


def _combine(data: bytes) -> None:
    """Packages that ship a few paths each, as anything, then what %pretrans left, layers and owners."""
    chance = random.Random(data)

    def path() -> str:
        return "/".join(chance.choice(_NAMES) for _ in range(chance.choice((1, 2, 2, 3, 4))))

    def entry() -> ManifestFile:
        more: dict[str, Any] = {
            "flags": chance.choice(_FLAGS),
            "user": chance.choice(("root", "root", "root", "www")),
            "color": chance.choice((0, 0, 1, 2)),
        }
        match chance.randrange(3):
            case 0:
                return manifests.directory(path(), chance.choice((0o755, 0o755, 0o700)), **more)
            case 1:
                target = chance.choice(("", "/", "../", "../../")) + path()
                return manifests.link(path(), chance.choice((target, target, ".", "..", "a//b/./")), **more)
            case _:
                return manifests.file(path(), chance.choice("xxxy"), **more, link=chance.choice((0, 0, 1)))

    def tree() -> Tree:
        editor = Tree.empty().edit()
        for each in (entry() for _ in range(chance.randrange(8))):
            with contextlib.suppress(TreeError):
                editor.put(each.path, Entry(mode=each.mode, blob=each.blob, target=each.target, writer="x"))
        return editor.build()

    packages = []
    for number in range(chance.randrange(1, 6)):
        files = {each.path: each for each in (entry() for _ in range(chance.randrange(1, 5)))}
        packages.append(manifests.package(f"p{number}", *files.values()))
    options = AssembleOptions(
        epoch=0,
        remove_from_packages=(("p1", ("/b$", "^/usr/lib/")),),
        documentation=chance.random() < 0.5,
        readonly_executables=chance.random() < 0.5,
    )
    merged = merge(packages, options)
    found, owners = lay_under(merged.tree, merged.owners, tree(), packages)
    layers = [Layer(name=f"l{number}", tree=tree(), override=chance.random() < 0.5) for number in range(2)]
    found, owners = lay_over(replace(merged, tree=found, owners=owners), layers)
    found = resolve_owners(found, owners, {"www": 33}, {"www": 33})
    for name in found.entries:
        assert not name or found.is_dir(parent_of(name)), name

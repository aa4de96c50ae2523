"""The SELinux policy, built once, so that its package ships it as Fedora's does and no scriptlet has to."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.universe import deb
from tests.universe.errors import UniverseError, run
from tests.universe.translate import parse_relation

PACKAGE = "selinux-policy-default"
# What semodule needs: itself, the modules, and the accounts whose homes are labelled.
ROOTS = (PACKAGE, "policycoreutils", "libsemanage-common", "base-passwd")
CONFIG = "SELINUX=permissive\nSELINUXTYPE=default\n"
# Of the result; contexts are the package's own files, *.bin and locks are made by whoever needs them.
BUILT = ("etc/selinux/default/policy", "etc/selinux/default/contexts/files", "etc/selinux/default/seusers")
STORE = "var/lib/selinux/default/active"


def build(debs: Mapping[str, Path], digests: Mapping[str, str], cache: Path, work: Path) -> Path:
    """A tree of what belongs into the policy's package, from the cache if the same debs made one before.

    debs, digests: of the set, by package. work: an absent directory, made and removed. Runs semodule in a chroot.
    """
    names = closure(debs)
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in names:
        digest.update(digests[name].encode())
    result = cache / f"policy-{digest.hexdigest()[:16]}"
    if result.exists():
        return result
    root = work / "root"
    for directory in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / directory).mkdir(parents=True)
        (root / directory).symlink_to(f"usr/{directory}")
    shipped: set[str] = set()
    for name in names:
        shipped.update(deb.unpack(debs[name], root).files)
    (root / "tmp").mkdir(exist_ok=True)
    for file, master in (("passwd", "passwd.master"), ("group", "group.master")):
        shutil.copy(root / "usr/share/base-passwd" / master, root / "etc" / file)
    (root / "etc/selinux/config").write_text(CONFIG)
    directory = "/usr/share/selinux/default"
    modules = (root / directory[1:] / ".modules").read_text().split()
    command = ["chroot", str(root), "/usr/sbin/semodule", "-X", "100", "-n", "-s", "default"]
    for module in modules:
        command += ["-i", f"{directory}/{module}.pp.bz2"]
    run(command, what=PACKAGE)
    _collect(root, work / "tree", shipped)
    for old in cache.glob("policy-*"):
        shutil.rmtree(old)
    (work / "tree").rename(result)
    shutil.rmtree(work)
    return result


def closure(debs: Mapping[str, Path]) -> list[str]:
    """The roots and what they depend on, as far as the set has it; the first alternative of the set counts."""
    found: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in debs:
            raise UniverseError(f"{PACKAGE}: the set has no {name}, which builds it")
        found.add(name)
        fields = deb.read_control(debs[name]).fields
        for clause in f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".replace("\n", " ").split(","):
            alternatives = [parse_relation(each).name for each in clause.split("|") if each.strip()]
            waiting += [each for each in alternatives if each in debs][:1]
    return sorted(found)


def _collect(root: Path, tree: Path, shipped: set[str]) -> None:
    """Copy what semodule made, and nothing that the deb has anyway."""
    for top in BUILT:
        place = root / top
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and f"/{name}" not in shipped and path.suffix not in (".bin", ".LOCK"):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, tree / name)
    shutil.copytree(root / STORE, tree / STORE, ignore=shutil.ignore_patterns("*.LOCK", "*.bin"))
    shutil.copy2(root / "etc/selinux/config", tree / "etc/selinux/config")
    if not any((tree / "etc/selinux/default/policy").glob("policy.*")):
        raise UniverseError(f"{PACKAGE}: semodule made no policy")

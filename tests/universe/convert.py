"""From debs to packages ready to build: each alone, then what they share."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.universe import deb, knowledge, maintainer
from tests.universe.errors import UniverseError
from tests.universe.model import CONFIG, Alternative, Context, Kind, Package
from tests.universe.translate import evr, name_of, relations

# A directory of this many packages belongs to all.
SHARED = 4
_TRANSLATION = re.compile(r"/usr/share/locale/([^/@.]+)[^/]*/LC_MESSAGES/")


def convert(debs: Iterable[Path], work: Path, context: Context, jobs: int) -> list[Package]:
    """Unpack below work/NAME and translate; the last packages are those Debian does not have."""
    paths = list(debs)
    roots = [work / path.name.partition("_")[0] for path in paths]
    with ProcessPoolExecutor(jobs) as pool:
        packages = list(pool.map(load, paths, roots, [context] * len(paths), chunksize=4))
    packages.append(knowledge.altfiles(work / knowledge.ALTFILES))
    packages.append(knowledge.release(work / knowledge.RELEASE, packages))
    _provide_accounts_once(packages)
    for package in packages:
        _require_owners(package)
    _share_directories(packages)
    _link_alternatives(packages)
    _check_owners(packages)
    return packages


def load(path: Path, root: Path, context: Context) -> Package:
    """One deb as a package; raises UniverseError naming it."""
    control = deb.read_control(path)
    fields = control.fields
    try:
        version = evr(fields["Version"])
        root.mkdir(parents=True)
        tree = deb.unpack(path, root)
        summary, _, description = fields.get("Description", fields["Package"]).partition("\n")
        package = Package(
            name=fields["Package"],
            root=root,
            epoch=version.epoch,
            version=version.version,
            release=version.release or "0",
            arch="noarch" if fields.get("Architecture") == "all" else "x86_64",
            summary=summary,
            description="\n".join("" if line == "." else line for line in description.splitlines()),
            section=fields.get("Section", "misc"),
            homepage=fields.get("Homepage"),
            source=fields.get("Source", fields["Package"]).split()[0],
            mtime=tree.newest,
            files=tree.files,
            runs_ldconfig="ldconfig" in control.members.get("triggers", ""),
        )
        _relate(package, fields, context)
        _flag(package, control.members.get("conffiles", ""))
        maintainer.apply(package, control.members.get("postinst", ""))
        knowledge.apply(package, context)
        maintainer.systemd_scripts(package)
    except KeyError as error:
        raise UniverseError(f"{path.name}: has no {error}") from error
    except OSError as error:
        raise UniverseError(f"{path.name}: {error}") from error
    return package


def _relate(package: Package, fields: dict[str, str], context: Context) -> None:
    without = knowledge.NOT_NEEDED
    package.requires_pre = relations(fields.get("Pre-Depends"), without=without)
    package.requires = relations(fields.get("Depends"), without=without)
    package.recommends = relations(fields.get("Recommends"), without=without)
    package.suggests = relations(fields.get("Suggests"), without=without)
    package.enhances = relations(fields.get("Enhances"), without=without)
    package.provides = relations(fields.get("Provides"))
    excluded = set(relations(fields.get("Conflicts")) + relations(fields.get("Breaks")))
    package.obsoletes = [
        each
        for each in relations(fields.get("Replaces"))
        if each in excluded and " < " in each and name_of(each) not in context.names
    ]
    package.conflicts = sorted(
        each
        for each in excluded.difference(package.obsoletes)
        if name_of(each) != package.name
        # dpkg: an unversioned Provides never violates a versioned Conflicts; to RPM it always does
        and (" " not in each or name_of(each) in context.names)
    )


def _flag(package: Package, conffiles: str) -> None:
    config = {deb.merged(line.strip()) for line in conffiles.splitlines() if line.startswith("/")}
    for path, entry in package.files.items():
        if entry.kind is Kind.DIRECTORY:
            continue
        if path in config:
            entry.flags.append(CONFIG)
        elif path.startswith("/usr/share/doc/"):
            licence = path.endswith("/copyright") and entry.kind is Kind.FILE
            entry.flags.append("%license" if licence else "%doc")
        elif path.startswith(("/usr/share/man/", "/usr/share/info/")):
            entry.flags.append("%doc")
        if match := _TRANSLATION.match(path):
            entry.flags.append(f"%lang({match[1]})")


def _provide_accounts_once(packages: list[Package]) -> None:
    """The accounts every system has come from one package: systemd's basic.conf has them too, and would be needed first."""
    base = next((package for package in packages if package.name == knowledge.ACCOUNTS), None)
    if base is None:
        raise UniverseError(f"the set has no {knowledge.ACCOUNTS}")
    accounts = set(base.provides)
    for package in packages:
        if package is not base:
            package.provides = [each for each in package.provides if each not in accounts]


def _require_owners(package: Package) -> None:
    """Accounts that files belong to must exist when they are unpacked."""
    for entry in package.files.values():
        for kind, name in (("user", entry.user), ("group", entry.group)):
            capability = f"{kind}({name})"
            if name != "root" and capability not in package.provides and capability not in package.requires_pre:
                package.requires_pre.append(capability)


def _share_directories(packages: list[Package]) -> None:
    """Directories of many packages belong to base-files only."""
    counts = Counter(
        entry.path for package in packages for entry in package.files.values() if entry.kind is Kind.DIRECTORY
    )
    owner = next((package for package in packages if package.name == knowledge.FILESYSTEM), None)
    if owner is None:
        raise UniverseError(f"the set has no {knowledge.FILESYSTEM}")
    shared = {path for path, count in counts.items() if count >= SHARED}
    for path in sorted(shared.difference(owner.files)):
        owner.add_directory(path)
    for package in packages:
        if package is not owner:
            for path in [path for path in package.files if path in owner.files]:
                if package.files[path].kind is Kind.DIRECTORY:
                    del package.files[path]


def _link_alternatives(packages: list[Package]) -> None:
    """The best alternative of the set ships the link."""
    best: dict[str, tuple[int, str, Package, Alternative]] = {}
    for package in packages:
        for each in package.alternatives:
            rank = (each.priority, package.name, package, each)
            if each.link not in best or rank[:2] > best[each.link][:2]:
                best[each.link] = rank
    shipped = {path for package in packages for path in package.files}
    for link, (_, _, package, each) in sorted(best.items()):
        if link not in shipped:
            package.add_link(link, os.path.relpath(each.target, os.path.dirname(link)))


def _check_owners(packages: list[Package]) -> None:
    owners = defaultdict(list)
    for package in packages:
        for entry in package.files.values():
            if entry.kind is not Kind.DIRECTORY:
                owners[entry.path].append(package.name)
    several = [f"{path} is in {' and '.join(names)}" for path, names in owners.items() if len(names) > 1]
    if several:
        raise UniverseError(f"knowledge.py must say whose these are: {'; '.join(several)}")

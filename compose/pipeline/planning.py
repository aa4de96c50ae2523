"""`compose plan`: a compose up to the solver's result, compared with the previous commit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from compose import metadata, records
from compose.assemble.accounts import parse_ids
from compose.assemble.scripts import ignored_scriptlets
from compose.diff import packages_of
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.fetch.fetcher import missing_bytes
from compose.importer.cache import ImportCache
from compose.inputhash import InputChange, InputKind, input_changes, input_hash
from compose.installed import installed_packages
from compose.pipeline import settings
from compose.pipeline.accounts import read_id_lock
from compose.pipeline.contents import fetch_packages, import_files
from compose.pipeline.inputs import Inputs, Stopwatch, gather
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import known_files
from compose.pipeline.space import disk_needs
from compose.plan import (
    AccountChange,
    Cause,
    PackageEvent,
    Plan,
    PlannedPackage,
    ScriptChange,
    account_changes,
    planned_packages,
    rebuilt_packages,
    script_changes,
)
from compose.rpm import database
from compose.rpm.changelog import Changelog, changelogs
from compose.rpm.database import InstalledPackage
from compose.rpm.manifest import PackageManifest
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, ResolvedPackage
from compose.treefile.origin import origins


def plan(options: ComposeOptions, reporter: Reporter, *, download: bool) -> Plan:
    """The changes that `compose tree` with these options would make. Writes only to the cache.

    download: first fetch and import new and changed packages, so that their scriptlets and accounts are known. Raises what a
    compose raises up to that point.
    """
    watch = Stopwatch(reporter)
    with ExitStack() as stack:
        inputs = gather(replace(options, dry_run=True), reporter, watch, stack)
        resolution, previous, repo = inputs.resolution, inputs.previous, inputs.repo
        changed = inputs.changed(options)
        changes, why_not_known = _input_changes(inputs)
        commit = previous.checksum if previous.present else None
        # read only when something differs
        before = None
        if commit is not None and changed:
            with inputs.cache.scratch() as work:
                before = installed_packages(repo, commit, reporter, workdir=work)
        installed = {each.nevra: each for each in before or ()}
        listed = packages_of(repo.read_commit(commit)) if commit is not None else None

        def planned(missing: dict[Nevra, int]) -> tuple[PlannedPackage, ...]:
            return planned_packages(
                listed or list(installed),
                resolution.packages,
                installed=installed,
                rebuilt=rebuilt_packages(changes or ()),
                missing=missing,
            )

        if download:
            _download(inputs, planned({}), options, reporter)
        missing = missing_bytes(resolution, inputs.network)
        packages = planned(missing)
        manifests, unread = _manifests(inputs, packages)
        size = sum(each.install_size for each in resolution.packages)
        return Plan(
            ref=inputs.treefile.ref,
            previous=commit,
            previous_version=previous.version,
            changed=changed,
            total=len(resolution.packages),
            causes=None if changes is None else _causes(changes, options, inputs),
            why_not_known=why_not_known,
            packages=packages,
            size_before=sum(each.size for each in before) if before is not None else None,
            size=size,
            download=sum(missing.values()),
            disk=disk_needs(
                inputs, missing, sum(each.size for each in packages if each.change is not PackageEvent.REMOVED)
            ),
            scripts=_scripts(inputs, manifests, packages, installed),
            accounts=_accounts(inputs, manifests),
            unread=unread,
            advisories=_new_advisories(inputs),
            changelogs=_changelogs(manifests, packages, installed, reporter),
        )


def _download(inputs: Inputs, packages: Sequence[PlannedPackage], options: ComposeOptions, reporter: Reporter) -> None:
    """Fetch and import the packages that a compose would add or change."""
    nevras = {each.after for each in packages}
    wanted = tuple(each for each in inputs.resolution.packages if each.nevra in nevras)
    part = replace(inputs, resolution=replace(inputs.resolution, packages=wanted))
    import_files(part, fetch_packages(part, options, reporter), options, reporter)


def _input_changes(inputs: Inputs) -> tuple[tuple[InputChange, ...] | None, str]:
    """The inputs that differ from the record of the previous commit, or None and the reason why they are not known."""
    previous = inputs.previous
    if previous.checksum is None or not previous.present:
        return None, "there is no previous commit"
    try:
        kept = records.read(inputs.repo, previous.checksum).inputs
    except RepositoryError as error:
        return None, error.message
    if not kept or input_hash(kept) != previous.inputhash:
        return None, f"the record of {previous.checksum} lacks its inputs"
    return (*input_changes(kept, inputs.parts), *inputs.demands()), ""


def _causes(changes: Sequence[InputChange], options: ComposeOptions, inputs: Inputs) -> tuple[Cause, ...]:
    """Add to each change its place in the treefile: that of a key's new value, else of the key, or where a file is named."""
    places: dict[str, str] = {}
    for each in origins(options.treefile, basearch=inputs.treefile.basearch, known=known_files(options)):
        key = each.path.partition("[")[0].partition(".")[0]
        places.setdefault(key, str(each.place))
        places[f"{key} {each.value}"] = str(each.place)

    def place(change: InputChange) -> str:
        names = [change.name]
        if change.kind is InputKind.KEY:
            old, new = (json.loads(side or "[]") for side in (change.before, change.after))
            if isinstance(old, list) and isinstance(new, list):
                names = [*(f"{change.name} {each}" for each in new if each not in old), change.name]
        elif change.kind is InputKind.FILE:
            names.append(change.name.partition(" ")[0])
        else:
            return ""
        return next((places[name] for name in names if name in places), "")

    return tuple(Cause(change=each, place=place(each)) for each in changes)


def _manifests(
    inputs: Inputs, packages: Sequence[PlannedPackage]
) -> tuple[dict[Nevra, PackageManifest], tuple[Nevra, ...]]:
    """Manifests of new and changed packages in the cache, and the packages that have none there."""
    cache = ImportCache(inputs.cache.join("manifests"), inputs.store)
    resolved = {each.nevra: each for each in inputs.resolution.packages}
    found: dict[Nevra, PackageManifest] = {}
    unread: list[Nevra] = []
    for each in packages:
        if each.after is None:
            continue
        manifest = _manifest(cache, resolved[each.after])
        if manifest is None:
            unread.append(each.after)
        else:
            found[each.after] = manifest
    return found, tuple(sorted(unread))


def _manifest(cache: ImportCache, package: ResolvedPackage) -> PackageManifest | None:
    algorithm, digest = package.checksum
    return cache.load(digest) if algorithm == "sha256" else None


def _scripts(
    inputs: Inputs,
    manifests: dict[Nevra, PackageManifest],
    packages: Sequence[PlannedPackage],
    installed: dict[Nevra, InstalledPackage],
) -> tuple[ScriptChange, ...]:
    treefile = inputs.treefile
    ignored = ignored_scriptlets(treefile.ignore_scriptlets, by_default=settings.ignores_by_default(treefile))
    found: list[ScriptChange] = []
    for each in packages:
        if each.after in manifests:
            before = installed.get(each.before) if each.before is not None else None
            if each.before is None or before is not None:
                found += script_changes(before, manifests[each.after], ignored)
    return tuple(found)


def _changelogs(
    manifests: dict[Nevra, PackageManifest],
    packages: Sequence[PlannedPackage],
    installed: dict[Nevra, InstalledPackage],
    reporter: Reporter,
) -> tuple[Changelog, ...]:
    builds = [
        (installed[each.before], manifests[each.after])
        for each in packages
        if each.before in installed and each.after in manifests
    ]
    if not builds:
        return ()
    after = database.packages_of([manifest for _, manifest in builds], reporter)
    return changelogs(zip((before for before, _ in builds), after, strict=True))


def _accounts(inputs: Inputs, manifests: dict[Nevra, PackageManifest]) -> tuple[AccountChange, ...]:
    before = inputs.read_accounts()
    users, groups = (parse_ids(before.get(name, b"")) for name in ("passwd", "group"))
    return account_changes(
        manifests.values(),
        inputs.store,
        users=users,
        groups=groups,
        lock=read_id_lock(inputs.treefile),
    )


def _new_advisories(inputs: Inputs) -> tuple[Advisory, ...] | None:
    """Those that the previous commit lacks; none if the treefile disables them, None if unknown."""
    repo, previous, found = inputs.repo, inputs.previous, inputs.resolution.advisories
    if not inputs.request.advisories:
        return ()
    if found is None:
        return None
    known: tuple[Advisory, ...] = ()
    if previous.checksum is not None and previous.present:
        commit, detached = repo.read_commit(previous.checksum), repo.read_detached(previous.checksum)
        known = metadata.advisories_of(commit, detached) or ()
    ids = {each.id for each in known}
    return tuple(each for each in found if each.id not in ids)

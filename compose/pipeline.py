"""The whole compose on one screen: `compose_tree()`. It alone knows all stages.

treefile -> solve -> fetch -> import -> assemble -> postprocess -> label -> commit
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from compose import fs, metadata
from compose.assemble.options import AssembleOptions
from compose.assemble.stage import assemble
from compose.bindings import require_bindings
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.commit import CommitOptions, Committed, commit_tree
from compose.errors import RepositoryError, TreefileError, UsageError
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.importer import ImportCache, import_packages
from compose.inputhash import input_hash
from compose.label import label
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.postprocess.options import AddedFile, BootLocation, OptUsrLocal, PostprocessOptions, Script
from compose.postprocess.stage import postprocess
from compose.rpm.compare import package_changes
from compose.rpm.manifest import PackageManifest
from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.request import PackageSpec, RepoPackages, SolveRequest
from compose.solve.resolution import Resolution, ResolvedPackage
from compose.solve.solver import solve
from compose.tree import Tree
from compose.treefile.load import load_treefile
from compose.treefile.model import CheckKind, LoadedTreefile, RepoMetadata, Treefile
from compose.treefile.version import next_version


class Outcome(Enum):
    """How a compose ended."""

    COMMITTED = auto()
    UNCHANGED = auto()
    DRY_RUN = auto()
    DOWNLOADED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """Where and how to compose; what to compose is the treefile's business.

    The names are those of the flags of `compose tree`. jobs: cores to use. source_date_epoch: seconds since 1970 that
    everything is dated with; None takes the later of the newest package's build time and the parent commit's time.
    """

    treefile: str
    cachedir: str
    repo: str | None = None
    source_root: str | None = None
    jobs: int = 1
    proxy: str | None = None
    cache_only: bool = False
    force_nocache: bool = False
    dry_run: bool = False
    download_only: bool = False
    download_only_rpms: bool = False
    disable_selinux: bool = False
    metadata_strings: tuple[tuple[str, str], ...] = ()
    metadata_files: tuple[str, ...] = ()
    parent: str | None = None
    no_parent: bool = False
    previous_commit: str | None = None
    previous_inputhash: str | None = None
    previous_version: str | None = None
    write_commitid_to: str | None = None
    write_composejson_to: str | None = None
    touch_if_changed: str | None = None
    source_date_epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeResult:
    """What came of it. commit: 64 hex digits, None unless committed. tree: what was committed, each entry with its writer.
    dropped: (path, reason) of what packages brought and the commit does not hold.
    stage_seconds: wall time per stage, in order."""

    outcome: Outcome
    packages: tuple[ResolvedPackage, ...]
    repo: str
    preview: bool
    ref: str | None = None
    ref_moved: bool = False
    commit: str | None = None
    version: str | None = None
    tree: Tree | None = None
    dropped: tuple[tuple[str, str], ...] = ()
    stage_seconds: tuple[tuple[str, float], ...] = ()


def compose_tree(options: ComposeOptions, reporter: Reporter) -> ComposeResult:
    """Compose what a treefile describes. Raises a ComposeError; then the repository is as it was."""
    require_bindings()
    watch = _Stopwatch()
    with ExitStack() as stack:
        with watch.stage("treefile"):
            loaded = _load(options, reporter)
        cache = CacheDir(options.cachedir)
        repo = stack.enter_context(_open_repo(options, cache))
        treefile, labelled = loaded.treefile, loaded.treefile.selinux and not options.disable_selinux
        previous = _Previous.of(repo, options, treefile.ref)
        access = _access(options, loaded)
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)

        with watch.stage("solve"):
            resolution = solve(_request(treefile, access), network, reporter)
        reporter.info(f"{len(resolution.packages)} packages from {', '.join(repo.id for repo in resolution.repos)}")
        digest = input_hash(treefile=loaded.digest_input, packages=resolution.packages, labelled=labelled)

        def ended(outcome: Outcome, **more: Any) -> ComposeResult:
            return ComposeResult(
                outcome=outcome,
                packages=resolution.packages,
                repo=repo.path,
                preview=options.repo is None,
                ref=treefile.ref,
                stage_seconds=tuple(watch.laps),
                **more,
            )

        downloading = options.download_only or options.download_only_rpms
        if not options.force_nocache and not downloading and digest == previous.inputhash:
            return ended(Outcome.UNCHANGED, commit=previous.checksum)
        if options.dry_run:
            _touch(options)
            return ended(Outcome.DRY_RUN)
        with watch.stage("fetch"):
            files = fetch(resolution, access, network, reporter, jobs=options.jobs)
        if options.download_only_rpms:
            return ended(Outcome.DOWNLOADED)
        store = BlobStore(cache.join("blobs"))
        with watch.stage("import"):
            manifests = import_packages(files, ImportCache(cache.join("manifests"), store), options.jobs, reporter)
        if options.download_only:
            return ended(Outcome.DOWNLOADED)

        epoch = _epoch(options, manifests, previous)
        version = _version(options, treefile, previous, epoch)
        with cache.scratch() as work:
            with watch.stage("assemble"):
                assembled = assemble(
                    manifests, _assemble_options(treefile, previous, repo, epoch), store, work, reporter
                )
            with watch.stage("postprocess"):
                settings = _postprocess_options(loaded, labelled, version, epoch)
                processed = postprocess(assembled.tree, settings, store, work, reporter)
            tree = processed.tree
            if labelled:
                with watch.stage("label"):
                    tree = label(tree, store, work, reporter)
            with watch.stage("commit"):
                own = _own_metadata(resolution, treefile, digest, version, processed.kernel)
                ref = None if options.write_commitid_to else treefile.ref
                parent = _parent(options, repo, treefile.ref)
                committed = commit_tree(
                    tree,
                    store,
                    repo,
                    CommitOptions(
                        metadata=metadata.assemble_metadata(_user_metadata(options, treefile), own),
                        parent=parent,
                        timestamp=epoch,
                        ref=ref,
                        jobs=options.jobs,
                    ),
                    reporter,
                )
        result = ended(
            Outcome.COMMITTED,
            ref_moved=ref is not None,
            commit=committed.checksum,
            version=version,
            tree=tree,
            dropped=tuple(
                sorted(
                    [
                        *((each.path, each.reason) for each in assembled.dropped),
                        *((each.path, each.reason) for each in processed.dropped),
                    ]
                )
            ),
        )
        _write_results(options, result, committed, digest, epoch, _package_diff(repo, parent, resolution))
        return result


def flattened_treefile(path: str) -> str:
    """What --print-only prints. Raises TreefileError."""
    return load_treefile(path, basearch=host_basearch()).json


def host_basearch() -> str:
    """RPM base architecture of this machine."""
    machine = platform.machine()
    return {"i686": "i386", "i586": "i386", "armv7l": "armhfp"}.get(machine, machine)


@dataclass(slots=True)
class _Stopwatch:
    laps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.laps.append((name, time.monotonic() - begun))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Previous:
    """The commit that this compose follows: what it is compared with, and what ids and version come from."""

    checksum: str | None = None
    commit: Commit | None = None
    inputhash: str | None = None
    version: str | None = None

    @classmethod
    def of(cls, repo: Repo, options: ComposeOptions, ref: str | None) -> _Previous:
        revision = options.previous_commit or ref
        checksum = repo.resolve(revision) if revision else None
        if options.previous_commit and (checksum is None or not repo.has(checksum, "commit")):
            raise RepositoryError(f"{repo.path} has no commit {options.previous_commit}", hint="see: ostree refs")
        commit = None
        if checksum is not None and repo.has(checksum, "commit") and not repo.is_partial(checksum):
            commit = repo.read_commit(checksum)
        known = commit.get(metadata.INPUTHASH) if commit else None
        version = commit.get("version") if commit else None
        return cls(
            checksum=checksum,
            commit=commit,
            inputhash=options.previous_inputhash or (known if isinstance(known, str) else None),
            version=options.previous_version or (version if isinstance(version, str) else None),
        )


def _load(options: ComposeOptions, reporter: Reporter) -> LoadedTreefile:
    loaded = load_treefile(options.treefile, basearch=host_basearch())
    for warning in loaded.warnings:
        reporter.warn(warning)
    refused = [f"{place}: {key}: known, but this version does not act on it" for key, place in loaded.unsupported]
    if loaded.treefile.repo_metadata is RepoMetadata.DETACHED:
        refused.append(f"{options.treefile}: repo-metadata: detached is not supported yet")
    if refused:
        raise TreefileError(refused[0], details=refused[1:], hint="remove it, or compose with rpm-ostree")
    if not loaded.treefile.packages and not loaded.treefile.repo_packages:
        raise TreefileError(f"{options.treefile}: packages: there are none", hint="a tree needs at least one package")
    return loaded


def _open_repo(options: ComposeOptions, cache: CacheDir) -> Repo:
    if options.repo is None:
        return Repo.create(cache.join("preview-repo"))
    repo = Repo.open(options.repo)
    if not (options.dry_run or options.download_only or options.download_only_rpms):
        repo.check_writable()
    return repo


def _access(options: ComposeOptions, loaded: LoadedTreefile) -> RepoAccess:
    treefile, root = loaded.treefile, options.source_root
    return RepoAccess(
        repo_dirs=(os.path.join(root, "etc/yum.repos.d"),) if root else (loaded.directory,),
        vars_dirs=tuple(os.path.join(root, name) for name in ("etc/yum/vars", "etc/dnf/vars")) if root else (),
        basearch=treefile.basearch,
        releasever=treefile.releasever,
        repovars=treefile.repovars,
        repos=treefile.repos,
        root=root,
    )


def _request(treefile: Treefile, access: RepoAccess) -> SolveRequest:
    return SolveRequest(
        packages=tuple(PackageSpec(text=spec.text, place=spec.place) for spec in treefile.packages),
        repo_packages=tuple(
            RepoPackages(
                repo=row.repo,
                packages=tuple(PackageSpec(text=spec.text, place=spec.place) for spec in row.packages),
                place=row.place,
            )
            for row in treefile.repo_packages
        ),
        exclude_packages=tuple(PackageSpec(text=spec.text, place=spec.place) for spec in treefile.exclude_packages),
        recommends=treefile.recommends,
        access=access,
    )


def _epoch(options: ComposeOptions, manifests: Sequence[PackageManifest], previous: _Previous) -> int:
    if options.source_date_epoch is not None:
        return options.source_date_epoch
    # never before the previous commit: clients refuse to go back in time
    built = max(manifest.build_time for manifest in manifests)
    return max(built, previous.commit.timestamp if previous.commit else 0)


def _version(options: ComposeOptions, treefile: Treefile, previous: _Previous, epoch: int) -> str | None:
    given = dict(options.metadata_strings).get("version")
    if given is not None or treefile.automatic_version_prefix is None:
        return given
    try:
        return next_version(
            treefile.automatic_version_prefix, treefile.automatic_version_suffix, previous.version, epoch
        )
    except ValueError as error:
        raise TreefileError(f"{options.treefile}: automatic-version-prefix: {error}") from error


def _assemble_options(treefile: Treefile, previous: _Previous, repo: Repo, epoch: int) -> AssembleOptions:
    return AssembleOptions(
        epoch=epoch,
        documentation=treefile.documentation,
        remove_from_packages=treefile.remove_from_packages,
        readonly_executables=treefile.readonly_executables,
        ignore_devices=treefile.ignore_devices,
        kernel_install=treefile.boot_location == "kernel-install",
        accounts=_accounts(treefile, previous, repo) if treefile.preserve_passwd else (),
    )


def _accounts(treefile: Treefile, previous: _Previous, repo: Repo) -> tuple[tuple[str, bytes], ...]:
    """passwd and group entries that keep their ids: from the treefile's files, else from the previous commit."""
    found: list[tuple[str, bytes]] = []
    for name, check in (("passwd", treefile.check_passwd), ("group", treefile.check_groups)):
        if check.kind is CheckKind.FILE and check.file is not None:
            found.append((name, check.file.data))
        elif previous.checksum is not None and previous.commit is not None:
            parts = (repo.read_file(previous.checksum, f"usr/{place}/{name}") or b"" for place in ("etc", "lib"))
            found.append((name, b"".join(parts)))
    return tuple(found)


def _postprocess_options(loaded: LoadedTreefile, labelled: bool, version: str | None, epoch: int) -> PostprocessOptions:
    treefile = loaded.treefile
    script = treefile.postprocess_script
    return PostprocessOptions(
        boot_location=BootLocation(treefile.boot_location),
        tmp_is_dir=treefile.tmp_is_dir,
        machineid_compat=treefile.machineid_compat,
        units=treefile.units,
        default_target=treefile.default_target,
        opt_usrlocal=OptUsrLocal(treefile.opt_usrlocal),
        etc_group_members=treefile.etc_group_members,
        postprocess=tuple(
            Script(name=f"postprocess[{index}]", body=body.encode()) for index, body in enumerate(treefile.postprocess)
        ),
        postprocess_script=Script(name=script.path, body=script.data) if script else None,
        add_files=tuple(
            AddedFile(dest=each.dest, content=each.source.data, mode=each.source.mode) for each in treefile.add_files
        ),
        remove_files=treefile.remove_files,
        mutate_os_release=treefile.mutate_os_release,
        version=version,
        initramfs_args=treefile.initramfs_args or ("--no-hostonly",),
        no_initramfs=treefile.no_initramfs,
        container=treefile.container,
        selinux=labelled,
        treefile_json=loaded.json.encode(),
        time=epoch,
    )


def _user_metadata(options: ComposeOptions, treefile: Treefile) -> dict[str, Variant]:
    found = {
        key: metadata.from_json(value, f"add-commit-metadata.{key}") for key, value in treefile.add_commit_metadata
    }
    for path in options.metadata_files:
        found |= {
            key: metadata.from_json(value, f"{path}: {key}") for key, value in metadata.read_json_file(path).items()
        }
    return found | {key: Variant("s", value) for key, value in options.metadata_strings}


def _own_metadata(
    resolution: Resolution, treefile: Treefile, digest: str, version: str | None, kernel: str | None
) -> dict[str, Variant]:
    found = {
        metadata.INPUTHASH: Variant("s", digest),
        metadata.PKGLIST: metadata.package_list([package.nevra for package in resolution.packages]),
    }
    if treefile.repo_metadata is RepoMetadata.INLINE:
        found["rpmostree.rpmmd-repos"] = metadata.repositories(resolution.repos)
    if version is not None:
        found["version"] = Variant("s", version)
    if treefile.initramfs_args:
        found["rpmostree.initramfs-args"] = Variant("as", treefile.initramfs_args)
    if treefile.container_cmd is not None:
        found["ostree.container-cmd"] = Variant("as", treefile.container_cmd)
    if kernel is not None:
        found["ostree.bootable"] = Variant("b", True)
        found["ostree.linux"] = Variant("s", kernel)
    return found


def _parent(options: ComposeOptions, repo: Repo, ref: str | None) -> str | None:
    if options.no_parent:
        return None
    if options.parent is not None:
        checksum = repo.resolve(options.parent)
        if checksum is None:
            raise UsageError(f"--parent={options.parent}: {repo.path} has no such ref")
        return checksum
    return repo.resolve(ref) if ref else None


def _package_diff(repo: Repo, parent: str | None, resolution: Resolution) -> list[Any] | None:
    """rpm-ostree's pkgdiff; None when the parent or its package list is not there."""
    rows = repo.read_commit(parent).get(metadata.PKGLIST) if parent and repo.has(parent, "commit") else None
    if rows is None:
        return None
    before = [
        Nevra(name=name, epoch=int(epoch or 0), version=version, release=release, arch=arch)
        for name, epoch, version, release, arch in rows
    ]
    found = []
    for change, old, new in package_changes(before, [package.nevra for package in resolution.packages]):
        sides = {"PreviousPackage": old, "NewPackage": new}
        named = {key: [each.name, each.evr, each.arch] for key, each in sides.items() if each is not None}
        found.append([(new or old or before[0]).name, int(change), named])
    return found


def _touch(options: ComposeOptions) -> None:
    if options.touch_if_changed is not None:
        with fs.storage_errors(options.touch_if_changed):
            os.close(os.open(options.touch_if_changed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            os.utime(options.touch_if_changed)


def _write_results(
    options: ComposeOptions,
    result: ComposeResult,
    committed: Committed,
    digest: str,
    epoch: int,
    pkgdiff: list[Any] | None,
) -> None:
    stats = committed.stats
    report: dict[str, Any] = {
        "ostree-commit": committed.checksum,
        "ostree-content-checksum": committed.content_checksum,
        "ostree-timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
        "rpm-ostree-inputhash": digest,
        "ostree-n-metadata-total": stats.metadata_total,
        "ostree-n-metadata-written": stats.metadata_written,
        "ostree-n-content-total": stats.content.objects,
        "ostree-n-content-written": stats.content.written,
        "ostree-n-cache-hits": 0,
        "ostree-content-bytes-written": stats.content.bytes_written,
        "packages": len(result.packages),
        "stage-seconds": {name: round(seconds, 3) for name, seconds in result.stage_seconds},
    }
    if result.ref is not None:
        report["ref"] = result.ref
    if result.version is not None:
        report["ostree-version"] = result.version
    if pkgdiff is not None:
        report["pkgdiff"] = pkgdiff
    if options.write_composejson_to is not None:
        text = json.dumps(report, indent=2, sort_keys=True) + "\n"
        fs.atomic_write(options.write_composejson_to, text.encode())
    if options.write_commitid_to is not None:
        fs.atomic_write(options.write_commitid_to, committed.checksum.encode())
    _touch(options)

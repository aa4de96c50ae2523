"""From the treefile and the command line to the options of each stage and the metadata of the commit."""

from __future__ import annotations

import os
from collections.abc import Sequence

from compose import metadata
from compose.architecture import foreign
from compose.assemble.accounts import locked_lines, still_locked
from compose.assemble.options import AssembleOptions, KnownAccounts, Layer
from compose.layers import read_layer
from compose.ostree.gvariant import Variant
from compose.ostree.objects import COLLECTION_BINDING, REF_BINDING
from compose.ostree.repo import Repo
from compose.pipeline.added import given_version
from compose.pipeline.facts import Facts
from compose.pipeline.inputs import Inputs
from compose.pipeline.options import ComposeOptions
from compose.pipeline.previous import Accounts, Previous
from compose.postprocess.drift import Reference, parse_entries
from compose.postprocess.options import AddedFile, BootLocation, OptUsrLocal, PostprocessOptions, Script
from compose.rpm.manifest import PackageManifest
from compose.treefile.keys import WRAPPABLE
from compose.treefile.model import CheckKind, LoadedTreefile, MetadataPlace, Treefile
from compose.treefile.version import next_version


def epoch(options: ComposeOptions, manifests: Sequence[PackageManifest], previous: Previous) -> int:
    """Time of the commit, in seconds since 1970."""
    if options.source_date_epoch is not None:
        return options.source_date_epoch
    # never before the previous commit: clients refuse to go back in time
    built = max(manifest.build_time for manifest in manifests)
    return max(built, previous.timestamp)


def version(options: ComposeOptions, treefile: Treefile, previous: Previous, epoch: int) -> str | None:
    """Version of the commit: as given, else automatic; None for neither."""
    given = given_version(options, treefile)
    if given is not None or treefile.automatic_version_prefix is None:
        return given
    return next_version(treefile.automatic_version_prefix, treefile.automatic_version_suffix, previous.version, epoch)


def assemble_options(inputs: Inputs, accounts: Accounts, epoch: int) -> AssembleOptions:
    """Options of the assembly. accounts: of the previous commit."""
    treefile = inputs.treefile
    return AssembleOptions(
        epoch=epoch,
        documentation=treefile.documentation,
        install_langs=treefile.install_langs,
        remove_from_packages=treefile.remove_from_packages,
        readonly_executables=treefile.readonly_executables,
        ignore_devices=treefile.ignore_devices,
        default_ignored_scriptlets=ignores_by_default(treefile),
        ignore_scriptlets=treefile.ignore_scriptlets,
        allow_scriptlet_failures=treefile.allow_scriptlet_failures,
        accounts=_known_accounts(treefile, accounts) if treefile.preserve_passwd else (),
        ima=treefile.ima,
        foreign=foreign(treefile.basearch),
        layers=tuple(
            Layer(name=each.ref, tree=read_layer(inputs.layer_repo, each.commit, inputs.store), override=each.override)
            for each in inputs.layers
        ),
    )


def ignores_by_default(treefile: Treefile) -> bool:
    """Are the scriptlets listed in ignored-scriptlets.json skipped?"""
    return treefile.default_ignored_scriptlets and treefile.boot_location != "kernel-install"


def _known_accounts(treefile: Treefile, accounts: Accounts) -> tuple[KnownAccounts, ...]:
    """Accounts that keep their ids, from the treefile's files, else from the previous commit. Their lines of shadow and
    gshadow are included, since sysusers and useradd write those only for accounts that they create."""
    found: list[KnownAccounts] = []
    for name, shadow, check in (
        ("passwd", "shadow", treefile.check_passwd),
        ("group", "gshadow", treefile.check_groups),
    ):
        before = accounts.get(name)
        if check.kind is CheckKind.FILE and check.file is not None:
            # as in rpm-ostree, where package setup does not replace it
            found.append(KnownAccounts(file=name, entries=check.file.data, override=True))
            found.append(KnownAccounts(file=shadow, entries=locked_lines(check.file.data, shadow)))
        elif before is not None:
            found.append(KnownAccounts(file=name, entries=before))
            found.append(KnownAccounts(file=shadow, entries=still_locked(accounts.get(shadow, b""))))
    return tuple(found)


def account_references(
    options: ComposeOptions, treefile: Treefile, previous: Previous, accounts: Accounts
) -> tuple[Reference, ...]:
    """What check-passwd and check-groups compare accounts with. accounts: of the previous commit."""
    found = []
    for key, database, check, ignored in (
        ("check-passwd", "passwd", treefile.check_passwd, treefile.ignore_removed_users),
        ("check-groups", "group", treefile.check_groups, treefile.ignore_removed_groups),
    ):
        entries: dict[str, tuple[int, ...]]
        before = accounts.get(database)
        if check.kind is CheckKind.FILE and check.file is not None:
            source = check.file.path
            entries = parse_entries(database, check.file.data.decode(errors="replace"))
        elif check.kind is CheckKind.DATA:
            source, entries = options.treefile, dict(check.data)
        elif check.kind is CheckKind.PREVIOUS and before is not None and previous.checksum is not None:
            source = f"commit {previous.checksum[:12]}"
            entries = parse_entries(database, before.decode(errors="replace"))
        else:
            continue
        found.append(Reference(key=key, database=database, source=source, entries=entries, ignored=frozenset(ignored)))
    return tuple(found)


def postprocess_options(loaded: LoadedTreefile, labelled: bool, version: str | None, epoch: int) -> PostprocessOptions:
    """Options of the postprocessing. labelled: will the tree have SELinux labels?"""
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
        finalize=tuple(
            Script(name=f"finalize.d/{os.path.basename(each.path)}", body=each.data) for each in treefile.finalize
        ),
        cliwrap=WRAPPABLE if treefile.cliwrap else treefile.cliwrap_binaries,
        mutate_os_release=treefile.mutate_os_release,
        version=version,
        initramfs_args=treefile.initramfs_args or ("--no-hostonly",),
        no_initramfs=treefile.no_initramfs,
        container=treefile.container,
        selinux=labelled,
        treefile_json=loaded.json.encode(),
        time=epoch,
        foreign=foreign(treefile.basearch),
    )


def facts(inputs: Inputs, version: str | None, epoch: int, kernel: str | None) -> Facts:
    """The facts about a compose that go into its commit."""
    return Facts(
        digest=inputs.digest,
        packages=tuple(each.nevra for each in inputs.resolution.packages),
        repos=inputs.resolution.repos,
        advisories=inputs.resolution.advisories or (),
        version=version,
        kernel=kernel,
        epoch=epoch,
    )


def detached_metadata(facts: Facts, treefile: Treefile) -> dict[str, Variant]:
    """Detached metadata of the commit."""
    found = {}
    if treefile.repo_metadata is MetadataPlace.DETACHED:
        found[metadata.REPOSITORIES] = metadata.repositories(facts.repos)
    if treefile.advisories_metadata is MetadataPlace.DETACHED and facts.advisories:
        found[metadata.ADVISORIES] = metadata.advisories(facts.advisories)
    return found


def bindings(repo: Repo, ref: str | None) -> dict[str, Variant]:
    """Collection and ref bindings, which clients of a collection require in a commit.

    Without a collection commits are not bound, as with rpm-ostree: release engineers publish one under several refs.
    """
    collection = repo.config.collection_id
    if collection is None or ref is None:
        return {}
    return {COLLECTION_BINDING: Variant("s", collection), REF_BINDING: Variant("as", (ref,))}


def own_metadata(facts: Facts, treefile: Treefile) -> dict[str, Variant]:
    """Metadata of the commit that compose itself adds."""
    found = {metadata.PKGLIST: metadata.package_list(facts.packages)}
    if facts.digest:
        found[metadata.INPUTHASH] = Variant("s", facts.digest)
    if treefile.repo_metadata is MetadataPlace.INLINE and facts.repos:
        found[metadata.REPOSITORIES] = metadata.repositories(facts.repos)
    if treefile.advisories_metadata is MetadataPlace.INLINE and facts.advisories:
        found[metadata.ADVISORIES] = metadata.advisories(facts.advisories)
    if facts.version is not None:
        found["version"] = Variant("s", facts.version)
    if treefile.initramfs_args:
        found["rpmostree.initramfs-args"] = Variant("as", treefile.initramfs_args)
    if treefile.container_cmd is not None:
        found["ostree.container-cmd"] = Variant("as", treefile.container_cmd)
    if facts.kernel is not None:
        found["ostree.bootable"] = Variant("b", True)
        found["ostree.linux"] = Variant("s", facts.kernel)
    return found

"""`compose build-chunked-oci`: a root that something else made, a directory or an image, as an image in layers of packages."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from compose.blobs import BlobStore
from compose.cachedir import LABELS, CacheDir
from compose.commit import CommitOptions, commit_tree
from compose.errors import ImageError, UsageError
from compose.events import Reporter
from compose.label import label
from compose.oci import skopeo
from compose.oci.chunking import MOST_LAYERS, PreviousLayers, plan_layers, previous_layers
from compose.oci.contentmeta import read_content_meta
from compose.oci.difference import compare_manifests, parse_manifest
from compose.oci.encapsulate import encapsulate
from compose.oci.existing import ExistingImage, read_existing
from compose.oci.image import PLAIN, ImageOptions, architecture_of_packages, check_options
from compose.oci.reference import ImageReference
from compose.oci.source import SourceImage, read_source
from compose.ostree.composefs import require_program
from compose.ostree.keys import SigningKey
from compose.pipeline.encapsulate import Encapsulated
from compose.pipeline.image import check_target, open_private, structure_of
from compose.pipeline.parts import tell_devices
from compose.rootfs import Root, read_rootfs
from compose.tree import Tree

_WRITER = "rootfs"
_POLICY = "usr/etc/selinux/config"
_WITHOUT = ("sysroot",)
_BOOTC = ("containers.bootc", "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedOptions:
    """source: path of a root directory, or an image. target: where the image goes. previous: image whose structure is kept,
    None for the one at the target. max_layers: behind the one with the commit. parents: have all directories in each layer that
    files of it are in. keys: the commit is signed with. time: of commit and image, seconds since 1970, None for that of the
    image that it is made of, or of the root directory."""

    source: str | ImageReference
    target: ImageReference
    cachedir: str
    previous: ImageReference | None = None
    image: ImageOptions = PLAIN
    max_layers: int = MOST_LAYERS
    parents: bool = False
    keys: tuple[SigningKey, ...] = ()
    time: int | None = None
    jobs: int = 1
    access: skopeo.Access = skopeo.NO_ACCESS


def build_chunked(options: ChunkedOptions, reporter: Reporter) -> Encapsulated:
    """Raises a ComposeError; then what is at the target is what was there, and what it is made of in any case."""
    check_options(_described(options))
    check_target(options.target, reporter)
    before = _before(options, reporter)
    structure = _structure(before, options, reporter)
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        # not the cache's: no compose has a use for what is in the root
        store = BlobStore(os.path.join(work, "blobs"))
        root, base = _read(options, store, reporter)
        measured = base is not None and base.measured
        if measured:
            require_program()
        tell_devices(root, reporter)
        image = _described(options, base)
        tree = _arranged(root.tree, str(options.source))
        if _POLICY in tree:
            tree = label(tree, store, work, reporter, cache.join(LABELS), jobs=options.jobs)
        else:
            reporter.info(f"no SELinux policy in {options.source}: files have no labels")
        with open_private(os.path.join(work, "repo"), composefs=measured) as repo:
            how = CommitOptions(
                metadata=(),
                parent=None,
                timestamp=_time(options, base, tree),
                ref=None,
                signers=options.keys,
                jobs=options.jobs,
            )
            commit = commit_tree(tree, store, repo, how, reporter).checksum
            content = read_content_meta(repo, commit, reporter, workdir=work, where=str(options.source))
            made = encapsulate(
                repo,
                commit,
                plan_layers(content, max_layers=options.max_layers, previous=structure),
                options.target,
                # not that of this machine
                replace(image, arch=image.arch or architecture_of_packages(content.architectures)),
                parents=options.parents,
                jobs=options.jobs,
                reporter=reporter,
                access=options.access,
            )
    difference = None
    if before is not None:
        difference = compare_manifests(before.manifest, parse_manifest(made.manifest, str(options.target)))
    return Encapsulated(image=made, difference=difference)


def _read(options: ChunkedOptions, store: BlobStore, reporter: Reporter) -> tuple[Root, SourceImage | None]:
    """What the image is made of, and the image that this is, if it is one."""
    if isinstance(options.source, str):
        return read_rootfs(options.source, store, reporter, writer=_WRITER, without=_WITHOUT), None
    base = read_source(options.source, store, reporter, writer=_WRITER, without=_WITHOUT, access=options.access)
    return base.root, base


def _described(options: ChunkedOptions, base: SourceImage | None = None) -> ImageOptions:
    image = replace(options.image, labels=(_BOOTC, *options.image.labels))
    return image if base is None else replace(image, image_config=base.config, arch=base.architecture)


def _time(options: ChunkedOptions, base: SourceImage | None, tree: Tree) -> int:
    if options.time is not None:
        return options.time
    return base.created if base is not None and base.created is not None else max(0, tree[""].mtime)


def _before(options: ChunkedOptions, reporter: Reporter) -> ExistingImage | None:
    found = read_existing(options.previous or options.target, reporter, options.access)
    if found is None and options.previous is not None:
        raise ImageError(
            f"{options.previous}: there is no such image", hint="leave --previous-build out, or correct it"
        )
    return found


def _structure(before: ExistingImage | None, options: ChunkedOptions, reporter: Reporter) -> PreviousLayers | None:
    """None for an image that was not made of packages, as the root's own may be."""
    if before is None:
        return None
    if options.previous is not None:
        return structure_of(before, str(options.previous), reporter)
    try:
        return previous_layers(before.manifest, "")
    except UsageError:
        return None


def _arranged(tree: Tree, source: str) -> Tree:
    """As a commit has it: the root directory root's, /etc in /usr/etc. Raises UsageError for a root that has both."""
    editor = tree.edit()
    editor.replace("", uid=0, gid=0)
    if "etc" in editor:
        if "usr/etc" in editor:
            raise UsageError(
                f"{source} has both /etc and /usr/etc",
                hint="give a root with one of them: /usr/etc is what /etc becomes in a commit",
            )
        editor.move("etc", "usr/etc")
    return editor.build()

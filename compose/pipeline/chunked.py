"""`compose build-chunked-oci`: a root directory or image made by other tools, as an image with layers by package."""

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
from compose.oci.reuse import old_layers
from compose.oci.source import SourceImage, read_source
from compose.oci.target import check_target
from compose.ostree.composefs import require_program
from compose.ostree.keys import SigningKey
from compose.pipeline.encapsulate import Encapsulated
from compose.pipeline.image import structure_of
from compose.pipeline.parts import report_devices
from compose.pipeline.private import open_private
from compose.rootfs import Root, read_rootfs
from compose.tree import Tree

_WRITER = "rootfs"
_POLICY = "usr/etc/selinux/config"
_EXCLUDED = ("sysroot",)
_BOOTC = ("containers.bootc", "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedOptions:
    """Options of build_chunked().

    source: path of a root directory, or an image. target: where the image is written. previous: the image whose layer
    structure is kept; None for the one at the target. max_layers: not counting the layer with the commit. parents: repeat the
    parent directories of files in each layer. keys: sign the commit. time: of commit and image, in seconds since 1970; None
    takes that of the source image or root directory.
    """

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
    """Build the image. The source is not changed. Raises a ComposeError; the target is then left as it was."""
    check_options(_image_options(options))
    check_target(options.target, reporter)
    previous = _previous_image(options, reporter)
    structure = _structure(previous, options, reporter)
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        # a store of its own: composes have no use for these blobs
        store = BlobStore(os.path.join(work, "blobs"))
        root, base = _read(options, store, reporter)
        measured = base is not None and base.measured
        if measured:
            require_program()
        report_devices(root, reporter)
        image_options = _image_options(options, base)
        tree = _as_in_commit(root.tree, str(options.source))
        if _POLICY in tree:
            tree = label(tree, store, work, reporter, cache.join(LABELS), jobs=options.jobs)
        else:
            reporter.info(f"no SELinux policy in {options.source}: files have no labels")
        with open_private(os.path.join(work, "repo"), composefs=measured) as repo:
            commit_options = CommitOptions(
                metadata=(),
                parent=None,
                timestamp=_time(options, base, tree),
                ref=None,
                signers=options.keys,
                jobs=options.jobs,
            )
            commit = commit_tree(tree, store, repo, commit_options, reporter).checksum
            content = read_content_meta(repo, commit, reporter, workdir=work, where=str(options.source))
            image = encapsulate(
                repo,
                commit,
                plan_layers(content, max_layers=options.max_layers, previous=structure),
                options.target,
                # of the packages, not of this machine
                replace(image_options, arch=image_options.arch or architecture_of_packages(content.architectures)),
                parents=options.parents,
                jobs=options.jobs,
                reporter=reporter,
                access=options.access,
                old=old_layers(options.previous or options.target, previous) if previous is not None else None,
            )
    difference = None
    if previous is not None:
        difference = compare_manifests(previous.manifest, parse_manifest(image.manifest, str(options.target)))
    return Encapsulated(image=image, difference=difference)


def _read(options: ChunkedOptions, store: BlobStore, reporter: Reporter) -> tuple[Root, SourceImage | None]:
    """The contents of the source, and the source image, if it is one."""
    if isinstance(options.source, str):
        root = read_rootfs(options.source, store, reporter, writer=_WRITER, jobs=options.jobs, without=_EXCLUDED)
        return root, None
    base = read_source(options.source, store, reporter, writer=_WRITER, without=_EXCLUDED, access=options.access)
    return base.root, base


def _image_options(options: ChunkedOptions, base: SourceImage | None = None) -> ImageOptions:
    image = replace(options.image, labels=(_BOOTC, *options.image.labels))
    return image if base is None else replace(image, image_config=base.config, arch=base.architecture)


def _time(options: ChunkedOptions, base: SourceImage | None, tree: Tree) -> int:
    if options.time is not None:
        return options.time
    return base.created if base is not None and base.created is not None else max(0, tree[""].mtime)


def _previous_image(options: ChunkedOptions, reporter: Reporter) -> ExistingImage | None:
    followed = options.previous or options.target
    found = read_existing(followed, reporter, options.access, replaced=followed is options.target)
    if found is None and options.previous is not None:
        raise ImageError(f"{options.previous}: there is no such image", hint="correct or leave out --previous-build")
    return found


def _structure(previous: ExistingImage | None, options: ChunkedOptions, reporter: Reporter) -> PreviousLayers | None:
    """The layers of the previous image; None when they are not by package, as in an image that other tools made."""
    if previous is None:
        return None
    if options.previous is not None:
        return structure_of(previous, str(options.previous), reporter)
    try:
        return previous_layers(previous.manifest, "", previous.comments)
    except UsageError:
        return None


def _as_in_commit(tree: Tree, source: str) -> Tree:
    """The tree with a root directory owned by root, and /etc moved to /usr/etc. Raises UsageError when it has both."""
    editor = tree.edit()
    editor.replace("", uid=0, gid=0)
    if "etc" in editor:
        if "usr/etc" in editor:
            raise UsageError(
                f"{source} has both /etc and /usr/etc",
                hint="give a root with one of them: commits hold /etc as /usr/etc",
            )
        editor.move("etc", "usr/etc")
    return editor.build()

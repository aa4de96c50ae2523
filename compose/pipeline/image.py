"""`compose image`: from a treefile to a container image, if anything in it has changed.

The compose starts from what the previous image's metadata says: input hash, version, time, and the structure of its layers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import StrEnum

from compose import fs
from compose.cachedir import IMAGES, CacheDir
from compose.errors import ImageError, RepositoryError, UsageError
from compose.events import Reporter
from compose.metadata import INPUTHASH
from compose.oci import skopeo
from compose.oci.chunking import MOST_LAYERS, PreviousLayers, plan_layers, previous_layers
from compose.oci.contentmeta import read_content_meta
from compose.oci.difference import ManifestDifference, compare_manifests, parse_manifest
from compose.oci.encapsulate import Image, encapsulate
from compose.oci.existing import ExistingImage, read_existing
from compose.oci.image import COMMIT_LABEL, PLAIN, ImageOptions, check_options
from compose.oci.reference import ImageReference
from compose.oci.reuse import OldLayers, old_layers
from compose.oci.target import check_target
from compose.ostree.refs import is_checksum
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.private import open_private
from compose.pipeline.results import touch
from compose.pipeline.run import compose_tree


class Initialize(StrEnum):
    """When to make an image that does not follow a previous one. The values are rpm-ostree's."""

    QUERY = "query"
    """Never: there must be a previous image."""
    ALWAYS = "always"
    """Always: an existing image is replaced without reading it."""
    NEVER = "never"
    """The first time only: an existing image is an error."""
    IF_NOT_EXISTS = "if-not-exists"
    """When there is no previous image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeImageOptions:
    """Options of compose_image().

    tree: options of the compose; its repository, parent and previous commit are ignored. target: place of the previous image
    and the new one. max_layers: not counting the layer with the commit.
    """

    tree: ComposeOptions
    target: ImageReference
    initialize: Initialize = Initialize.QUERY
    image: ImageOptions = PLAIN
    max_layers: int = MOST_LAYERS
    access: skopeo.Access = skopeo.NO_ACCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedImage:
    """tree: result of the compose. image: None when nothing changed. difference: from the previous image, None without one."""

    tree: ComposeResult
    image: Image | None = None
    difference: ManifestDifference | None = None


def compose_image(options: ComposeImageOptions, reporter: Reporter) -> ComposedImage:
    """Compose, and write the commit as an image. Raises a ComposeError; the target is then left as it was."""
    target = options.target
    check_options(options.image)
    # fail now rather than after the compose
    check_target(target, reporter)
    if options.tree.touch_if_changed is not None:
        fs.check_place(options.tree.touch_if_changed)
    previous = _previous(options, reporter)
    structure = structure_of(previous, str(target), reporter) if previous is not None else None
    # locked until the image is written: its contents are in the cachedir
    with (
        CacheDir(options.tree.cachedir).shared(reporter) as cache,
        open_private(cache.join(IMAGES)) as repo,
        cache.scratch() as work,
    ):
        # write_commitid_to keeps the ref from being created: an image follows the previous image, not a ref
        tree_options = replace(
            _options_following(options.tree, previous, repo, reporter),
            repo=repo.path,
            no_parent=True,
            write_commitid_to=os.path.join(work, "commit"),
            touch_if_changed=None,
        )
        result = compose_tree(tree_options, reporter)
        if result.outcome is not Outcome.COMMITTED:
            return ComposedImage(tree=result)
        assert result.commit is not None
        try:
            old = old_layers(target, previous) if previous is not None else None
            image = _encapsulated(repo, result.commit, structure, old, options, work, reporter)
        except RepositoryError as error:
            raise RepositoryError(
                error.message,
                hint=f"remove {repo.path} and compose again: it holds only commits that images were made from",
            ) from error
    touch(options.tree)
    difference = None
    if previous is not None:
        difference = compare_manifests(previous.manifest, parse_manifest(image.manifest, str(target)))
    return ComposedImage(tree=result, image=image, difference=difference)


def _encapsulated(
    repo: Repo,
    commit: str,
    structure: PreviousLayers | None,
    old: OldLayers | None,
    options: ComposeImageOptions,
    work: str,
    reporter: Reporter,
) -> Image:
    content = read_content_meta(repo, commit, reporter, workdir=work)
    return encapsulate(
        repo,
        commit,
        plan_layers(content, max_layers=options.max_layers, previous=structure),
        options.target,
        options.image,
        parents=False,
        jobs=options.tree.jobs,
        reporter=reporter,
        access=options.access,
        old=old,
    )


def _previous(options: ComposeImageOptions, reporter: Reporter) -> ExistingImage | None:
    """The image that the new one follows. Raises ImageError when it is missing but required, or present but unexpected."""
    if options.initialize is Initialize.ALWAYS:
        return None
    target = options.target
    found = read_existing(target, reporter, options.access, replaced=True)
    if found is None:
        if options.initialize is Initialize.QUERY:
            raise ImageError(
                f"{target}: there is no image yet",
                hint="make the first one with --initialize, used for that build only",
            )
        return None
    if options.initialize is Initialize.NEVER:
        raise ImageError(
            f"{target}: there is an image already", hint="to build its successor, leave out --initialize-mode"
        )
    if INPUTHASH not in found.labels:
        raise ImageError(
            f"{target}: the existing image has no label {INPUTHASH}, so its inputs are not known",
            hint="replace it with --initialize-mode=always",
        )
    return found


def structure_of(previous: ExistingImage, where: str, reporter: Reporter) -> PreviousLayers | None:
    """The layers of an image; None, with a warning, when they do not describe their contents. where: for messages."""
    try:
        return previous_layers(previous.manifest, where, previous.comments)
    except UsageError as error:
        # a layer that someone added on top, or an image that others made
        reporter.warn(f"{error.message}; the layer structure is not kept")
        return None


def _options_following(
    options: ComposeOptions, previous: ExistingImage | None, repo: Repo, reporter: Reporter
) -> ComposeOptions:
    """The options for a compose that follows an image."""
    if previous is None:
        return replace(options, previous_commit=None)
    commit = previous.labels.get(COMMIT_LABEL, "")
    known = is_checksum(commit) and repo.has(commit, "commit")
    if not known:
        reporter.info(
            "The commit of the previous image is not in the cachedir: users and groups get ids as in a first compose"
        )
    return replace(
        options,
        previous_commit=commit if known else None,
        previous_inputhash=previous.labels[INPUTHASH],
        previous_version=previous.version,
        previous_timestamp=previous.created,
    )

"""`compose image`: from a treefile to a container image, when anything is new in it.

What the image before says of itself is what the compose begins with: input hash, version, time, and the structure of layers.
"""

from __future__ import annotations

import contextlib
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
from compose.oci.layout import try_layout
from compose.oci.reference import ImageReference, Transport
from compose.ostree.config import Mode
from compose.ostree.refs import is_checksum
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.results import touch
from compose.pipeline.run import compose_tree

_TRIED = "user.compose"
_VERSIONS = ("org.opencontainers.image.version", "version")


class Initialize(StrEnum):
    """When an image is made that follows none. The values are rpm-ostree's."""

    QUERY = "query"
    """Never: there must be one."""
    ALWAYS = "always"
    """Whatever is there is not looked at, and replaced."""
    NEVER = "never"
    """Only where there is none; one that is there is an error."""
    IF_NOT_EXISTS = "if-not-exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeImageOptions:
    """tree: how to compose; repository, parent and previous commit are no business of the caller's. target: where the image is
    and goes. max_layers: behind the one with the commit."""

    tree: ComposeOptions
    target: ImageReference
    initialize: Initialize = Initialize.QUERY
    image: ImageOptions = PLAIN
    max_layers: int = MOST_LAYERS
    access: skopeo.Access = skopeo.NO_ACCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedImage:
    """tree: what came of the compose. image: None when nothing changed. difference: to the image before, None without one."""

    tree: ComposeResult
    image: Image | None = None
    difference: ManifestDifference | None = None


def compose_image(options: ComposeImageOptions, reporter: Reporter) -> ComposedImage:
    """Raises a ComposeError; then what is at the target is what was there."""
    target = options.target
    check_options(options.image)
    # now, and not when all is composed
    check_target(target, reporter)
    if options.tree.touch_if_changed is not None:
        fs.check_place(options.tree.touch_if_changed)
    previous = _previous(options, reporter)
    structure = structure_of(previous, str(target), reporter) if previous is not None else None
    # held until the image is there: what it is made of is in it
    with CacheDir(options.tree.cachedir).shared(reporter) as cache, open_private(cache.join(IMAGES)) as repo:
        with fs.temporary_directory("compose-image-") as directory:
            # with it the ref stays where it is, for there is to be none: what an image follows is the image before
            asked = replace(
                _following(options.tree, previous, repo, reporter),
                repo=repo.path,
                no_parent=True,
                write_commitid_to=os.path.join(directory, "commit"),
                touch_if_changed=None,
            )
            result = compose_tree(asked, reporter)
        if result.outcome is not Outcome.COMMITTED:
            return ComposedImage(tree=result)
        assert result.commit is not None
        try:
            image = _encapsulated(repo, result.commit, structure, options, reporter)
        except RepositoryError as error:
            raise RepositoryError(
                error.message,
                hint=f"remove {repo.path} and compose again: it has nothing but commits that images were made of",
            ) from error
    touch(options.tree)
    difference = None
    if previous is not None:
        difference = compare_manifests(previous.manifest, parse_manifest(image.manifest, str(target)))
    return ComposedImage(tree=result, image=image, difference=difference)


def check_target(target: ImageReference, reporter: Reporter) -> None:
    """Raises what would be raised when an image is put there, as far as can be told before."""
    match target.transport:
        case Transport.OCI:
            try_layout(target.name, reporter)
        case Transport.OCI_ARCHIVE:
            fs.check_place(target.name)
        case _:
            skopeo.require()


def _encapsulated(
    repo: Repo, commit: str, structure: PreviousLayers | None, options: ComposeImageOptions, reporter: Reporter
) -> Image:
    content = read_content_meta(repo, commit, reporter)
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
    )


def _previous(options: ComposeImageOptions, reporter: Reporter) -> ExistingImage | None:
    """The image that the new one follows. Raises ImageError when there should be one and is none, or the other way round."""
    if options.initialize is Initialize.ALWAYS:
        return None
    target = options.target
    found = read_existing(target, reporter, options.access)
    if found is None:
        if options.initialize is Initialize.QUERY:
            raise ImageError(
                f"{target}: there is no image yet", hint="--initialize makes the first one; it is for that build only"
            )
        return None
    if options.initialize is Initialize.NEVER:
        raise ImageError(
            f"{target}: there is an image already", hint="without --initialize-mode the next one follows it"
        )
    if INPUTHASH not in found.labels:
        raise ImageError(
            f"{target}: the image that is there has no label {INPUTHASH}, so that nobody knows what it was made of",
            hint="--initialize-mode=always replaces it",
        )
    return found


def structure_of(previous: ExistingImage, where: str, reporter: Reporter) -> PreviousLayers | None:
    """The layers of an image; None, and a warning, when they do not say what is in them. where: what it is called."""
    try:
        return previous_layers(previous.manifest, where)
    except UsageError as error:
        # a registry that keeps no annotations, or somebody's layer upon the image
        reporter.warn(f"{error.message}; packages are packed into layers anew")
        return None


def _following(
    options: ComposeOptions, previous: ExistingImage | None, repo: Repo, reporter: Reporter
) -> ComposeOptions:
    """The same for a compose that follows an image."""
    if previous is None:
        return replace(options, previous_commit=None)
    commit = previous.labels.get(COMMIT_LABEL, "")
    known = is_checksum(commit) and repo.has(commit, "commit")
    if not known:
        reporter.info(
            "The commit of the image before is not in the cachedir: users and groups get their ids as in a first compose"
        )
    return replace(
        options,
        previous_commit=commit if known else None,
        previous_inputhash=previous.labels[INPUTHASH],
        previous_version=next((previous.labels[key] for key in _VERSIONS if key in previous.labels), None),
        previous_timestamp=previous.created,
    )


def open_private(path: str, *, composefs: bool = False) -> Repo:
    """A repository for commits that go into images at once. Files lie there as they are: they are packed in the image.
    composefs: a new one's commits have the digest."""
    mode = Mode.BARE_USER
    with fs.storage_errors(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            os.setxattr(path, _TRIED, b"")
        except OSError:
            # a filesystem that keeps no such attributes
            mode = Mode.ARCHIVE
        else:
            # another compose may try it at the same time
            with contextlib.suppress(OSError):
                os.removexattr(path, _TRIED)
    return Repo.create(path, mode, composefs=composefs)

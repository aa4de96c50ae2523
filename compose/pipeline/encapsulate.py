"""`compose container-encapsulate`: a commit of a repository as a container image."""

from __future__ import annotations

from dataclasses import dataclass

from compose import fs
from compose.errors import UsageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.chunking import MOST_LAYERS, plan_layers, read_previous_layers
from compose.oci.contentmeta import read_content_meta
from compose.oci.difference import ManifestDifference, compare_manifests, parse_manifest, read_manifest
from compose.oci.encapsulate import Image, encapsulate
from compose.oci.image import PLAIN, ImageOptions, architecture_for, check_options
from compose.oci.reference import parse_reference
from compose.oci.target import check_target
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class EncapsulateOptions:
    """Options of encapsulate_commit().

    repo: path. revision: the commit. target: where the image is written. max_layers: not counting the layer with the commit.
    parents: repeat the parent directories of files in each layer. contentmeta: file to write the commit's components to.
    compare: image to compare the new one with. previous: file with the manifest whose layer structure is kept.
    """

    repo: str
    revision: str
    target: str
    image: ImageOptions = PLAIN
    max_layers: int = MOST_LAYERS
    parents: bool = False
    contentmeta: str | None = None
    compare: str | None = None
    previous: str | None = None
    jobs: int = 1
    access: skopeo.Access = skopeo.NO_ACCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulated:
    """The image that was written. difference: from the image it was compared with, None without one."""

    image: Image
    difference: ManifestDifference | None


def encapsulate_commit(options: EncapsulateOptions, reporter: Reporter) -> Encapsulated:
    """Write the commit as an image. Raises a ComposeError; the target is then left as it was."""
    target = parse_reference(options.target)
    check_options(options.image)
    # fail now rather than after all metadata is read
    check_target(target, reporter)
    if options.contentmeta is not None:
        fs.check_place(options.contentmeta)
    previous = read_previous_layers(options.previous) if options.previous is not None else None
    other = parse_reference(options.compare) if options.compare is not None else None
    if other is not None and not other.transport.is_local:
        skopeo.require()
    with Repo.open(options.repo) as repo:
        commit = repo.commit_of(options.revision)
        if repo.is_partial(commit):
            raise UsageError(
                f"{repo.path}: the commit {options.revision} is partial",
                hint="pull all of it: ostree pull, without --subpath",
            )
        compared = None
        if other is not None:
            # read now: the new image may replace it
            architecture = architecture_for(repo.read_commit(commit), options.image)
            compared = parse_manifest(read_manifest(other, reporter, options.access, architecture), str(other))
        content = read_content_meta(repo, commit, reporter)
        if options.contentmeta is not None:
            fs.atomic_write(options.contentmeta, content.json().encode())
        image = encapsulate(
            repo,
            commit,
            plan_layers(content, max_layers=options.max_layers, previous=previous),
            target,
            options.image,
            parents=options.parents,
            jobs=options.jobs,
            reporter=reporter,
            access=options.access,
        )
    difference = None
    if compared is not None:
        difference = compare_manifests(compared, parse_manifest(image.manifest, str(target)))
    return Encapsulated(image=image, difference=difference)

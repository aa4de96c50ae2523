"""A commit becomes a container image: planned, written layer by layer on all cores, put where it should be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from compose import fs, memory
from compose.events import Reporter, Task
from compose.oci import skopeo
from compose.oci.archive import write_archive
from compose.oci.chunking import Chunk
from compose.oci.contents import Contents, component_layer, first_layer, read_contents
from compose.oci.gzip import MEMORY, Packer
from compose.oci.image import Described, ImageOptions, Layer, describe, documents
from compose.oci.layout import Layout, layout_for
from compose.oci.reference import ImageReference, Transport
from compose.ostree.repo import Repo

_FAST = 1
"""Level of deflate for who unpacks it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """digest: sha256:… of the manifest, where the image is. manifest: as it was made here, JSON; another container store than
    a layout may have made another one of it. layers: that with the commit first."""

    digest: str
    manifest: bytes
    layers: tuple[Layer, ...]


def encapsulate(
    repo: Repo,
    commit: str,
    chunks: Sequence[Chunk],
    target: ImageReference,
    options: ImageOptions,
    *,
    parents: bool,
    jobs: int,
    reporter: Reporter,
    access: skopeo.Access = skopeo.NO_ACCESS,
) -> Image:
    """Write the image of a commit. commit: checksum. chunks: the layers behind the first, which has what is in none of them.
    parents: have all directories in each layer that files of it are in.

    Raises UsageError, RepositoryError, ImageError, StorageError; then the target is what it was, but for blobs in a layout
    that nothing refers to.
    """
    described = describe(repo.read_commit(commit), commit, options)
    contents = read_contents(repo, commit)
    if hidden := contents.hidden:
        reporter.warn(
            f"{len(hidden)} paths begin with .wh., such as /{hidden[0]}: clients get them, but containers cannot see them"
        )
    level = _FAST if target.transport is Transport.CONTAINERS_STORAGE else None

    def write(layout: Layout, tag: str | None) -> Image:
        layers = _write_layers(repo, contents, chunks, layout, _title(repo, commit), parents, jobs, level, reporter)
        return _insert(layout, described, layers, tag)

    if target.transport is Transport.OCI:
        with layout_for(target.name, reporter) as layout:
            return write(layout, target.tag)
    if target.transport is Transport.OCI_ARCHIVE:
        fs.check_place(target.name)
        place = os.path.dirname(os.path.abspath(target.name))
        with fs.temporary_directory(".compose-oci-", place) as directory:
            with Layout.create(f"{directory}/layout", reporter) as layout:
                layout.path = target.name
                image = write(layout, target.tag)
            with reporter.task(f"Writing {target}"):
                write_archive(f"{directory}/layout", target.name)
        return image
    skopeo.require()
    with fs.temporary_directory("compose-oci-", skopeo.place()) as directory:
        with Layout.create(f"{directory}/layout", reporter) as layout:
            image = write(layout, None)
        with reporter.task(f"Copying to {target}"):
            digest = skopeo.copy(f"{directory}/layout", target, directory, access)
    return Image(digest=digest, manifest=image.manifest, layers=image.layers)


def _title(repo: Repo, commit: str) -> str:
    return repo.read_commit(commit, ()).subject or f"ostree export of commit {commit}"


def _insert(layout: Layout, described: Described, layers: tuple[Layer, ...], tag: str | None) -> Image:
    config, manifest = documents(described, layers)
    layout.write(config)
    digest = layout.insert(manifest, tag, described.architecture)
    return Image(digest=f"sha256:{digest}", manifest=manifest, layers=layers)


def _write_layers(
    repo: Repo,
    contents: Contents,
    chunks: Sequence[Chunk],
    layout: Layout,
    title: str,
    parents: bool,
    jobs: int,
    level: int | None,
    reporter: Reporter,
) -> tuple[Layer, ...]:
    elsewhere = {bytes.fromhex(each) for chunk in chunks for each in chunk.objects}
    rest = [each for each in contents.files if each not in elsewhere]
    threads = memory.fitting(jobs, MEMORY, "Compressing layers", reporter)
    with (
        reporter.task("Writing layers", total=len(contents.files), unit="files") as task,
        Packer(threads, level) as packer,
        ThreadPoolExecutor(min(threads, 1 + len(chunks)), thread_name_prefix="layer") as pool,
    ):
        advance = _Advance(task)

        def write(stream: Iterator[bytes], name: str, components: tuple[str, ...] | None) -> Layer:
            with layout.blob() as blob:
                packed = packer.pack(stream, blob.write)
                blob.name(packed.digest, packed.size)
            return Layer(digest=packed.digest, size=packed.size, diffid=packed.diffid, name=name, components=components)

        def component(chunk: Chunk) -> Callable[[], Layer]:
            objects = [bytes.fromhex(each) for each in chunk.objects]
            return lambda: write(
                component_layer(repo, contents, objects, parents, advance.one), chunk.name, chunk.components
            )

        work = [
            (-1, lambda: write(first_layer(repo, contents, rest, advance.one), title, None)),
            *((chunk.size, component(chunk)) for chunk in chunks),
        ]
        # the largest first, but for the one whose size is not known: it may be the only one, or next to nothing
        turns = sorted(range(len(work)), key=lambda place: (place > 0, -work[place][0], place))
        futures: dict[int, Future[Layer]] = {}
        try:
            for place in turns:
                futures[place] = pool.submit(work[place][1])
            for each in as_completed(futures.values()):
                each.result()
        except BaseException:
            packer.stop()
            for each in futures.values():
                each.cancel()
            raise
        advance.rest()
        return tuple(futures[place].result() for place in range(len(work)))


class _Advance:
    """Tells a task of objects, not of each: there are ten thousands."""

    _OFTEN = 64

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0

    def one(self) -> None:
        # an object that two threads count as one is not worth a lock
        self._count += 1
        if self._count >= self._OFTEN:
            count, self._count = self._count, 0
            self._task.advance(count)

    def rest(self) -> None:
        self._task.advance(self._count)

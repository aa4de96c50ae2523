"""Writing a commit as a container image, its layers in parallel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from compose import memory
from compose.events import Reporter, Task
from compose.oci import skopeo
from compose.oci.chunking import Chunk
from compose.oci.contents import Advance, Contents, component_layer, first_layer, read_contents
from compose.oci.gzip import MEMORY, Packed, Packer
from compose.oci.image import Described, ImageOptions, Layer, describe, documents
from compose.oci.layout import Layout
from compose.oci.reference import ImageReference, Transport
from compose.oci.reuse import OldLayers
from compose.oci.target import write_to
from compose.ostree.repo import Repo

_FAST = 1
"""Compression level for layers that are unpacked at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that has been written.

    digest: sha256:… of the manifest at the target. manifest: JSON as written here; a target other than a layout or archive may
    have converted it. layers: the one with the commit first.
    """

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
    old: OldLayers | None = None,
) -> Image:
    """Write a commit as an image. commit: checksum. chunks: the layers after the first, which gets all objects that are in none
    of them. target: as check_target() allows. parents: repeat in each layer the directories that its files are in. old: layers
    to take over where they are the same.

    Raises UsageError, RepositoryError, ImageError, StorageError; then the target is unchanged, except for unreferenced blobs in
    a layout.
    """
    found = repo.read_commit(commit)
    described = describe(found, commit, options)
    contents = read_contents(repo, commit)
    if hidden := contents.hidden:
        reporter.warn(
            f"{len(hidden)} file names begin with .wh., such as /{hidden[0]}: clients get these files, but containers "
            "cannot see them"
        )
    title = found.subject or f"ostree export of commit {commit}"
    level = _FAST if target.transport is Transport.CONTAINERS_STORAGE else None
    threads = memory.fitting(jobs, MEMORY, "Compressing layers", reporter)

    def write(layout: Layout, tag: str | None) -> Image:
        with (
            reporter.task("Writing layers", total=len(contents.files), unit="files") as task,
            Packer(threads, level) as packer,
        ):
            advance = _Advance(task)
            writer = _LayerWriter(repo, contents, layout, packer, parents, old, advance.one, reporter)
            layers = _write_layers(writer, title, chunks, threads)
            advance.rest()
        return _insert(layout, described, layers, tag)

    image, digest = write_to(target, write, reporter, access)
    return image if digest is None else replace(image, digest=digest)


def _insert(layout: Layout, described: Described, layers: tuple[Layer, ...], tag: str | None) -> Image:
    config, manifest = documents(described, layers)
    layout.write(config)
    digest = layout.insert(manifest, tag, described.architecture)
    return Image(digest=f"sha256:{digest}", manifest=manifest, layers=layers)


@dataclass(frozen=True, slots=True)
class _LayerWriter:
    """Writes layers to a layout; safe in threads. advance: called for each object."""

    repo: Repo
    contents: Contents
    layout: Layout
    packer: Packer
    parents: bool
    old: OldLayers | None
    advance: Advance
    reporter: Reporter

    def first(self, name: str, chunks: Sequence[Chunk]) -> Layer:
        """Write the layer with the commit, and with all objects that are in no chunk."""
        chunked = {bytes.fromhex(checksum) for chunk in chunks for checksum in chunk.objects}
        rest = [checksum for checksum in self.contents.files if checksum not in chunked]
        packed = self._packed(first_layer(self.repo, self.contents, rest, self.advance))
        return _layer(packed, name, None)

    def component(self, chunk: Chunk) -> Layer:
        packed = self._taken_over(chunk) or self._packed(self._stream(chunk, self.advance))
        return _layer(packed, chunk.name, chunk.components)

    def _stream(self, chunk: Chunk, advance: Advance) -> Iterator[bytes]:
        objects = [bytes.fromhex(checksum) for checksum in chunk.objects]
        return component_layer(self.repo, self.contents, objects, self.parents, advance)

    def _packed(self, stream: Iterator[bytes]) -> Packed:
        with self.layout.blob() as blob:
            packed = self.packer.pack(stream, blob.write)
            blob.name(packed.digest, packed.size)
        return packed

    def _taken_over(self, chunk: Chunk) -> Packed | None:
        """Take over the layer of the previous image with the same components, if it has the same content."""
        known = self.old.find(chunk.components) if self.old is not None else None
        if self.old is None or known is None:
            return None
        if self.packer.diffid(self._stream(chunk, lambda: None)) != known.diffid:
            return None
        with self.layout.blob() as blob:
            if not self.old.copy(known, blob.write, self.reporter):
                return None
            blob.name(known.digest, known.size)
        for _ in chunk.objects:
            self.advance()
        return known


def _layer(packed: Packed, name: str, components: tuple[str, ...] | None) -> Layer:
    return Layer(digest=packed.digest, size=packed.size, diffid=packed.diffid, name=name, components=components)


def _write_layers(writer: _LayerWriter, title: str, chunks: Sequence[Chunk], threads: int) -> tuple[Layer, ...]:
    """Write all layers in threads, and return them in order."""
    futures: dict[int, Future[Layer]] = {}
    with ThreadPoolExecutor(min(threads, 1 + len(chunks)), thread_name_prefix="layer") as pool:
        try:
            # the largest first, after the one with the commit, whose size is unknown: it may hold everything or almost nothing
            futures[0] = pool.submit(writer.first, title, chunks)
            for number in sorted(range(len(chunks)), key=lambda number: -chunks[number].size):
                futures[1 + number] = pool.submit(writer.component, chunks[number])
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            writer.packer.stop()
            for future in futures.values():
                future.cancel()
            raise
    return tuple(futures[number].result() for number in range(1 + len(chunks)))


class _Advance:
    """Advances a task in batches, as there are tens of thousands of objects."""

    _BATCH = 64

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0

    def one(self) -> None:
        # threads may race and lose a count, which is not worth a lock
        self._count += 1
        if self._count >= self._BATCH:
            count, self._count = self._count, 0
            self._task.advance(count)

    def rest(self) -> None:
        self._task.advance(self._count)

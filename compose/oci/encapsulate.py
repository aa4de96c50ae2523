"""Writing a commit as a container image, its layers in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from compose import memory
from compose.events import Reporter, Task
from compose.oci import skopeo
from compose.oci.chunking import Chunk
from compose.oci.contents import Contents, component_layer, first_layer, read_contents
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

    def write(layout: Layout, tag: str | None) -> Image:
        layers = _write_layers(repo, contents, chunks, layout, title, parents, jobs, level, reporter, old)
        return _insert(layout, described, layers, tag)

    image, digest = write_to(target, write, reporter, access)
    return image if digest is None else replace(image, digest=digest)


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
    old: OldLayers | None,
) -> tuple[Layer, ...]:
    chunked = {bytes.fromhex(checksum) for chunk in chunks for checksum in chunk.objects}
    rest = [checksum for checksum in contents.files if checksum not in chunked]
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
            return _layer(packed, name, components)

        def component(chunk: Chunk) -> Callable[[], Layer]:
            objects = [bytes.fromhex(checksum) for checksum in chunk.objects]

            def work() -> Layer:
                known = old.find(chunk.components) if old is not None else None
                if old is not None and known is not None:
                    stream = component_layer(repo, contents, objects, parents, lambda: None)
                    with layout.blob() as blob:
                        if packer.diffid(stream) == known.diffid and old.copy(known, blob.write, reporter):
                            blob.name(known.digest, known.size)
                            for _ in objects:
                                advance.one()
                            return _layer(known, chunk.name, chunk.components)
                stream = component_layer(repo, contents, objects, parents, advance.one)
                return write(stream, chunk.name, chunk.components)

            return work

        work = [
            (-1, lambda: write(first_layer(repo, contents, rest, advance.one), title, None)),
            *((chunk.size, component(chunk)) for chunk in chunks),
        ]
        # the largest first, after the first layer, whose size is unknown: it may hold everything or almost nothing
        order = sorted(range(len(work)), key=lambda index: (index > 0, -work[index][0], index))
        futures: dict[int, Future[Layer]] = {}
        try:
            for index in order:
                futures[index] = pool.submit(work[index][1])
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            packer.stop()
            for future in futures.values():
                future.cancel()
            raise
        advance.rest()
        return tuple(futures[index].result() for index in range(len(work)))


def _layer(packed: Packed, name: str, components: tuple[str, ...] | None) -> Layer:
    return Layer(digest=packed.digest, size=packed.size, diffid=packed.diffid, name=name, components=components)


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

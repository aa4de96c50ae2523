"""The summary: a file with all refs of a repository, which clients fetch first.

Its type is (a(s(taya{sv}))a{sv}): the refs, sorted by name as bytes, each with the size and checksum of its commit object, and
then metadata of the repository, in the order of GLib's hash table (see hash_order()).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.delta.index import list_deltas
from compose.ostree.delta.layout import delta_path, encode_index, index_path
from compose.ostree.gvariant import Variant, be64, decode, encode
from compose.ostree.lock import SUMMARY_LOCK, locked
from compose.ostree.repo import Repo
from compose.ostree.sign import joined
from compose.ostree.signers import Signer, signed_by

SUMMARY_TYPE = "(a(s(taya{sv}))a{sv})"
_PRIMES = (
    *(1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287),
    *(1048573, 2097143, 4194301, 8388593, 16777213),
)
"""GLib's prime_mod[] (ghash.c), indexed by the binary logarithm of the table's size."""


def write_summary(
    repo: Repo,
    reporter: Reporter,
    signers: Sequence[Signer] = (),
    *,
    moves: Mapping[str, str] | None = None,
    confirm: Callable[[], None] | None = None,
    without: Collection[str] = (),
    superblocks: Callable[[], Mapping[str, bytes]] | None = None,
) -> None:
    """Replace the summary and its signature atomically. Without signers the old signature is removed, because it is not valid
    for the new summary.

    moves: refs and the commits to point them to, just before the summary is replaced and after it has been signed. superblocks:
    returns replacements for those of deltas, by name ("TO" or "FROM-TO" in hex); they and the indexes of deltas are replaced
    with the refs. confirm, superblocks: called first, when neither refs move nor deltas are made elsewhere.
    without: names of deltas not to list.

    The caller must hold the lock of the repository, shared. This excludes `ostree summary -u`, which locks it exclusively, and
    another lock excludes other calls of this function, so that no summary gets another's signature. `ostree commit` is not
    excluded: the summary is written again if refs have changed meanwhile. Raises RepositoryError if the commit of a ref is
    missing, StorageError if the repository cannot be written, UsageError if the summary cannot be signed.
    """
    with locked(repo, reporter, exclusive=True, name=SUMMARY_LOCK):
        deltas = dict(superblocks() if superblocks is not None else {})
        if confirm is not None:
            confirm()
        to_move = dict(moves or {})
        while True:
            names = repo.refs() | to_move
            found = dict(sorted(names.items(), key=lambda item: item[0].encode())), _mirrored(repo)
            files = _delta_files(repo, deltas)
            listed = _listed_deltas(repo, deltas, without)
            data = encode(SUMMARY_TYPE, (_rows(repo, found[0]), _metadata(repo, found[1], listed)))
            files["summary"] = data
            if signers:
                files["summary.sig"] = encode("a{sv}", joined((), (), signed_by(data, signers, reporter)))
            _replace(repo, to_move, files)
            to_move.clear()
            deltas.clear()
            if found == (repo.refs(), _mirrored(repo)):
                break
        if not signers:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("summary.sig", dir_fd=repo.fd)
                reporter.warn(f"{repo.path}: the summary has changed and its signature was removed; sign it again")


def _replace(repo: Repo, moves: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Write refs and files to temporary files, and then rename all of them in this order. A client that fetches the summary and
    its signature, or the superblock of a delta, in between gets two that do not match, and tries again."""
    fsync = repo.config.fsync
    with contextlib.ExitStack() as stack:
        renames = [
            stack.enter_context(refs.prepared_ref(repo.fd, name, checksum, fsync=fsync))
            for name, checksum in moves.items()
        ]
        renames += [
            stack.enter_context(refs.prepared_file(repo.fd, path, data, fsync=fsync)) for path, data in files.items()
        ]
        for rename in renames:
            rename()
    if moves:
        refs.touch(repo.fd)


def summary_refs(repo: Repo) -> dict[str, str]:
    """Checksums in the summary, by ref. Raises RepositoryError if it is missing or damaged."""
    path = os.path.join(repo.path, "summary")
    try:
        rows, _ = decode(SUMMARY_TYPE, Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise RepositoryError(f"cannot read {path}: {error}", hint=f"ostree --repo={repo.path} summary -u") from error
    return {name: checksum.hex() for name, (_, checksum, _) in rows}


def keeps_signature(repo: Repo, reporter: Reporter, lacks: str) -> bool:
    """Is the summary signed, so that who cannot sign a new one leaves it alone, as libostree does? Clients that demand the
    signature would get nothing at all. Not if the config demands a new summary. lacks: for the warning, what is new."""
    if repo.config.auto_update_summary or not os.path.lexists(os.path.join(repo.path, "summary.sig")):
        return False
    reporter.warn(
        f"{repo.path}: the summary is signed and stays as it is, without the new {lacks}; sign a new one: compose publish, or "
        "ostree summary -u"
    )
    return True


def summary_lists_deltas(repo: Repo) -> bool:
    """Does the summary list exactly the deltas of the repository? Not if it is missing or damaged."""
    try:
        _, metadata = decode(SUMMARY_TYPE, Path(repo.path, "summary").read_bytes())
    except (OSError, ValueError):
        return False
    said = dict(metadata)
    deltas = said.get("ostree.static-deltas", Variant("a{sv}", ()))
    if deltas.type != "a{sv}":
        return False
    listed = {name: variant.value for name, variant in deltas.value}
    indexed = said.get("ostree.summary.indexed-deltas", Variant("b", False)).value
    return listed == _listed_deltas(repo) and indexed == repo.config.indexed_deltas


def summary_signature_keys(repo: Repo) -> frozenset[str]:
    """The keys in summary.sig, such as "ostree.gpgsigs". Empty if it is missing or damaged."""
    try:
        found = decode("a{sv}", Path(repo.path, "summary.sig").read_bytes())
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name, _ in found)


_Row = tuple[str, tuple[int, bytes, list[tuple[str, Variant]]]]


def _rows(repo: Repo, names: Mapping[str, str]) -> list[_Row]:
    rows = []
    for name, checksum in names.items():
        commit = repo.read_commit(checksum, ("version",))
        facts = {"ostree.commit.timestamp": Variant("t", be64(commit.timestamp))}
        if (version := commit.text("version")) is not None:
            facts["ostree.commit.version"] = Variant("s", version)
        size = repo.size_of(checksum, "commit")
        rows.append((name, (size, bytes.fromhex(checksum), _dictionary(facts))))
    return rows


def _mirrored(repo: Repo) -> dict[str, dict[str, str]]:
    """Refs of other collections, by collection ID, that are mirrored in a repository which has a collection ID itself."""
    if not repo.config.collection_id:
        return {}
    top = "refs/mirrors"
    return {name: refs.list_refs(repo.fd, f"{top}/{name}") for name in refs.list_directories(repo.fd, top)}


def _metadata(
    repo: Repo, mirrored: Mapping[str, Mapping[str, str]], deltas: Mapping[str, bytes]
) -> list[tuple[str, Variant]]:
    config = repo.config
    found: dict[str, Variant] = {}
    if deltas:
        found["ostree.static-deltas"] = Variant(
            "a{sv}", _dictionary({name: Variant("ay", digest) for name, digest in deltas.items()})
        )
    found["ostree.summary.last-modified"] = Variant("t", be64(int(time.time())))
    found["ostree.summary.mode"] = Variant("s", str(config.mode))
    found["ostree.summary.tombstone-commits"] = Variant("b", config.tombstones)
    found["ostree.summary.indexed-deltas"] = Variant("b", config.indexed_deltas)
    if config.collection_id:
        found["ostree.summary.collection-id"] = Variant("s", config.collection_id)
        collections = [(name, _rows(repo, names)) for name, names in mirrored.items() if names]
        found["ostree.summary.collection-map"] = Variant("a{sa(s(taya{sv}))}", collections)
    return _dictionary(found)


def _listed_deltas(
    repo: Repo, superblocks: Mapping[str, bytes] | None = None, without: Collection[str] = ()
) -> dict[str, bytes]:
    """The deltas that the summary must list: those of list_deltas(), unless core.no-deltas-in-summary is set.

    superblocks: as if they had been replaced. without: as if these deltas had been removed.
    """
    if not repo.config.deltas_in_summary:
        return {}
    listed = list_deltas(repo.path, superblocks)
    return {name: digest for name, digest in listed.items() if name not in without}


def _delta_files(repo: Repo, superblocks: Mapping[str, bytes]) -> dict[str, bytes]:
    """The superblocks and the indexes that list them, by their paths in the repository."""
    files: dict[str, bytes] = {}
    for name, data in superblocks.items():
        source, _, target = name.rpartition("-")
        files[f"{delta_path(source or None, target)}/superblock"] = data
    for target in {name.rpartition("-")[2] for name in superblocks}:
        if os.path.exists(os.path.join(repo.path, index_path(target))):
            files[index_path(target)] = encode_index(list_deltas(repo.path, superblocks, target=target))
    return files


def _dictionary(found: dict[str, Variant]) -> list[tuple[str, Variant]]:
    return [(key, found[key]) for key in hash_order(list(found))]


def hash_order(keys: Sequence[str]) -> list[str]:
    """The order in which a GVariantDict, hence a GHashTable of strings, gives out keys that were inserted in this order.

    libostree builds some a{sv} from one, and their order is signed. Facts: g_str_hash() and ghash.c of GLib 2.60 and later.
    """
    shift = 3
    table: list[str | None] = [None] * (1 << shift)

    def probes(key: str) -> Iterator[int]:
        index = _string_hash(key) * 11 % (1 << 32) % _PRIMES[shift]
        for step in itertools.count(1):
            yield index
            index = (index + step) & (len(table) - 1)

    for count, key in enumerate(keys, 1):
        table[next(index for index in probes(key) if table[index] is None)] = key
        size = len(table)
        if size <= count + count // 16:
            shift = int(count * 1.333).bit_length()
            table += [None] * ((1 << shift) - size)
            _rehash(table, size, probes)
    return [each for each in table if each is not None]


def _string_hash(text: str) -> int:
    value = 5381
    for byte in text.encode():
        value = (value * 33 + (byte - 256 if byte > 127 else byte)) & 0xFFFFFFFF
    # 0 and 1 mark buckets without a key
    return max(value, 2)


def _rehash(table: list[str | None], old_size: int, probes: Callable[[str], Iterator[int]]) -> None:
    """Move the keys of a table that has grown to their new buckets, in place. A key in the way of another is moved next."""
    moved: set[int] = set()
    for old in range(old_size):
        if old in moved:
            continue
        key, table[old] = table[old], None
        while key is not None:
            index = next(index for index in probes(key) if index not in moved)
            moved.add(index)
            key, table[index] = table[index], key

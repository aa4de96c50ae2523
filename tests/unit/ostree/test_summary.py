"""The summary: the order of its metadata, and what is said of one that is damaged."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.ostree.gvariant import Variant, encode
from compose.ostree.repo import Repo
from compose.ostree.summary import SUMMARY_TYPE, hash_order, summary_lists_deltas, write_summary


def glib_order(keys: list[str]) -> list[str]:
    """As a real GHashTable gives them out."""
    try:
        glib = ctypes.CDLL("libglib-2.0.so.0")
    except OSError:
        pytest.skip("there is no GLib")
    glib.g_hash_table_new.restype = ctypes.c_void_p
    table = ctypes.c_void_p(glib.g_hash_table_new(glib.g_str_hash, glib.g_str_equal))
    held = [key.encode() for key in keys]
    for key in held:
        glib.g_hash_table_insert(table, ctypes.c_char_p(key), None)
    # larger than struct _GHashTableIter
    iterator, key = ctypes.create_string_buffer(128), ctypes.c_char_p()
    glib.g_hash_table_iter_init(iterator, table)
    found = []
    while glib.g_hash_table_iter_next(iterator, ctypes.byref(key), None):
        assert key.value is not None
        found.append(key.value.decode())
    glib.g_hash_table_destroy(table)
    return found


@pytest.mark.parametrize("count", [3, 7, 8, 50, 20_000])
def test_hash_order_is_that_of_glib(count: int) -> None:
    keys = [f"ostree.ß.{number}" for number in range(count)]
    assert hash_order(keys) == glib_order(keys)


@pytest.mark.parametrize(
    "value", [Variant("u", 5), Variant("as", ["x"]), Variant("a{ss}", [("x", "y")]), Variant("s", "text")]
)
def test_a_summary_whose_deltas_have_another_type_lists_none(value: Variant, tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        assert not summary_lists_deltas(repo)
        write_summary(repo, Reporter())
        assert summary_lists_deltas(repo)
        Path(repo.path, "summary").write_bytes(encode(SUMMARY_TYPE, ([], [("ostree.static-deltas", value)])))
        assert not summary_lists_deltas(repo)

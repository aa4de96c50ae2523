"""Which items a collection removes: the decision alone."""

from __future__ import annotations

from compose.cache.collect import Limits, beyond
from compose.cache.inventory import Item, Kind


def blob(name, size=10):
    return Item(kind=Kind.BLOBS, path=name, size=size, used=0)


def manifest(name, used, *blobs, size=1):
    return Item(kind=Kind.MANIFESTS, path=name, size=size, used=used, blobs=blobs)


def rpm(name, used, size=5):
    return Item(kind=Kind.RPMS, path=name, size=size, used=used)


STOCK = (
    blob("shared"),
    blob("old's"),
    blob("new's"),
    blob("nobody's", 100),
    manifest("old", 1000, "shared", "old's"),
    manifest("new", 3000, "shared", "new's", "missing"),
    Item(kind=Kind.MANIFESTS, path="unreadable", size=1, used=9000),
    blob("initramfs"),
    Item(kind=Kind.PROGRAMS, path="dracut", size=1, used=9000, blobs=("initramfs",)),
    Item(kind=Kind.PROGRAMS, path="of another version", size=1, used=9000),
    rpm("old.rpm", 1001),
    rpm("new.rpm", 3001),
    Item(kind=Kind.REPOMD, path="repo", size=2, used=2000),
    Item(kind=Kind.SCRATCH, path="left", size=50, used=9000),
    Item(kind=Kind.PREVIEW, path="preview", size=1000, used=1),
)
USELESS = {"nobody's", "unreadable", "of another version", "left"}
ALL = {item.path for item in STOCK} - {"preview"}


def going(**limits):
    found = [item.path for item in beyond(STOCK, Limits(**limits))]
    assert len(found) == len(set(found))
    return set(found)


def test_what_no_compose_would_find_goes_without_any_limit():
    assert going() == USELESS


def test_what_is_old_goes_and_a_shared_blob_stays():
    assert going(unused_since=1500) == USELESS | {"old", "old's", "old.rpm"}
    assert going(unused_since=2500) == USELESS | {"old", "old's", "old.rpm", "repo"}
    assert going(unused_since=3000.5) == USELESS | {"old", "old's", "old.rpm", "repo", "new", "new's", "shared"}
    # what was used at that very time stays
    assert going(unused_since=1000) == going(unused_since=1) == USELESS


def test_the_least_recently_used_goes_until_the_rest_fits():
    # 55 bytes are of use: old 11 alone, old.rpm 5, repo 2, new 21, new.rpm 5, dracut 11
    assert going(max_size=55) == USELESS
    assert going(max_size=54) == USELESS | {"old", "old's"}
    assert going(max_size=44) == USELESS | {"old", "old's"}
    assert going(max_size=43) == USELESS | {"old", "old's", "old.rpm"}
    assert going(max_size=36) == USELESS | {"old", "old's", "old.rpm", "repo", "new", "new's", "shared"}
    assert going(max_size=0) == ALL


def test_both_limits_hold():
    assert going(unused_since=1500, max_size=10**6) == going(unused_since=1500)
    assert going(unused_since=1500, max_size=38) == going(max_size=38)


def test_the_preview_repository_goes_only_when_asked_and_does_not_count():
    assert going(max_size=0, unused_since=10**9) == ALL
    assert going(preview=True) == USELESS | {"preview"}


def test_a_lower_layer_holds_its_files_and_goes_first_when_room_is_needed():
    lower = Item(kind=Kind.LOWERS, path="lower", size=1, used=9000, blobs=("shared", "nobody's"))
    stock = (*STOCK, lower)
    assert {item.path for item in beyond(stock, Limits())} == USELESS - {"nobody's"}
    assert {item.path for item in beyond(stock, Limits(unused_since=1500))} == (
        USELESS - {"nobody's"} | {"old", "old's", "old.rpm"}
    )
    # 156 bytes are of use with it, 55 without
    assert {item.path for item in beyond(stock, Limits(max_size=156))} == USELESS - {"nobody's"}
    assert {item.path for item in beyond(stock, Limits(max_size=155))} == USELESS | {"lower"}
    assert {item.path for item in beyond(stock, Limits(max_size=54))} == USELESS | {"lower", "old", "old's"}

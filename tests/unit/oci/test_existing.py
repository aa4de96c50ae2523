"""What an image says that is there already, whoever wrote it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ImageError
from compose.events import Reporter
from compose.oci.archive import write_archive
from compose.oci.existing import ExistingImage, read_existing
from compose.oci.image import CONFIG_TYPE, descriptor, digest_of
from compose.oci.layout import layout_for
from compose.oci.reference import parse_reference


def put(place: Path, config: bytes, layers: int = 0) -> None:
    manifest = {
        "config": descriptor(CONFIG_TYPE, digest_of(config), len(config)),
        "layers": [{"digest": f"sha256:{number:064}", "size": 1} for number in range(layers)],
    }
    with layout_for(str(place), Reporter()) as layout:
        layout.write(config)
        layout.insert(json.dumps(manifest).encode(), "a", "amd64")


def read(reference: str) -> ExistingImage | None:
    return read_existing(parse_reference(reference), Reporter())


@pytest.mark.parametrize(
    ("config", "labels", "created"),
    [
        (
            {"config": {"Labels": {"a": "b", "c": 1}}, "created": "2023-11-14T22:13:20.123456789Z"},
            {"a": "b"},
            1_700_000_000,
        ),
        ({"config": {"Labels": {}}, "created": "2023-11-14T23:13:20+01:00"}, {}, 1_700_000_000),
        ({"config": {"Labels": None}, "created": "yesterday"}, {}, 0),
        ({"config": [], "created": "0001-01-01T00:00:00+23:59"}, {}, 0),
        ({"created": 5}, {}, 0),
        ([], {}, 0),
    ],
)
def test_what_it_says(tmp_path: Path, config: Any, labels: dict[str, str], created: int) -> None:
    put(tmp_path / "out", json.dumps(config).encode())
    write_archive(str(tmp_path / "out"), str(tmp_path / "out.tar"))
    for reference in (f"oci:{tmp_path}/out:a", f"oci-archive:{tmp_path}/out.tar:a"):
        found = read(reference)
        assert found is not None
        assert (found.labels, found.created) == (labels, created)


@pytest.mark.parametrize(("config", "said"), [(b"{", "is damaged"), (b"[" * 200_000, "nested too deeply")])
def test_a_damaged_configuration(tmp_path: Path, config: bytes, said: str) -> None:
    put(tmp_path / "out", config)
    with pytest.raises(ImageError, match=said):
        read(f"oci:{tmp_path}/out:a")


def test_none_such(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    put(tmp_path / "out", b"{}")
    for name in ("none:a", "empty", "file", "out:b"):
        assert read(f"oci:{tmp_path}/{name}") is None
    assert read(f"oci-archive:{tmp_path}/none:a") is None


def test_none_such_where_skopeo_would_only_say_that_there_is_no_such_file(tmp_path: Path) -> None:
    """The first image of build-chunked-oci --output=dir:out."""
    (tmp_path / "empty").mkdir()
    for name in (f"dir:{tmp_path}/none", f"dir:{tmp_path}/empty", f"docker-archive:{tmp_path}/none:localhost/a:1"):
        assert read(name) is None


def test_a_place_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> list[str]:
        raise PermissionError(13, os.strerror(13), path)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(ImageError, match=f"cannot open oci:{tmp_path}: Permission denied"):
        read(f"oci:{tmp_path}")


@pytest.mark.parametrize(
    ("history", "comments"),
    [
        ([{"comment": "a"}, {"comment": "x", "empty_layer": True}, {"created_by": "b"}], ("a", "")),
        ([{"comment": 1}, {"comment": "b", "empty_layer": False}], ("", "b")),
        ([{"comment": "a"}], ()),
        ([{"comment": "a"}, "b"], ()),
        ("ab", ()),
        (None, ()),
    ],
)
def test_comments_on_layers(tmp_path: Path, history: Any, comments: tuple[str, ...]) -> None:
    """An image of two layers; history may have more rows than there are layers, or be damaged."""
    put(tmp_path / "out", json.dumps({"history": history}).encode(), layers=2)
    found = read(f"oci:{tmp_path}/out:a")
    assert found is not None
    assert found.comments == comments

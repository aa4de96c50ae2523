"""Labels, configuration and manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ComposeError, RepositoryError, UsageError
from compose.oci.image import (
    ImageOptions,
    Layer,
    architecture_of_packages,
    describe,
    digest_of,
    documents,
    read_image_config,
)
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit

CHECKSUM = "c" * 64
COMMIT = Commit(
    metadata=(
        ("ostree.bootable", Variant("b", True)),
        ("ostree.linux", Variant("s", "6.12")),
        ("ostree.container-cmd", Variant("as", ["/sbin/init"])),
        ("rpmostree.inputhash", Variant("s", "abc")),
        (
            "rpmostree.rpmdb.pkglist",
            Variant("a(sssss)", [("a", "0", "1", "1", "noarch"), ("b", "0", "1", "1", "aarch64")]),
        ),
        ("version", Variant("s", "43.1")),
        ("some.text", Variant("s", "text")),
        ("some.number", Variant("u", 1)),
    ),
    parent=b"",
    subject="",
    body="",
    timestamp=1_700_000_000,
    root_tree=bytes(32),
    root_meta=bytes(32),
)
LAYERS = (
    Layer(digest="1" * 64, size=10, diffid="2" * 64, name="the commit"),
    Layer(digest="3" * 64, size=20, diffid="4" * 64, name="a and b", components=("b", "a")),
    Layer(digest="5" * 64, size=30, diffid="6" * 64, name="Reserved", components=()),
)


def made(options: ImageOptions, commit: Commit = COMMIT) -> tuple[dict[str, Any], dict[str, Any]]:
    config, manifest = documents(describe(commit, CHECKSUM, options), LAYERS)
    return json.loads(config), json.loads(manifest)


def test_an_image_of_a_commit() -> None:
    config, manifest = made(ImageOptions())
    labels = {
        "containers.bootc": "1",
        "org.opencontainers.image.version": "43.1",
        "ostree.bootable": "true",
        "ostree.commit": CHECKSUM,
        "ostree.final-diffid": f"sha256:{'6' * 64}",
        "ostree.linux": "6.12",
        "rpmostree.inputhash": "abc",
        "version": "43.1",
    }
    when = "2023-11-14T22:13:20Z"
    assert config == {
        "architecture": "arm64",
        "os": "linux",
        "created": when,
        "config": {"Cmd": ["/sbin/init"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each * 64}" for each in "246"]},
        "history": [
            {"created": when, "created_by": "the commit"},
            {"created": when, "created_by": "a and b", "comment": "ostree.components=a,b"},
            {"created": when, "created_by": "Reserved", "comment": "ostree.components="},
        ],
    }
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    data, _ = documents(describe(COMMIT, CHECKSUM, ImageOptions()), LAYERS)
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{digest_of(data)}",
            "size": len(data),
        },
        "layers": [
            {"mediaType": kind, "digest": f"sha256:{'1' * 64}", "size": 10},
            {
                "mediaType": kind,
                "digest": f"sha256:{'3' * 64}",
                "size": 20,
                "annotations": {"ostree.components": "a,b"},
            },
            {"mediaType": kind, "digest": f"sha256:{'5' * 64}", "size": 30, "annotations": {"ostree.components": ""}},
        ],
        "annotations": labels,
    }


def test_a_commit_that_says_something_else_than_others_do() -> None:
    for kind, value in (("as", ["x"]), ("s", "x"), ("t", 5)):
        odd = replace(COMMIT, metadata=(("rpmostree.rpmdb.pkglist", Variant(kind, value)),))
        assert describe(odd, CHECKSUM, ImageOptions()).architecture
    odd = replace(COMMIT, metadata=(*COMMIT.metadata, ("ostree.architecture", Variant("as", ["s390x"]))))
    assert describe(odd, CHECKSUM, ImageOptions()).architecture == "arm64"
    odd = replace(COMMIT, metadata=(("ostree.container-cmd", Variant("s", "bash")),))
    with pytest.raises(UsageError, match="container-cmd is of type s"):
        describe(odd, CHECKSUM, ImageOptions())
    assert describe(odd, CHECKSUM, ImageOptions(cmd=("sh",))).config["Cmd"] == ["sh"]


@pytest.mark.parametrize("options", [ImageOptions(labels=(("a", "\udcff"),)), ImageOptions(cmd=("\udcff",))])
def test_what_json_cannot_hold(options: ImageOptions) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        describe(COMMIT, CHECKSUM, options)


def test_what_is_asked_for_wins() -> None:
    config, manifest = made(
        ImageOptions(
            labels=(("version", "mine"), ("more", "a=b")),
            copymeta=("some.text",),
            copymeta_opt=("absent",),
            cmd=("/bin/sh", "-c"),
            image_config={"Cmd": ["theirs"], "Env": ["A=b"], "Labels": {"theirs": "x", "version": "theirs"}},
            arch="ppc64le",
        )
    )
    labels = config["config"]["Labels"]
    assert (labels["version"], labels["more"], labels["some.text"], labels["theirs"]) == ("mine", "a=b", "text", "x")
    # the manifest says what is of the commit, as ostree-ext has it
    assert "theirs" not in manifest["annotations"]
    assert config["config"]["Cmd"] == ["/bin/sh", "-c"]
    assert config["config"]["Env"] == ["A=b"]
    assert config["architecture"] == "ppc64le"


def test_a_tree_that_does_not_boot() -> None:
    config, _ = made(ImageOptions(), replace(COMMIT, metadata=()))
    assert set(config["config"]["Labels"]) == {"ostree.commit", "ostree.final-diffid"}
    assert "Cmd" not in config["config"]


@pytest.mark.parametrize(
    ("packages", "found"),
    [
        (["noarch", "s390x", "noarch"], "s390x"),
        (["i686", "x86_64", "x86_64"], "amd64"),
        (["aarch64", "s390x"], "arm64"),
        (["noarch", "sparc"], None),
        ([], None),
    ],
)
def test_the_architecture_of_packages(packages: list[str], found: str | None) -> None:
    assert architecture_of_packages(packages) == found


@pytest.mark.parametrize("arch", ["x86_64", "amd64"])
def test_architectures_have_names_of_oci(arch: str) -> None:
    assert describe(COMMIT, CHECKSUM, ImageOptions(arch=arch)).architecture == "amd64"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (ImageOptions(copymeta=("absent",)), UsageError, "--copymeta=absent: the commit has no such metadata"),
        (ImageOptions(copymeta_opt=("some.number",)), UsageError, "some.number is of type u"),
        (ImageOptions(labels=(("ostree.commit", "x"),)), UsageError, "--label=ostree.commit"),
        (ImageOptions(labels=(("ostree.final-diffid", "x"),)), UsageError, "--label=ostree.final-diffid"),
        (ImageOptions(arch="sparc"), UsageError, "--arch=sparc"),
    ],
)
def test_what_cannot_be_is_told(options: ImageOptions, kind: type[ComposeError], said: str) -> None:
    with pytest.raises(kind) as caught:
        describe(COMMIT, CHECKSUM, options)
    assert said in caught.value.message


@pytest.mark.parametrize("timestamp", [2**38, 2**60, 2**63])
def test_a_time_that_no_date_has(timestamp: int) -> None:
    with pytest.raises(RepositoryError, match="out of range"):
        describe(replace(COMMIT, timestamp=timestamp), CHECKSUM, ImageOptions())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"Cmd": "x"}', "Cmd must be a list of strings"),
        ('{"Labels": {"a": 1}}', "Labels must be strings"),
        ('{"Volumes": []}', "Volumes must be an object"),
        ('{"User": 1}', "User must be a string"),
        ('{"config": {}, "rootfs": {}}', "this is the configuration of a whole image"),
        ('{"config": {"Env": []}}', "this is the configuration of a whole image"),
        ('{"Env": ["\\ud800"]}', "it contains a lone surrogate"),
        ('{"Healthcheck": NaN}', "NaN is not a JSON number"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_image_configs_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_image_config(str(path))


def test_what_is_empty_as_go_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"Labels": null, "Entrypoint": null, "Cmd": ["a"], "Env": ["\\ud83d\\ude00"]}')
    assert read_image_config(str(path)) == {"Cmd": ["a"], "Env": ["\U0001f600"]}


def test_an_image_config_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cannot read /nowhere"):
        read_image_config("/nowhere")

"""Manifest and configuration of an image, and what a commit says in them (OCI image-spec; labels as ostree-ext has them)."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from compose.errors import ImageError, RepositoryError, UsageError
from compose.metadata import INPUTHASH, PKGLIST
from compose.oci.chunking import ANNOTATION
from compose.oci.documents import canonical, parse
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

COMMIT_LABEL = "ostree.commit"
DIFFID_LABEL = "ostree.final-diffid"
"""Where the layers of the commit end: what others build on the image comes behind."""
_OSTREE = "ostree."
_OWN_LABELS = (COMMIT_LABEL, DIFFID_LABEL)
_BOOTABLE, _LINUX, _COMMAND = "ostree.bootable", "ostree.linux", "ostree.container-cmd"
_ARCHITECTURE = "ostree.architecture"
_PKGLIST_TYPE = "a(sssss)"
_OS = "linux"

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7hl": "arm",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
"""Names of rpm and of the kernel, and those of Go, which OCI has."""
_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Entrypoint", "Cmd")
_MAPS = ("ExposedPorts", "Volumes", "Labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """digest, diffid: sha256 as it lies in the image, and unpacked (64 hex digits). size: bytes of the former. name: for
    people. components: what is in it; None for the layer with the commit."""

    digest: str
    size: int
    diffid: str
    name: str
    components: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What is asked of an image beside the commit.

    labels: (key, value). copymeta, copymeta_opt: keys of the commit's metadata that become labels, those that must be there
    and those that may be. cmd: None for what the commit says. image_config: the "config" object of an OCI configuration.
    arch: as OCI or rpm call it; None for that of the commit.
    """

    labels: tuple[tuple[str, str], ...] = ()
    copymeta: tuple[str, ...] = ()
    copymeta_opt: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    image_config: Mapping[str, Any] | None = None
    arch: str | None = None


PLAIN = ImageOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """All of an image but its layers. labels: without that of the last layer. config: of the container. created: time."""

    labels: Mapping[str, str]
    config: Mapping[str, Any]
    architecture: str
    created: str


def check_options(options: ImageOptions) -> None:
    """Raises UsageError for what does not depend on any commit."""
    for key, _ in options.labels:
        if key in _OWN_LABELS:
            raise UsageError(f"--label={key}: clients find the commit by it, and it is written in any case")
    for flag, words in (("--label", [f"{key}={value}" for key, value in options.labels]), ("--cmd", options.cmd or ())):
        for word in words:
            # what a shell hands on that is no UTF-8 comes as half of a character
            if any("\ud800" <= each <= "\udfff" for each in word):
                raise UsageError(f"{flag}={word}: is not UTF-8, and JSON has nothing else")
    if options.arch is not None:
        _architecture_of(options.arch)


def describe(commit: Commit, checksum: str, options: ImageOptions) -> Described:
    """Raises UsageError for a key of copymeta that the commit has not, RepositoryError for a time that is none."""
    check_options(options)
    labels = _metadata_labels(commit, options)
    if isinstance(version := commit.get("version"), str):
        labels |= {"version": version, "org.opencontainers.image.version": version}
    labels |= {COMMIT_LABEL: checksum, **dict(options.labels)}
    config = dict(options.image_config or {})
    command = options.cmd
    if command is None and (said := dict(commit.metadata).get(_COMMAND)) is not None:
        if said.type != "as":
            raise UsageError(f"the commit's metadata {_COMMAND} is of type {said.type}, and not words (as)")
        command = said.value
    if command is not None:
        config["Cmd"] = list(command)
    try:
        created = datetime.fromtimestamp(commit.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise RepositoryError(f"commit {checksum} has the time {commit.timestamp}, which is no date") from error
    return Described(
        labels=labels,
        config=config,
        architecture=_architecture_of(options.arch) if options.arch is not None else _architecture(commit),
        created=created,
    )


def documents(described: Described, layers: Sequence[Layer]) -> tuple[bytes, bytes]:
    """The configuration and the manifest: JSON, the same for the same image. layers: that with the commit first."""
    labels = {**described.labels, DIFFID_LABEL: f"sha256:{layers[-1].diffid}"}
    config = canonical(
        {
            "architecture": described.architecture,
            "os": _OS,
            "created": described.created,
            "config": {**described.config, "Labels": {**described.config.get("Labels", {}), **labels}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each.diffid}" for each in layers]},
            "history": [{"created": described.created, "created_by": each.name} for each in layers],
        }
    )
    rows: list[dict[str, Any]] = []
    for each in layers:
        row: dict[str, Any] = descriptor(LAYER_TYPE, each.digest, each.size)
        if each.components is not None:
            row["annotations"] = {ANNOTATION: ",".join(sorted(each.components))}
        rows.append(row)
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, digest_of(config), len(config)),
            "layers": rows,
            "annotations": labels,
        }
    )
    return config, manifest


def descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    """What refers to a blob. digest: 64 hex digits."""
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def platform_of(architecture: str) -> dict[str, str]:
    return {"architecture": architecture, "os": _OS}


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_image_config(path: str) -> dict[str, Any]:
    """The file of --image-config. Raises UsageError naming the key."""
    try:
        with open(path, "rb") as file:
            found = parse(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: an image configuration must be a JSON object")
    if isinstance(found.get("config"), dict):
        raise UsageError(
            f"{path}: is the configuration of a whole image",
            hint='give what it has under "config" in a file of its own',
        )
    # Go writes null for what is empty
    found = {key: value for key, value in found.items() if value is not None}
    if (fault := _fault(found)) is not None:
        raise UsageError(f"{path}: {fault}")
    return found


def inherited_config(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What an image that is made of another one has of its "config" object: what image-spec knows and rpm-ostree keeps, without
    labels that say which commit is in the image, and what that was made of. where: for messages. Raises ImageError."""
    kept = {key: found[key] for key in (*_TEXTS, *_LISTS, *_MAPS) if found.get(key) is not None}
    if (fault := _fault(kept)) is not None:
        raise ImageError(f"{where}: the configuration of the image is damaged: {fault}")
    if "Labels" in kept:
        labels = kept["Labels"].items()
        kept["Labels"] = {key: value for key, value in labels if not key.startswith(_OSTREE) and key != INPUTHASH}
    return kept


def is_architecture(name: str) -> bool:
    """Is it one that images can be made for, as OCI calls it?"""
    return name in _ARCHITECTURES.values()


def _fault(config: Mapping[str, Any]) -> str | None:
    """What is wrong with a "config" object."""
    for key, value in config.items():
        if key in _TEXTS and not isinstance(value, str):
            return f"{key} must be text"
        if key in _LISTS and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            return f"{key} must be a list of texts"
        if key in _MAPS and not isinstance(value, dict):
            return f"{key} must be an object"
    if not all(isinstance(value, str) for value in config.get("Labels", {}).values()):
        return "Labels must be texts"
    return None


def _metadata_labels(commit: Commit, options: ImageOptions) -> dict[str, str]:
    variants: dict[str, Variant] = dict(commit.metadata)
    labels: dict[str, str] = {}
    # compose image, and what is like it, looks here whether anything changed
    for key in (*options.copymeta, *options.copymeta_opt, INPUTHASH):
        variant = variants.get(key)
        if variant is None:
            if key in options.copymeta:
                raise UsageError(
                    f"--copymeta={key}: the commit has no such metadata",
                    hint="--copymeta-opt is for what may be absent",
                )
            continue
        if variant.type != "s":
            raise UsageError(f"the commit's metadata {key} is of type {variant.type}, and a label must be text (s)")
        labels[key] = variant.value
    bootable = variants.get(_BOOTABLE)
    if bootable is not None and bootable.type == "b":
        labels[_BOOTABLE] = "true" if bootable.value else "false"
        if bootable.value:
            labels["containers.bootc"] = "1"
    linux = variants.get(_LINUX)
    if linux is not None and linux.type == "s":
        labels[_LINUX] = linux.value
    return labels


def _architecture_of(name: str) -> str:
    found = _ARCHITECTURES.get(name, name)
    if found not in _ARCHITECTURES.values():
        known = ", ".join(sorted(set(_ARCHITECTURES.values())))
        raise UsageError(
            f"--arch={name}: is no architecture of container images that is known here", hint=f"one of {known}"
        )
    return found


def _architecture(commit: Commit) -> str:
    """As the commit says itself, else that of most of its packages, else that of this machine."""
    variants: dict[str, Variant] = dict(commit.metadata)
    said, packages = variants.get(_ARCHITECTURE), variants.get(PKGLIST)
    if said is not None and said.type == "s" and said.value in _ARCHITECTURES:
        return _ARCHITECTURES[said.value]
    rows = packages.value if packages is not None and packages.type == _PKGLIST_TYPE else ()
    found = architecture_of_packages(row[4] for row in rows)
    return found or _ARCHITECTURES.get(platform.machine(), platform.machine())


def architecture_of_packages(names: Iterable[str]) -> str | None:
    """That most packages are for, as OCI calls it. names: of each package's, as rpm calls them. None when all are for any."""
    counted = Counter(_ARCHITECTURES[name] for name in names if name in _ARCHITECTURES)
    return min(counted, key=lambda name: (-counted[name], name), default=None)

"""The manifest and configuration of an image, made from a commit (OCI image-spec; labels as in ostree-ext)."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import ImageError, UsageError
from compose.metadata import INPUTHASH, PKGLIST
from compose.oci.chunking import ANNOTATION, comment_on
from compose.oci.contentmeta import SEPARATOR
from compose.oci.documents import canonical, read_object
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

COMMIT_LABEL = "ostree.commit"
DIFFID_LABEL = "ostree.final-diffid"
"""Label naming the last layer of the commit; layers of images derived from this one come after it."""
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
"""From rpm's and the kernel's names to Go's, which OCI uses."""
_STRINGS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Entrypoint", "Cmd")
_MAPS = ("ExposedPorts", "Volumes", "Labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that has been written.

    digest, diffid: sha256 of the compressed and of the uncompressed layer, 64 hex digits. size: compressed bytes. name: for
    people. components: names of the components in it; None for the layer with the commit.
    """

    digest: str
    size: int
    diffid: str
    name: str
    components: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """What the user asks of an image besides its commit.

    labels: (key, value). copymeta, copymeta_opt: keys of commit metadata to copy into labels; the former must exist, the latter
    may be absent. cmd: the container's command, None for the one in the commit's metadata. image_config: the "config" object
    of an OCI configuration. arch: as OCI or rpm names it, None for the commit's.
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
    """An image without its layers.

    labels: all but DIFFID_LABEL. config: the "config" object of the configuration. created: RFC 3339 time.
    """

    labels: Mapping[str, str]
    config: Mapping[str, Any]
    architecture: str
    created: str


def check_options(options: ImageOptions) -> None:
    """Check what can be checked without a commit. Raises UsageError."""
    for key, _ in options.labels:
        if key in _OWN_LABELS:
            raise UsageError(f"--label={key}: this label is always written, as clients find the commit by it")
    for flag, words in (("--label", [f"{key}={value}" for key, value in options.labels]), ("--cmd", options.cmd or ())):
        for word in words:
            # Python decodes bytes of argv that are not UTF-8 to lone surrogates
            if any("\ud800" <= character <= "\udfff" for character in word):
                raise UsageError(f"{flag}={word}: not UTF-8, which JSON requires")
    if options.arch is not None:
        _architecture_of(options.arch)


def describe(commit: Commit, checksum: str, options: ImageOptions) -> Described:
    """Derive labels, configuration, architecture and time from a commit and the options.

    Raises UsageError for options that do not fit the commit, such as a key of copymeta that it lacks, and RepositoryError
    for a timestamp out of range.
    """
    check_options(options)
    labels = _metadata_labels(commit, options)
    if (version := commit.text("version")) is not None:
        labels |= {"version": version, "org.opencontainers.image.version": version}
    labels |= {COMMIT_LABEL: checksum, **dict(options.labels)}
    config = dict(options.image_config or {})
    command = options.cmd
    if command is None and (recorded := dict(commit.metadata).get(_COMMAND)) is not None:
        if recorded.type != "as":
            raise UsageError(
                f"the commit's metadata {_COMMAND} is of type {recorded.type}, not an array of strings (as)"
            )
        command = recorded.value
    if command is not None:
        config["Cmd"] = list(command)
    return Described(
        labels=labels,
        config=config,
        architecture=architecture_for(commit, options),
        created=commit.created,
    )


def architecture_for(commit: Commit, options: ImageOptions) -> str:
    """The architecture that the image of a commit is for, as describe() has it. Raises UsageError for an unknown one."""
    return _architecture_of(options.arch) if options.arch is not None else _architecture(commit)


def documents(described: Described, layers: Sequence[Layer]) -> tuple[bytes, bytes]:
    """The configuration and the manifest as canonical JSON. layers: the one with the commit first."""
    labels = {**described.labels, DIFFID_LABEL: f"sha256:{layers[-1].diffid}"}
    config = canonical(
        {
            "architecture": described.architecture,
            "os": _OS,
            "created": described.created,
            "config": {**described.config, "Labels": {**described.config.get("Labels", {}), **labels}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diffid}" for layer in layers]},
            "history": [_history(layer, described.created) for layer in layers],
        }
    )
    rows: list[dict[str, Any]] = []
    for layer in layers:
        row: dict[str, Any] = descriptor(LAYER_TYPE, layer.digest, layer.size)
        if layer.components is not None:
            row["annotations"] = {ANNOTATION: SEPARATOR.join(sorted(layer.components))}
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


def _history(layer: Layer, created: str) -> dict[str, str]:
    row = {"created": created, "created_by": layer.name}
    return row if layer.components is None else {**row, "comment": comment_on(layer.components)}


def descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    """An OCI content descriptor: a reference to a blob. digest: 64 hex digits."""
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def platform_of(architecture: str) -> dict[str, str]:
    return {"architecture": architecture, "os": _OS}


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_image_config(path: str) -> dict[str, Any]:
    """Read the file given with --image-config. Raises UsageError, which names the key at fault."""
    found = read_object(path, "an image configuration")
    if isinstance(found.get("config"), dict):
        raise UsageError(
            f"{path}: this is the configuration of a whole image",
            hint='give only its "config" object, in a file of its own',
        )
    # Go writes null for empty values
    found = {key: value for key, value in found.items() if value is not None}
    if (fault := _fault(found)) is not None:
        raise UsageError(f"{path}: {fault}")
    return found


def inherited_config(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The part of an image's "config" object that an image made from it inherits.

    That is what image-spec defines and rpm-ostree keeps, without the labels about the commit in the image and its inputs.
    where: for messages. Raises ImageError.
    """
    kept = {key: found[key] for key in (*_STRINGS, *_LISTS, *_MAPS) if found.get(key) is not None}
    if (fault := _fault(kept)) is not None:
        raise ImageError(f"{where}: the configuration of the image is damaged: {fault}")
    if "Labels" in kept:
        labels = kept["Labels"].items()
        kept["Labels"] = {key: value for key, value in labels if not key.startswith(_OSTREE) and key != INPUTHASH}
    return kept


def is_architecture(name: str) -> bool:
    """Is this OCI's name of an architecture that images can be made for?"""
    return name in _ARCHITECTURES.values()


def _fault(config: Mapping[str, Any]) -> str | None:
    """What is wrong with a "config" object, None if nothing is."""
    for key, value in config.items():
        if key in _STRINGS and not isinstance(value, str):
            return f"{key} must be a string"
        if key in _LISTS and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return f"{key} must be a list of strings"
        if key in _MAPS and not isinstance(value, dict):
            return f"{key} must be an object"
    if not all(isinstance(value, str) for value in config.get("Labels", {}).values()):
        return "Labels must be strings"
    return None


def _metadata_labels(commit: Commit, options: ImageOptions) -> dict[str, str]:
    variants: dict[str, Variant] = dict(commit.metadata)
    labels: dict[str, str] = {}
    # compose image and similar tools compare the input hash in this label to see whether anything changed
    for key in (*options.copymeta, *options.copymeta_opt, INPUTHASH):
        variant = variants.get(key)
        if variant is None:
            if key in options.copymeta:
                raise UsageError(
                    f"--copymeta={key}: the commit has no such metadata",
                    hint="use --copymeta-opt for a key that may be absent",
                )
            continue
        if variant.type != "s":
            raise UsageError(f"the commit's metadata {key} is of type {variant.type}, but a label must be a string (s)")
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
        raise UsageError(f"--arch={name}: not a known architecture of container images", hint=f"give one of {known}")
    return found


def _architecture(commit: Commit) -> str:
    """The architecture in the commit's metadata, else that of most of its packages, else this machine's."""
    variants: dict[str, Variant] = dict(commit.metadata)
    recorded, packages = variants.get(_ARCHITECTURE), variants.get(PKGLIST)
    if recorded is not None and recorded.type == "s" and recorded.value in _ARCHITECTURES:
        return _ARCHITECTURES[recorded.value]
    rows = packages.value if packages is not None and packages.type == _PKGLIST_TYPE else ()
    found = architecture_of_packages(row[4] for row in rows)
    return found or machine_architecture()


def machine_architecture() -> str:
    """OCI's name of this machine's architecture."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def architecture_of_packages(names: Iterable[str]) -> str | None:
    """OCI's name of the architecture that most packages have. names: rpm's, one per package. None when all are noarch."""
    counted = Counter(_ARCHITECTURES[name] for name in names if name in _ARCHITECTURES)
    return min(counted, key=lambda name: (-counted[name], name), default=None)

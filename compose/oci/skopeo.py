"""Access through skopeo to images in registries and in podman's storage."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from compose import fs
from compose.errors import ImageError, UsageError
from compose.oci.image import digest_of
from compose.oci.index import pick
from compose.oci.reference import ImageReference, Transport

# error codes of registries (distribution-spec, "Error Codes"), and messages of containers-storage
_MISSING = re.compile(
    r"(manifest|name) unknown|(MANIFEST|NAME)_UNKNOWN|image not known|does not resolve to an image ID", re.IGNORECASE
)
_TMP = "/var/tmp"
_LINES = 10
"""Last lines of skopeo's output to show in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach registries. authfile: credentials, None for skopeo's default. retries: of a failed copy."""

    authfile: str | None = None
    retries: int = 0


NO_ACCESS = Access()
"""The credentials of the current user, and no retries."""

ALL = ("--all", "--preserve-digests")
INDEX_ONLY = ("--multi-arch=index-only",)
"""Flags for copy(): an index with the images in it, or only itself."""


def require() -> None:
    """Raises UsageError unless skopeo is installed."""
    if shutil.which("skopeo") is None:
        raise UsageError(
            "skopeo is not installed, but is needed for registries and containers-storage",
            hint="install skopeo, or use oci:DIR or oci-archive:FILE, which need no other program",
        )


def copy(
    layout: str, target: ImageReference, workdir: str, access: Access = NO_ACCESS, flags: tuple[str, ...] = ()
) -> str:
    """Copy the only image of a layout. workdir: for a temporary file. flags: of skopeo: what of the image to copy. Returns the
    digest at the target, sha256:…. Raises ImageError with skopeo's output."""
    digest_file = os.path.join(workdir, "digest")
    # the policy says whose images to trust, and this one is our own
    arguments = ["--insecure-policy", "copy", f"--digestfile={digest_file}", f"--retry-times={access.retries}", *flags]
    if access.authfile is not None:
        arguments.append(f"--authfile={access.authfile}")
    # a path with a colon would end there
    fd = os.open(layout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _run([*arguments, f"oci:/proc/self/fd/{fd}", target.skopeo], f"cannot copy the image to {target}", fd)
    finally:
        os.close(fd)
    with fs.storage_errors(digest_file), open(digest_file, encoding="ascii") as file:
        return file.read().strip()


def fetch(image: ImageReference, layout: str, access: Access = NO_ACCESS) -> None:
    """Copy an image into a layout in an empty directory; from a multi-architecture image, the one for this machine. Raises
    ImageError with skopeo's output."""
    # subject to this machine's policy, which says whose images to trust
    arguments = ["copy", f"--retry-times={access.retries}"]
    if access.authfile is not None:
        arguments.append(f"--src-authfile={access.authfile}")
    fd = os.open(layout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _run([*arguments, image.skopeo, f"oci:/proc/self/fd/{fd}"], f"cannot fetch the image {image}", fd)
    finally:
        os.close(fd)


def temporary_parent() -> str | None:
    """Where to create temporary layouts, None for the default. They have gigabytes, too many for a /tmp in memory."""
    return None if "TMPDIR" in os.environ or not os.path.isdir(_TMP) else _TMP


def raw_manifest(image: ImageReference, access: Access = NO_ACCESS, *, architecture: str | None = None) -> bytes:
    """The manifest of an image; of a multi-architecture image in a registry, that for an architecture, by default this
    machine's. Raises ImageError with skopeo's output."""
    return _picked(image, _top(image, access), access, architecture=architecture)


def find_manifest(image: ImageReference, access: Access = NO_ACCESS, *, replaced: bool = False) -> bytes | None:
    """As raw_manifest(), but None when the image does not exist. replaced: as for pick()."""
    try:
        data = _top(image, access)
    except ImageError as error:
        if any(_MISSING.search(line) for line in error.details):
            return None
        raise
    # an image that is missing from an existing index is damage
    return _picked(image, data, access, replaced=replaced)


def _top(image: ImageReference, access: Access) -> bytes:
    """The manifest that a name stands for, or the index."""
    return _run(_inspect(image, access), f"cannot read the manifest of {image}")


def _picked(
    image: ImageReference, data: bytes, access: Access, *, architecture: str | None = None, replaced: bool = False
) -> bytes:
    """The manifest to take. data: from _top(). The rest is as for pick()."""
    if image.transport is not Transport.REGISTRY:
        return data
    digest = pick(data, str(image), architecture=architecture, replaced=replaced)
    return data if digest is None else _top(image.at(digest), access)


def config(image: ImageReference, manifest: bytes, access: Access = NO_ACCESS) -> bytes:
    """The configuration of an image. manifest: as raw_manifest() has it. Raises ImageError with skopeo's output."""
    # by digest: the name may be that of several images, or already that of the next one
    exact = image.at(digest_of(manifest)) if image.transport is Transport.REGISTRY else image
    return _run(_inspect(exact, access, "--config"), f"cannot read the configuration of {image}")


def _inspect(image: ImageReference, access: Access, *options: str) -> list[str]:
    credentials = [f"--authfile={access.authfile}"] if access.authfile is not None else []
    return ["inspect", *options, "--raw", *credentials, image.skopeo]


def _run(arguments: list[str], failure: str, *inherited: int) -> bytes:
    """Run skopeo and return its standard output. inherited: file descriptors to pass on."""
    require()
    done = subprocess.run(
        ["skopeo", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        pass_fds=inherited,
        # only compose gets the terminal's interrupt, and then kills it
        process_group=0,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()[-_LINES:]
        raise ImageError(f"{failure}: skopeo exited with {done.returncode}", details=lines)
    return done.stdout

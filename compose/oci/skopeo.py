"""Images where skopeo gets at them: registries, and the storage of podman."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from compose import fs
from compose.errors import ImageError, UsageError
from compose.oci.reference import ImageReference

# errors of registries (distribution-spec, "error codes"), and those of containers-storage
_MISSING = re.compile(
    r"(manifest|name) unknown|(MANIFEST|NAME)_UNKNOWN|image not known|does not resolve to an image ID", re.IGNORECASE
)
_TMP = "/var/tmp"
_LINES = 10
"""Of what it says, at the end, for an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """authfile: passwords for registries, None for those that skopeo knows. retries: of a copy that failed."""

    authfile: str | None = None
    retries: int = 0


NO_ACCESS = Access()
"""That of whoever is logged in."""


def require() -> None:
    """Raises UsageError where it is missing."""
    if shutil.which("skopeo") is None:
        raise UsageError(
            "skopeo is not installed, and only it gets at registries and at containers-storage",
            hint="install skopeo; or write oci:DIR or oci-archive:FILE, which need no other program",
        )


def copy(layout: str, target: ImageReference, workdir: str, access: Access = NO_ACCESS) -> str:
    """Copy the one image of a layout. workdir: where a file may be for a moment. Returns the digest, sha256:…, that it has
    there. Raises ImageError with what skopeo says."""
    told = os.path.join(workdir, "digest")
    # the policy is about whose images to trust: this one is ours
    words = ["--insecure-policy", "copy", f"--digestfile={told}", f"--retry-times={access.retries}"]
    if access.authfile is not None:
        words.append(f"--authfile={access.authfile}")
    # a path may have a colon, which is where it would end
    fd = os.open(layout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _run([*words, f"oci:/proc/self/fd/{fd}", target.skopeo], f"cannot put the image to {target}", fd)
    finally:
        os.close(fd)
    with fs.storage_errors(told), open(told, encoding="ascii") as file:
        return file.read().strip()


def fetch(image: ImageReference, layout: str, access: Access = NO_ACCESS) -> None:
    """Copy an image to a layout, in a directory that is empty; of several for other machines that of this one. Raises
    ImageError with what skopeo says."""
    # with this machine's policy: it is about whose images may be taken
    words = ["copy", f"--retry-times={access.retries}"]
    if access.authfile is not None:
        words.append(f"--src-authfile={access.authfile}")
    fd = os.open(layout, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _run([*words, image.skopeo, f"oci:/proc/self/fd/{fd}"], f"cannot get the image {image}", fd)
    finally:
        os.close(fd)


def place() -> str | None:
    """Where a temporary layout is: it has gigabytes, and what is in memory on many machines has no room. None: where programs
    keep such."""
    return None if "TMPDIR" in os.environ or not os.path.isdir(_TMP) else _TMP


def raw_manifest(image: ImageReference, access: Access = NO_ACCESS) -> bytes:
    """The manifest of an image, or the index of several. Raises ImageError with what skopeo says."""
    words = ["inspect", "--raw"]
    if access.authfile is not None:
        words.append(f"--authfile={access.authfile}")
    return _run([*words, image.skopeo], f"cannot read the manifest of {image}")


def find_manifest(image: ImageReference, access: Access = NO_ACCESS) -> bytes | None:
    """The same, None when there is no such image."""
    try:
        return raw_manifest(image, access)
    except ImageError as error:
        if any(_MISSING.search(line) for line in error.details):
            return None
        raise


def config(image: ImageReference, access: Access = NO_ACCESS) -> bytes:
    """The configuration of an image. Raises ImageError with what skopeo says."""
    words = ["inspect", "--config", "--raw"]
    if access.authfile is not None:
        words.append(f"--authfile={access.authfile}")
    return _run([*words, image.skopeo], f"cannot read the configuration of {image}")


def _run(words: list[str], failure: str, *inherited: int) -> bytes:
    require()
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # an interrupt from the terminal is for the compose, which then ends it
    with subprocess.Popen(["skopeo", *words], process_group=0, pass_fds=inherited, **settings) as process:
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = errors.decode(errors="replace").splitlines()[-_LINES:]
        raise ImageError(f"{failure}: skopeo ended with {process.returncode}", details=lines)
    assert isinstance(output, bytes)
    return output

"""Where images go."""

from __future__ import annotations

import pytest

from compose.errors import UsageError
from compose.oci.reference import ImageReference, Transport, parse_reference


@pytest.mark.parametrize(
    ("text", "transport", "name", "tag", "skopeo"),
    [
        ("oci:out", Transport.OCI, "out", None, "oci:out"),
        ("oci:/srv/out:latest", Transport.OCI, "/srv/out", "latest", "oci:/srv/out:latest"),
        ("oci:out:a/b:c", Transport.OCI, "out", "a/b:c", "oci:out:a/b:c"),
        ("oci-archive:x.ociarchive:43", Transport.OCI_ARCHIVE, "x.ociarchive", "43", "oci-archive:x.ociarchive:43"),
        ("registry:quay.io/a/b:1", Transport.REGISTRY, "quay.io/a/b:1", None, "docker://quay.io/a/b:1"),
        ("docker://quay.io/a/b:1", Transport.REGISTRY, "quay.io/a/b:1", None, "docker://quay.io/a/b:1"),
        ("containers-storage:localhost/a", Transport.CONTAINERS_STORAGE, "localhost/a", None,
         "containers-storage:localhost/a"),
        ("dir:out", Transport.DIRECTORY, "out", None, "dir:out"),
    ],
)  # fmt: skip
def test_forms(text: str, transport: Transport, name: str, tag: str | None, skopeo: str) -> None:
    found = parse_reference(text)
    assert found == ImageReference(transport=transport, name=name, tag=tag)
    assert found.skopeo == skopeo


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out", "not an image reference"),
        ("quay.io/a/b:1", "not an image reference"),
        ("docker:quay.io/a", "not an image reference"),
        ("oci:", "no location after the transport"),
        ("oci::latest", "no location after the transport"),
        ("oci:out:", "'' is not a valid tag"),
        ("oci:out:a b", "'a b' is not a valid tag"),
        ("ostree-unverified-registry:quay.io/a", "tells a client how to verify an image"),
        ("ostree-image-signed:docker://quay.io/a", "tells a client how to verify an image"),
    ],
)
def test_what_is_none_is_told_with_the_forms_there_are(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("quay.io/a/b:1", "quay.io/a/b"),
        ("127.0.0.1:5000/b", "127.0.0.1:5000/b"),
        ("127.0.0.1:5000/b:1", "127.0.0.1:5000/b"),
        (f"quay.io/a/b:1@sha256:{'0' * 64}", "quay.io/a/b"),
        ("b:1", "b"),
    ],
)
def test_another_image_of_a_repository(name: str, repository: str) -> None:
    image = parse_reference(f"registry:{name}")
    assert image.repository == repository
    assert image.at("f" * 64).skopeo == f"docker://{repository}@sha256:{'f' * 64}"

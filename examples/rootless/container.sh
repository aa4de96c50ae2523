#!/bin/sh
# The same in a container, run by podman without root. IMAGE has compose in it, as the Containerfile beside this makes it.
# Root of such a container is the user outside, and --cap-add gives it mounts in its own namespace, no more; label=disable is for
# machines with SELinux. The cache must be a volume: a container's own root cannot hold an overlay's changes.
set -eu
cp "$(dirname "$0")/tree.yaml" "$PACKAGES/universe.repo" .
podman run --rm --cap-add=sys_admin --security-opt=label=disable \
    --volume="$PACKAGES:$PACKAGES:ro" --volume="$PWD:$PWD" --workdir="$PWD" "${IMAGE:-compose}" \
    sh -ec '
        compose doctor --cachedir=cache
        ostree --repo=repo init --mode=archive
        compose tree tree.yaml --repo=repo --cachedir=cache
    '

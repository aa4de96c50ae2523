#!/bin/sh
# install, change by hand, postprocess, commit. Needs root: the directory has the owners that the system will have.
set -eu
cp "$(dirname "$0")/tree.yaml" "$PACKAGES/universe.repo" .
ostree --repo=repo init --mode=archive

compose install tree.yaml out --repo=repo --cachedir=cache
ls out/rootfs
echo 'changed by hand' > out/rootfs/usr/share/by-hand
compose postprocess out/rootfs tree.yaml --cachedir=cache
compose commit tree.yaml out/rootfs --repo=repo --cachedir=cache
ostree --repo=repo cat "example/$(uname -m)/hands-on" /usr/share/by-hand

# the same as a plain root, for a container image
compose rootfs tree.yaml plain --cachedir=cache
ls plain/etc | head -n 3

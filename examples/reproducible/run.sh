#!/bin/sh
# Is a commit what its inputs make? Needs root.
set -eu
cp "$(dirname "$0")/tree.yaml" "$PACKAGES/universe.repo" .
ostree --repo=repo init --mode=archive
ref=example/$(uname -m)/reproducible

# all that the compose needs, in one file; what follows has no network and an empty cache
compose fetch tree.yaml --bundle=all.tar --cachedir=cache
unshare --net compose tree --offline --bundle=all.tar --repo=repo --cachedir=elsewhere

# what CI asks of a commit that somebody else made: exit code 0
compose verify "$ref" --repo=repo --cachedir=cache

# a script that writes what is another thing each time: exit code 8, with the path and who wrote it
{ cat tree.yaml; echo 'postprocess: ["date >/usr/share/built"]'; } > restless.yaml
compose tree restless.yaml --repo=repo --cachedir=cache
status=0
compose verify "$ref" --repo=repo --cachedir=cache || status=$?
test "$status" = 8

#!/bin/sh
# An ordinary user composes. Root's part, once, is a range of ids to give to what packages own; useradd gives one to each new
# user, and `compose doctor` has the line for who has none.
set -eu
cp "$(dirname "$0")/tree.yaml" "$PACKAGES/universe.repo" .
test "$(id -u)" != 0

# what this machine can do, and what mends it; in CI, a job's first line
compose doctor --cachedir=cache

ostree --repo=repo init --mode=archive
compose tree tree.yaml --repo=repo --cachedir=cache

# other owners and setuid programs are in the commit, as root would have made it, and not on this disk
ostree --repo=repo ls "example/$(uname -m)/rootless" /usr/bin/su /usr/etc/shadow
test -z "$(find . ! -user "$(id -un)")"

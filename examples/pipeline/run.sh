#!/bin/sh
# A CI job. What it would keep between runs: the repository, the cachedir, and the lockfile, which lies in git.
set -eu
cp "$(dirname "$0")/tree.yaml" "$PACKAGES/universe.repo" .
ostree --repo=repo init --mode=archive

# on every push: the treefile is right and tidy (--format=sarif for code hosts that show findings beside the lines)
compose treefile lint --strict tree.yaml
compose treefile fmt --check tree.yaml

# once a day, as a change to be reviewed: newer builds, one line of the lockfile each
compose lock tree.yaml

# on every merge: exactly what is locked; changed exists only if there is something new to publish
compose tree tree.yaml --lockfile=tree.lock.yaml --repo=repo --cachedir=cache \
    --touch-if-changed=changed --write-composejson-to=result.json
test -e changed && grep -E '"(ostree-commit|ostree-version|packages)"' result.json

# nothing changed, nothing to do
rm changed
compose tree tree.yaml --lockfile=tree.lock.yaml --repo=repo --cachedir=cache --touch-if-changed=changed
test ! -e changed

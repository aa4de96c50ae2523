#!/bin/sh
# Two flavours of one base into one repository. PACKAGES is the directory of the demonstration's universe.repo.
set -eu
cp "$(dirname "$0")"/*.yaml "$(dirname "$0")/motd" "$PACKAGES/universe.repo" .
ostree --repo=repo init --mode=archive

compose treefile show --origin server.yaml | grep -E '^(packages|ref)' | head -n 8
for flavour in server kiosk; do
    compose tree $flavour.yaml --repo=repo --cachedir=cache
done

# the objects that both have are there once
ostree --repo=repo refs
ostree --repo=repo diff "example/$(uname -m)/kiosk" "example/$(uname -m)/server" | grep -E 'usr/(etc/motd|s?bin/sshd|bin/vim.tiny)$'

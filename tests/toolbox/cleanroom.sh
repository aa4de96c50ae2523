#!/bin/sh
# cleanroom.sh DIR [SUITE] [COMMAND...] - prove the README on a machine that has nothing.
#
# Makes a minimal Debian root at DIR (SUITE, default bookworm; with apt, make, git and sudo only), clones the HEAD of this
# project into it as an ordinary user, and runs COMMAND there (default: make demo, then make test) as that user. Needs root,
# mmdebstrap and network. DIR is kept for a look; remove it with rm -rf --one-file-system.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd -P)
root=$1 suite=${2:-bookworm}
shift
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- sh -c 'make demo && make test'

if [ ! -e "$root/.cleanroom" ]; then
    work=$(mktemp -d)
    apt-config dump --no-empty --format '%F "%v";%n' Acquire::http Acquire::https Acquire::Retries \
        Acquire::Check-Valid-Until Acquire::Check-Date >"$work/apt.conf"
    url=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' |
        awk '$2 == "Debian" && $3 == "Debian" && $4 == "main" { sub("/$", "", $1); print $1; exit }')
    mmdebstrap --mode=root --variant=apt --format=directory --quiet --aptopt="$work/apt.conf" \
        --include=make,git,sudo,passwd,ca-certificates,mount "$suite" "$root" "${TOOLBOX_MIRROR:-$url}"
    rm -rf "$work"
    chroot "$root" useradd -m -s /bin/sh tester
    echo 'tester ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/tester"
    : >"$root/.cleanroom"
fi
rm -rf "$root/home/tester/compose"
git clone --quiet --no-local "$project" "$root/home/tester/compose"
chroot "$root" chown -R tester: /home/tester/compose

exec unshare --mount --pid --fork --kill-child --propagation private sh -c '
    set -e
    root=$1
    shift
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for top in /sys /dev; do mount --rbind "$top" "$root$top"; done
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
        [ ! -e "$file" ] || { mkdir -p "$root${file%/*}"; [ -e "$root$file" ] || : >"$root$file"; mount --bind "$file" "$root$file"; }
    done
    cd "$root"
    pivot_root . .
    umount -l .
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        su -l tester -c "cd compose && exec \"\$0\" \"\$@\"" -- "$@"
' cleanroom "$root" "$@"

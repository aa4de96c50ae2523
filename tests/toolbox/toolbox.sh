#!/bin/sh
# toolbox.sh - an isolated Debian root that has what the host's Debian lacks.
#
#   toolbox.sh create            build the root if it is absent or out of date (idempotent)
#   toolbox.sh run CMD [ARG...]  the same, then run CMD in it, in the project directory
#   toolbox.sh path              print where the root is
#   toolbox.sh destroy           remove the root
#
# TOOLBOX_DIR     where roots live       (default ${XDG_CACHE_HOME:-~/.cache}/compose-toolbox)
# TOOLBOX_SUITE   Debian suite           (default forky)
# TOOLBOX_MIRROR  archive base URL       (default: the one this machine's own apt uses)
# TOOLBOX_BIND    extra host directories to bind, colon-separated
# TOOLBOX_NATIVE  1: never use a root (Fedora, or inside the root); 0: always
#
# The host gets nothing but mmdebstrap (from its own release) if it is missing.
set -eu

SUITE=${TOOLBOX_SUITE:-forky}
PROJECT=${TOOLBOX_PROJECT:-$(cd "$(dirname "$0")" && { git rev-parse --show-toplevel 2>/dev/null || pwd -P; })}
DIR=${TOOLBOX_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/compose-toolbox}
KEYRING=${TOOLBOX_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
PACKAGES="python3-libdnf5 python3-rpm rpm createrepo-c ostree gir1.2-ostree-1.0 python3-gi
 python3-selinux selinux-utils libdeflate0 gpg gpg-agent dnf5 uidmap
 python3-typer python3-yaml python3-jsonschema python3-zstandard python3-rich
 python3-pytest python3-hypothesis mypy ruff python3-pip python3-setuptools
 ca-certificates attr libcap2-bin zstd xz-utils bzip2 cpio mount make"
CHECK='import libdnf5, rpm, selinux, typer, yaml, jsonschema, zstandard, pytest'

say() { echo "toolbox: $*" >&2; }
die() { say "$*"; exit 1; }

# The host itself will do (Fedora with the packages installed, or we are already inside).
native() {
    case ${TOOLBOX_NATIVE:-} in 1) return 0;; 0) return 1;; esac
    [ -e /.compose-toolbox ] || { command -v ostree && command -v createrepo_c && /usr/bin/python3 -c "$CHECK"; } >/dev/null 2>&1
}

# The archive this machine's apt already uses for Debian proper: no host name lives here.
mirror() {
    [ -z "${TOOLBOX_MIRROR:-}" ] || { echo "$TOOLBOX_MIRROR"; return; }
    command -v apt-get >/dev/null || die "no apt here: set TOOLBOX_MIRROR, or install libdnf5's Python bindings"
    targets() { apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
                awk '$2 == "Debian" && $3 == "Debian" && $4 == "main" { sub("/$", "", $1); print $1; exit }'; }
    m=$(targets)
    # a machine whose lists were never fetched (a container image) knows no origins yet
    [ -n "$m" ] || { apt-get update -qq >&2 && m=$(targets); }
    [ -n "$m" ] || die "apt here has no Debian archive: set TOOLBOX_MIRROR"
    echo "$m"
}

stamp() { echo "v1 $SUITE $(dpkg --print-architecture 2>/dev/null || uname -m) $PACKAGES" | sha256sum | cut -c1-16; }

create() {
    root=$DIR/$SUITE-$(stamp)
    [ -e "$root/.compose-toolbox" ] && return
    mkdir -p "$DIR"
    exec 9>"$DIR/.lock"; flock 9
    [ -e "$root/.compose-toolbox" ] && { exec 9>&-; return; }    # someone else just built it
    [ "$(id -u)" = 0 ] || die "building the root needs root (or set up a root with TOOLBOX_DIR)"
    url=$(mirror)
    command -v mmdebstrap >/dev/null || {
        say "installing mmdebstrap from this machine's own release"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mmdebstrap; } >&2 </dev/null
    }
    say "building $root ($SUITE from $url), about a minute and a half"
    tmp=$(mktemp -d "$DIR/.build.XXXXXX")
    trap 'rm -rf --one-file-system "$tmp"' EXIT INT TERM
    # the machine's own network and date rules for apt (proxy, retries, frozen mirror)
    apt-config dump --no-empty --format '%F "%v";%n' Acquire::http Acquire::https Acquire::Retries \
        Acquire::ForceIPv4 Acquire::Check-Valid-Until Acquire::Check-Date >"$tmp/apt.conf"
    mmdebstrap --mode=root --variant=apt --format=directory --components=main --quiet \
        --keyring="$KEYRING" --aptopt="$tmp/apt.conf" --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$(echo $PACKAGES | tr ' ' ,)" \
        "$SUITE" "$tmp/root" "$url" >"$tmp/log" 2>&1 </dev/null || { cat "$tmp/log" >&2; die "mmdebstrap failed"; }
    chroot "$tmp/root" python3 -c "$CHECK" || die "the root lacks something the project imports"
    stamp >"$tmp/root/.compose-toolbox"
    mv "$tmp/root" "$root"
    rm -rf "$tmp"; trap - EXIT INT TERM
    exec 9>&-
}

enter() {
    # pivot_root, not chroot: the kernel refuses new user namespaces (so bwrap) in a chroot.
    # All mounts are in a private namespace: nothing shows on the host, nothing to clean up.
    TB_ROOT=$root TB_PROJECT=$PROJECT TB_CWD=$(pwd) TB_BIND=${TOOLBOX_BIND:-} \
    exec unshare --mount --propagation private sh -c '
        set -e
        r=$TB_ROOT
        mount --bind "$r" "$r"
        for d in proc sys dev; do mount --rbind "/$d" "$r/$d"; done
        mount -t tmpfs -o mode=755 tmpfs "$r/run"
        bind() { mkdir -p "$r$1"; mount --rbind "$1" "$r$1"; }
        bind /tmp
        bind "$TB_PROJECT"
        IFS=:; for d in $TB_BIND; do [ -z "$d" ] || bind "$d"; done; unset IFS
        # resolver and CA bundle of the host, so that pip, curl and dnf reach what it reaches
        for f in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
            [ ! -e "$f" ] || { [ -e "$r$f" ] || : >"$r$f"; mount --bind "$f" "$r$f"; }
        done
        cd "$r"
        pivot_root . .
        umount -l .
        cd "$TB_CWD" 2>/dev/null || cd "$TB_PROJECT"
        export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
        unset TB_ROOT TB_PROJECT TB_CWD TB_BIND PYTHONHOME PYTHONPATH VIRTUAL_ENV
        exec "$@"' toolbox "$@"
}

cmd=${1:-}; [ $# -eq 0 ] || shift
case $cmd in
    create) native || create ;;
    run) [ $# -gt 0 ] || die "run what?"
         if native; then exec "$@"; fi; create; enter "$@" ;;
    path) echo "$DIR/$SUITE-$(stamp)" ;;
    destroy) rm -rf --one-file-system "$DIR/$SUITE-$(stamp)" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

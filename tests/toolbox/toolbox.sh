#!/bin/sh
# toolbox.sh - the environment compose is demonstrated and tested in.
#
#   toolbox.sh create            make the environment if it is absent or out of date (idempotent)
#   toolbox.sh run CMD [ARG...]  the same, then run CMD in it as root, in the caller's directory
#   toolbox.sh need PROGRAM DEBIAN-PACKAGE FEDORA-PACKAGE
#                                install a package in it, for what only some tests need, unless the program is there
#   toolbox.sh path              print where the isolated root is, or "native"
#   toolbox.sh destroy           remove the isolated root
#
# A host that has libdnf5's Python bindings (Fedora, Debian forky and later) is used as it is: packages that are missing
# come from its own package manager. Any other host with apt gets an isolated Debian root, made once by mmdebstrap (the one
# thing installed on the host) and entered through a private mount namespace, so that nothing is left mounted behind.
# As an ordinary user everything that needs root goes through sudo.
#
# TOOLBOX_DIR      where roots live      (default ${XDG_CACHE_HOME:-~/.cache}/compose-toolbox)
# TOOLBOX_SUITE    Debian suite          (default forky; trixie makes another build host, see another-host.sh)
# TOOLBOX_MIRROR   archive base URL      (default: the one this machine's own apt uses)
# TOOLBOX_KEYRING  archive keyring       (default /usr/share/keyrings/debian-archive-keyring.gpg)
# TOOLBOX_CWD      directory to run in   (default: the current one)
# TOOLBOX_NATIVE   1: never use a root; 0: always
set -eu

# an ordinary user's PATH may lack what root's has: setcap, for one
PATH=$PATH:/usr/sbin:/sbin
SUITE=${TOOLBOX_SUITE:-forky}
PROJECT=$(cd "$(dirname "$0")/../.." && pwd -P)
DIR=${TOOLBOX_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/compose-toolbox}
KEYRING=${TOOLBOX_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
CWD=${TOOLBOX_CWD:-$(pwd)}
# inside of a root HOME is another one
export TOOLBOX_DIR="$DIR"

DEBIAN_PACKAGES="python3-libdnf5 python3-rpm rpm createrepo-c dnf5 python3-selinux selinux-utils ostree libdeflate0
 python3-typer python3-yaml python3-jsonschema python3-zstandard python3-rich python3-license-expression
 python3-pytest python3-pytest-xdist python3-hypothesis mypy ruff python3-pip python3-setuptools
 gpg gpg-agent ca-certificates debian-archive-keyring attr libcap2-bin zstd xz-utils bzip2 cpio mount make uidmap
 python3-gi gir1.2-ostree-1.0 gcc libc6-dev python3-spdx-tools python3-cyclonedx-lib python3-packageurl"
FEDORA_PACKAGES="python3-libdnf5 python3-rpm rpm-build rpm-sign createrepo_c dnf5 python3-libselinux libselinux-utils ostree
 libdeflate python3-typer python3-pyyaml python3-jsonschema python3-zstandard python3-rich python3-license-expression
 python3-pytest python3-pytest-xdist python3-hypothesis python3-mypy ruff python3-pip python3-setuptools
 gnupg2 attr libcap zstd xz bzip2 cpio make apt dpkg debian-keyring gcc"
MODULES='import libdnf5, rpm, selinux, typer, yaml, jsonschema, zstandard, rich, license_expression, pytest, xdist, hypothesis'
ANOTHER_PACKAGES="rpm python3-rpm python3-yaml python3-jsonschema python3-typer python3-zstandard python3-rich
 binutils ca-certificates mount"
ANOTHER_MODULES='import libdnf5, rpm, selinux, typer, yaml, jsonschema, zstandard, rich'
PROGRAMS="ostree createrepo_c rpmbuild rpmsign dnf5 gpg getfattr setcap cpio make mypy ruff apt-get dpkg-deb gcc"

say() { echo "toolbox: $*" >&2; }
die() { say "$*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || die "this needs root, and there is no sudo: run it as root"
    sudo -- "$@"
}

complete() {
    for program in $PROGRAMS; do command -v "$program" >/dev/null 2>&1 || return 1; done
    /usr/bin/python3 -c "$MODULES" >/dev/null 2>&1
}

# Does this host's own distribution have the bindings? Fedora does, Debian from forky on.
native() {
    case ${TOOLBOX_NATIVE:-} in 1) return 0 ;; 0) return 1 ;; esac
    [ ! -e /.compose-toolbox ] || return 0
    if command -v dnf >/dev/null 2>&1 && grep -qE '^ID="?fedora' /etc/os-release; then return 0; fi
    if grep -qE '^VERSION_CODENAME="?(forky|sid)' /etc/os-release; then return 0; fi
    complete
}

install_native() {
    [ ! -e /.compose-toolbox ] || return 0
    complete && return 0
    say "installing what is missing with this system's package manager"
    if command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y $FEDORA_PACKAGES >&2
    else
        { as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $DEBIAN_PACKAGES; } >&2 </dev/null
    fi
    complete || die "something is still missing: one of $PROGRAMS, or a Python module of: $MODULES"
}

# The archive this machine's apt already uses for Debian proper: no host name lives here.
mirror() {
    [ -z "${TOOLBOX_MIRROR:-}" ] || { echo "$TOOLBOX_MIRROR"; return; }
    command -v apt-get >/dev/null || die "no apt here: set TOOLBOX_MIRROR, or use Fedora or Debian forky"
    targets() {
        apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
            awk '$2 == "Debian" && $3 == "Debian" && $4 == "main" { sub("/$", "", $1); print $1; exit }'
    }
    found=$(targets)
    # a machine whose lists were never fetched (a container image) knows no origins yet
    [ -n "$found" ] || { as_root apt-get update -qq >&2 && found=$(targets); }
    [ -n "$found" ] || die "apt here has no Debian archive: set TOOLBOX_MIRROR"
    echo "$found"
}

case $SUITE in
    forky|sid) root_packages=$DEBIAN_PACKAGES root_modules=$MODULES another= ;;
    *)
        root_packages=$ANOTHER_PACKAGES root_modules=$ANOTHER_MODULES
        another="$PROJECT/tests/toolbox/another-host.sh $PROJECT/tests/toolbox/selinux.py" ;;
esac

stamp() { { echo "v2 $SUITE $(uname -m) $root_packages"; cat /dev/null $another; } | sha256sum | cut -c1-16; }
root_path() { echo "$DIR/$SUITE-$(stamp)"; }

create_root() {
    root=$(root_path)
    [ ! -e "$root/.compose-toolbox" ] || return 0
    mkdir -p "$DIR"
    exec 9>"$DIR/.lock"
    flock 9
    [ ! -e "$root/.compose-toolbox" ] || { exec 9>&-; return 0; } # somebody else just made it
    url=$(mirror)
    command -v mmdebstrap >/dev/null || {
        say "installing mmdebstrap from this machine's own release"
        { as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends mmdebstrap; } >&2 </dev/null
    }
    [ -e "$KEYRING" ] || die "no archive keyring at $KEYRING: set TOOLBOX_KEYRING"
    say "making $root, a minute or two"
    work=$(mktemp -d "$DIR/.build.XXXXXX")
    trap 'as_root rm -rf --one-file-system "$work"' EXIT INT TERM
    # mmdebstrap does not read the host's apt configuration: carry the network and date rules over (proxy, retries, frozen mirror)
    apt-config dump --no-empty --format '%F "%v";%n' Acquire::http Acquire::https Acquire::Retries \
        Acquire::ForceIPv4 Acquire::Check-Valid-Until Acquire::Check-Date >"$work/apt.conf"
    set --
    [ -z "$another" ] || set -- --customize-hook="copy-in $another /tmp" --customize-hook='chroot "$1" sh /tmp/another-host.sh'
    as_root mmdebstrap --mode=root --variant=apt --format=directory --components=main --quiet \
        --keyring="$KEYRING" --aptopt="$work/apt.conf" --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include="$(echo $root_packages | tr ' ' ,)" "$@" \
        "$SUITE" "$work/root" "$url" >"$work/log" 2>&1 </dev/null || { cat "$work/log" >&2; die "mmdebstrap failed"; }
    # forky rolls: a root that lacks something must fail here, not in the middle of a test
    as_root chroot "$work/root" python3 -c "$root_modules" || die "the root lacks something the project imports"
    as_root sh -c 'echo "$1" >"$2/.compose-toolbox"' sh "$(stamp)" "$work/root"
    as_root mv "$work/root" "$root"
    rm -rf "$work"
    trap - EXIT INT TERM
    exec 9>&-
}

# What the command sees of the caller's environment: nothing of its paths and Python.
CLEAN="PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
 PYTHONPATH=$PROJECT PYTHONPYCACHEPREFIX=/var/cache/compose-pycache"

run_native() {
    cd "$CWD"
    set -- env -u PYTHONHOME -u VIRTUAL_ENV -u PYTHONDONTWRITEBYTECODE -u PYTHONUNBUFFERED $CLEAN "$@"
    [ "$(id -u)" = 0 ] || exec sudo --preserve-env -- "$@"
    exec "$@"
}

run_in_root() {
    root=$(root_path)
    # pivot_root, not chroot: the kernel refuses new user namespaces in a chroot.
    set -- unshare --mount --propagation private sh -c '
        set -e
        root=$1 project=$2 directory=$3
        shift 3
        mount --bind "$root" "$root"
        bind() { mkdir -p "$root$1" && mount --"$2" "$1" "$root$1"; }
        for top in /*; do
            # what is not the operating system is data, and is seen at its own path
            [ -d "$top" ] && [ ! -L "$top" ] || continue
            case $top in
                /bin|/boot|/dev|/etc|/lib|/lib32|/lib64|/libx32|/proc|/run|/sbin|/sys|/usr|/var|/lost+found) ;;
                *) bind "$top" bind ;;
            esac
        done
        for top in /proc /sys /dev; do bind "$top" rbind; done
        mount -t tmpfs -o mode=755 tmpfs "$root/run"
        bind /var/tmp bind
        case $project/ in /usr/*|/var/*) bind "$project" bind ;; esac
        case $directory/ in /usr/*|/var/*) bind "$directory" bind ;; esac
        # resolver and CA bundle of the host, so that programs inside reach what it reaches
        for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
            [ ! -e "$file" ] || { [ -e "$root$file" ] || : >"$root$file"; mount --bind "$file" "$root$file"; }
        done
        cd "$root"
        pivot_root . .
        umount -l .
        cd "$directory"
        exec env -u PYTHONHOME -u VIRTUAL_ENV -u PYTHONDONTWRITEBYTECODE -u PYTHONUNBUFFERED HOME=/root '"$(echo $CLEAN)"' "$@"
    ' toolbox "$root" "$PROJECT" "$CWD" "$@"
    [ "$(id -u)" = 0 ] || exec sudo --preserve-env -- "$@"
    exec "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    create) if native; then install_native; else create_root; fi ;;
    run)
        [ $# -gt 0 ] || die "run what?"
        # what is made in it is root's, it itself must not be: pip install . puts its own things there
        mkdir -p "$PROJECT/build"
        if native; then install_native; run_native "$@"; else create_root; run_in_root "$@"; fi ;;
    need)
        [ $# -eq 3 ] || die "need what?"
        "$0" run sh -c 'command -v "$1" >/dev/null 2>&1 || {
            if command -v dnf >/dev/null 2>&1; then dnf install -y "$3" >&2; else
                { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2"; } >&2
            fi; }' sh "$@" ;;
    path) if native; then echo native; else root_path; fi ;;
    destroy) as_root rm -rf --one-file-system "$(root_path)" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac

#!/bin/sh
# another-host.sh - make the root of a Debian release that has no libdnf5 into a host that composes. Runs in that root.
#
# A compose is to be the same on a host with other versions of what it uses, and Debian has libdnf5 in forky and sid alone,
# with the same versions of nearly all. So the other host is made: librpm, libsolv, librepo, SQLite, libselinux, libc, zlib and
# all programs are the release's own, libdeflate is left out; libdnf5, and Python as its bindings want it, are unpacked from
# forky. toolbox.sh copies it into the root together with selinux.py, and runs it last.
set -eu
cd /tmp
. /etc/os-release
sed "s/ $VERSION_CODENAME / forky /" /etc/apt/sources.list >/etc/apt/sources.list.d/forky.list
apt-get update -qq

own() { apt-cache madison "$1" | grep -q " $VERSION_CODENAME/"; }
needs() { apt-cache depends --important "$1" | sed -n 's/^  Depends: \([^<>]*\)$/\1/p' | sed 's/:any$//'; }

# what libdnf5 needs, from here where it can be had, else from forky with what that needs
here= foreign= queue=python3-libdnf5
while [ -n "$queue" ]; do
    set -- $queue
    name=$1
    shift
    queue=$*
    case " $here $foreign " in *" $name "*) continue ;; esac
    if own "$name"; then here="$here $name"; else foreign="$foreign $name" queue="$queue $(needs "$name")"; fi
done
python=$(printf '%s\n' $foreign | sed -n 's/^lib\(python3\.[0-9]*\)$/\1/p')
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -t "$VERSION_CODENAME" $here
# the modules in C are for one version of Python
for name in $foreign "$python-minimal" python3-rpm python3-yaml python3-zstandard python3-rpds-py; do
    echo "$name/forky"
done | xargs apt-get download -qq
dpkg --unpack --force-depends ./*.deb

# Functions that these want of newer libraries and no compose calls: who does call one ends there.
ldd -r /usr/lib/*/libdnf5.so.* /usr/lib/python3/dist-packages/rpm/_rpm.cpython-*.so 2>&1 |
    sed -n 's/^undefined symbol: \([A-Za-z0-9_]*\).*/\1/p' | grep -v '^_*Py' | sort -u |
    sed 's/.*/.globl &\n&: .long 0/' | as -o absent.o
ld -shared -o /usr/local/lib/absent.so absent.o
echo /usr/local/lib/absent.so >/etc/ld.so.preload

# forky's bindings of libselinux refuse this one
modules=/usr/local/lib/$python/dist-packages
mkdir -p "$modules/selinux.dist-info"
mv selinux.py "$modules/"
dpkg-query -W -f 'Metadata-Version: 2.1\nName: selinux\nVersion: ${source:Upstream-Version}\n' libselinux1 \
    >"$modules/selinux.dist-info/METADATA"
ln -s "/usr/bin/$python" /usr/local/bin/python3
rm -f ./*.deb absent.o "$0" /etc/apt/sources.list.d/forky.list

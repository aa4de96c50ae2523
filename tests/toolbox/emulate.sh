#!/bin/sh
# emulate.sh MACHINE [PYTEST-ARG...] - run tests of the sandbox on another processor (aarch64, ppc64le, riscv64, s390x).
#
# System calls have other numbers there, and programs another byte order. QEMU boots Debian's kernel of that machine with a root
# of its packages, which are unpacked only, so that nothing foreign runs outside of it. Ends with pytest's exit status. Runs in
# the toolbox, as root; `make emulated` installs what it needs.
#
# EMULATE_DIR   where roots and kernels are kept (default: build/emulated)
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd -P)
dir=${EMULATE_DIR:-$project/build/emulated}
case ${1:-} in
    aarch64) arch=arm64 kernel=arm64 console=ttyAMA0 qemu="qemu-system-aarch64 -M virt -cpu cortex-a72" ;;
    ppc64le) arch=ppc64el kernel=powerpc64le console=hvc0 qemu="qemu-system-ppc64 -M pseries -cpu power10" ;;
    riscv64) arch=riscv64 kernel=riscv64 console=ttyS0 qemu="qemu-system-riscv64 -M virt" ;;
    s390x) arch=s390x kernel=s390x console=ttysclp0 qemu="qemu-system-s390x -cpu max" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2 ;;
esac
machine=$1
shift
again=tests/compat/workroot/test_remembered.py::test_what_is_not_run_again_is_what_it_would_do
[ $# -gt 0 ] || set -- tests/unit/sandbox tests/compat/workroot/test_observer.py "$again[reads]" "$again[links]" \
    "$again[globs]" tests/compat/workroot/test_remembered.py::test_the_interpreter_of_a_script_is_looked_at

root=$dir/$machine
if [ ! -e "$root/vmlinuz" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    url=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | head -1)
    apt-config dump --no-empty --format '%F "%v";%n' Acquire >"$root/apt.conf"
    mmdebstrap --mode=root --variant=extract --architectures="$arch" --quiet --aptopt="$root/apt.conf" \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --include="linux-image-$kernel,dash,bash,coreutils,util-linux
        mount hostname attr libcap2-bin libc-bin python3-libdnf5 python3-rpm rpm python3-selinux python3-zstandard python3-yaml
        python3-typer python3-jsonschema python3-rich python3-pytest python3-hypothesis" \
        forky "$root/root" "${url:-http://deb.debian.org/debian}"
    # gone with the modules: what the tests need is built in
    find "$root/root/boot" "$root/root/usr/lib/modules" -name 'vmlinu?*' -type f -exec mv {} "$root/vmlinuz.new" \;
    rm -rf "$root/root/boot" "$root/root/usr/lib/modules" "$root/root/usr/share/doc" "$root/root/usr/share/locale" \
        "$root/root/usr/share/man" "$root/root/var/lib/apt" "$root/root/var/cache"
    mv "$root/vmlinuz.new" "$root/vmlinuz"
fi

rm -rf "$root/root/project"
mkdir -p "$root/root/project" "$root/root/new"
cp -a "$project/compose" "$project/tests" "$project/pyproject.toml" "$root/root/project/"
for each in "$@"; do printf '%s\n' "$each"; done >"$root/root/project/arguments"
date +%s >"$root/root/project/now"
cat >"$root/root/init" <<'INIT'
#!/bin/sh
# the first root of a kernel cannot be pivoted away from, so everything moves to a second one
export PATH=/usr/sbin:/usr/bin HOME=/root
if [ -e /new ]; then
    mount -t tmpfs -o size=90% tmpfs /new
    cp -a /bin /sbin /lib* /usr /etc /project /init /new/
    cd /new
    mkdir -p proc sys dev run tmp var/tmp root
    mount -t devtmpfs dev dev
    mount --move . /
    exec chroot . /init
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for each in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sf "/proc/self/${each#*:}" "/dev/${each%:*}"; done
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
ldconfig
cd /project
date -s "@$(cat now)" >/dev/null
uname -srm
set --
while IFS= read -r each; do set -- "$@" "$each"; done <arguments
python3 -m pytest -q --color=no "$@" 2>&1
echo "pytest ended with status $?"
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod 755 "$root/root/init"
(cd "$root/root" && find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet) | zstd -q -1 >"$root/initrd"

# shellcheck disable=SC2086 # the words of a command
$qemu -smp 2 -m 4096 -kernel "$root/vmlinuz" -initrd "$root/initrd" -append "console=$console panic=-1 quiet" \
    -nographic -no-reboot -nic none </dev/null | tee "$root/log"
rm -f "$root/initrd"
status=$(sed -n 's/.*pytest ended with status \([0-9]*\).*/\1/p' "$root/log")
exit "${status:-1}"

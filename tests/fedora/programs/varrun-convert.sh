#!/usr/bin/bash
# Rules of added modules for /var/run, said once more for /run.
set -eu
active=/var/lib/selinux/$1/active/modules
grep -hs '^/var/run' "$active"/[2-9]*/*/cil >/dev/null || exit 0
mkdir -p "$active/400/extra_varrun"
grep -hs '^/var/run' "$active"/[2-9]*/*/cil | sed 's,^/var,,' >"$active/400/extra_varrun/cil"
echo cil >"$active/400/extra_varrun/lang_ext"

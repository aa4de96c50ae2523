"""An ordinary user for a test: known to passwd(5) and subuid(5) in a mount namespace of its own, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[2]
NAME = "composer"
UID = 4242
SUBORDINATES = "100000:65536"

# Everything the user needs is bound below /mnt: what lies above the tests' own directories may be root's alone.
_SCRIPT = """set -e
home=$1 files=$2; shift 2
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || : >/etc/$file
    mount --bind "$files/$file" /etc/$file
done
mount -t tmpfs -o mode=755 tmpfs /mnt
while [ "$1" != -- ]; do
    mkdir "/mnt/$1"
    mount --bind "$2" "/mnt/$1"
    shift 2
done
shift
BEFORE
exec env HOME=/mnt/home TMPDIR=/mnt/home PYTHONPATH=/mnt/project PYTHONDONTWRITEBYTECODE=1 \
    WHO sh -c 'cd /mnt/home && exec "$@"' sh "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where commands run, in a mount namespace each: /mnt/home, /mnt/project, and what `bound` adds (name -> directory).

    directory: existing; its home/ becomes the user's. subordinates: the part of /etc/subuid after the name; "" for none.
    before: shell commands that root runs first, in the namespace. around: a command that runs the command given after it,
    as root still. groups: the user's supplementary ones, for setpriv(1).
    """

    directory: Path
    subordinates: str = SUBORDINATES
    bound: Mapping[str, Path] = field(default_factory=dict)
    before: str = ""
    around: str = ""
    groups: str = "--clear-groups"

    def prefix(self, *, root: bool = False, flags: str = "") -> list[str]:
        """What to put before a command for it to run as the user, or as root on the same stage.

        flags: more of setpriv(1).
        """
        home, files = self.directory / "home", self.directory / "etc"
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, UID, UID)
        files.mkdir(exist_ok=True)
        entry = f"{NAME}:{self.subordinates}\n" if self.subordinates else ""
        (files / "passwd").write_text(Path("/etc/passwd").read_text() + f"{NAME}:x:{UID}:{UID}::/mnt/home:/bin/sh\n")
        (files / "group").write_text(Path("/etc/group").read_text() + f"{NAME}:x:{UID}:\n")
        for name in ("subuid", "subgid"):
            (files / name).write_text(entry)
        user = "" if root else f"--reuid={UID} --regid={UID} {self.groups}"
        script = _SCRIPT.replace("WHO", f"{self.around} setpriv {user} {flags} --").replace("BEFORE", self.before)
        bound = {"home": home, "project": PROJECT, **self.bound}
        words = [word for name, path in bound.items() for word in (name, str(path.resolve()))]
        start = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
        return [*start, str(home), str(files), *words, "--"]

    def run(self, *command: str, root: bool = False, flags: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix(root=root, flags=flags), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

"""A client machine: a disk made by `ostree admin`, booted by QEMU, reporting on its second serial port."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.rpmrepo import run

QEMU = "qemu-system-x86_64"
OS_NAME = "universe"
# What the machine's own 127.0.0.1 is in a guest on QEMU's user network.
HOST_IN_GUEST = "10.0.2.2"
KERNEL_ARGUMENTS = ("root=LABEL=sysroot", "rw", "console=ttyS0", "security=selinux", "selinux=1", "enforcing=0")
_SCRIPT = "var/universe-test.sh"


@dataclass(frozen=True, slots=True)
class Boot:
    """What one boot left. report: the lines below each "== TITLE" of the script; marker: those before, of the system's own
    unit: the deployments, failed units, mounts. arguments: of the BLS entry booted."""

    entry: str
    arguments: str
    report: Mapping[str, list[str]]
    marker: tuple[str, ...]
    console: str


@dataclass(frozen=True, slots=True)
class Machine:
    """image: a raw disk of one ext4 filesystem, no partitions and no boot loader: the harness reads the BLS entries."""

    image: Path

    def install(self, port: int, ref: str, *, size: int = 4 << 30) -> None:
        """Make the disk: pull the ref over HTTP from this machine's port, and deploy it."""
        with self.image.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-L", "sysroot", str(self.image))
        with self.mounted() as top:
            admin = ("ostree", "admin", f"--sysroot={top}")
            run("ostree", "admin", "init-fs", "--modern", str(top))
            run(*admin, "os-init", OS_NAME)
            repo = ("ostree", f"--repo={top}/ostree/repo")
            run(*repo, "config", "set", "sysroot.bootloader", "none")
            run(*repo, "remote", "add", "--no-gpg-verify", "origin", f"http://127.0.0.1:{port}", ref)
            run(*repo, "pull", "origin", ref)
            arguments = [f"--karg={each}" for each in KERNEL_ARGUMENTS]
            run(*admin, "deploy", f"--os={OS_NAME}", *arguments, f"origin:{ref}")
            run(*repo, "remote", "delete", "origin")
            run(*repo, "remote", "add", "--no-gpg-verify", "origin", f"http://{HOST_IN_GUEST}:{port}", ref)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """The disk's filesystem, mounted."""
        with tempfile.TemporaryDirectory() as place:
            run("mount", "-o", "loop", str(self.image), place)
            try:
                yield Path(place)
            finally:
                run("umount", place)

    def boot(self, script: str, *, timeout: float, enforcing: bool = False) -> Boot:
        """Boot what is first in the boot menu, run the shell script in it, and power off. AssertionError if it does not.

        enforcing: of SELinux, instead of what the boot menu says; the script, which has no label, does not run then.
        """
        with tempfile.TemporaryDirectory() as scratch:
            kernel, initrd, serial = Path(scratch, "kernel"), Path(scratch, "initrd"), Path(scratch, "serial")
            with self.mounted() as top:
                entries = [path.read_text() for path in (top / "boot/loader/entries").glob("*.conf")]
                entry = max(entries, key=lambda text: int(_field(text, "version")))
                for source, place in (("linux", kernel), ("initrd", initrd)):
                    # ostree writes paths as a boot loader that knows /boot alone reads them
                    shutil.copyfile(top / "boot" / _field(entry, source).lstrip("/"), place)
                place = top / "ostree/deploy" / OS_NAME / _SCRIPT
                place.write_text(f'#!/bin/sh\nsection() {{ echo "== $1"; shift; "$@" 2>&1; }}\n{script}')
                place.chmod(0o755)
            options = _field(entry, "options")
            if enforcing:
                # not one more behind it: libselinux takes the first
                options = options.replace("enforcing=0", "enforcing=1")
            command = [
                *(QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-no-reboot"),
                *("-display", "none", "-serial", "stdio", "-serial", f"file:{serial}"),
                *("-drive", f"file={self.image},if=virtio,format=raw,cache=unsafe"),
                *("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n"),
                *("-kernel", kernel, "-initrd", initrd),
                *("-append", f"{options} universe.test=poweroff"),
            ]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    timeout=timeout, check=False,
                )  # fmt: skip
                console = done.stdout.decode(errors="replace")
            except subprocess.TimeoutExpired as error:
                console = f"{(error.stdout or b'').decode(errors='replace')}\n(still running after {timeout} s)"
            report = serial.read_text(errors="replace")
            assert "UNIVERSE-MARKER-END" in report, f"{console[-6000:]}\n{report}"
            marker = tuple(line.rstrip() for line in report.partition("\n== ")[0].splitlines() if line.strip())
            return Boot(entry, _field(entry, "options"), _sections(report), marker, console)


def _field(entry: str, name: str) -> str:
    """Of a Boot Loader Specification entry."""
    return next(line.split(maxsplit=1)[1] for line in entry.splitlines() if line.split()[:1] == [name])


def _sections(report: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in report.splitlines():
        if line.startswith("UNIVERSE-MARKER-"):
            lines = []
        elif line.startswith("== "):
            lines = found.setdefault(line.removeprefix("== "), [])
        elif line.strip():
            lines.append(line.rstrip())
    return found

"""`compose lint` over commits and root directories, and the same rules at the end of a compose."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import REF, Done, Site

pytestmark = pytest.mark.root


def lint(site: Site, *arguments: str | Path) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "compose", "lint", *map(str, arguments), f"--cachedir={site.cachedir}"],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_a_commit(composed: Site) -> None:
    done = lint(composed, REF, f"--repo={composed.repo}")
    assert done.status == 0
    # the tiny tree has no initramfs, and says so in its treefile
    (kver,) = {line for line in done.stdout.splitlines() if "[initramfs]" in line}
    assert kver == "warning: /usr/lib/modules/6.1.0-tiny/initramfs.img: is missing [initramfs]"
    assert "error:" not in done.stdout
    done = lint(composed, REF, f"--repo={composed.repo}", "--strict", "--progress=json")
    assert done.status == 1
    assert (events(done.stderr)[-1]["event"], events(done.stderr)[-1]["exit_code"]) == ("error", 1)
    assert "/usr/lib/modules/6.1.0-tiny/initramfs.img: is missing [initramfs]" in events(done.stderr)[-1]["details"]
    assert events(lint(composed, REF, f"--repo={composed.repo}", "--progress=json").stderr)[-1]["outcome"] == "done"
    rows = json.loads(lint(composed, REF, f"--repo={composed.repo}", "--format=json").stdout)
    assert {"rule", "level", "path", "message", "advice"} == set(rows[0])
    assert json.loads(lint(composed, REF, f"--repo={composed.repo}", "--format=sarif").stdout)["runs"]
    done = lint(composed, REF, f"--repo={composed.repo}", "--ignore=nonsense")
    assert (done.status, "there is no such rule" in done.stderr) == (2, True)
    done = lint(composed, "absent", f"--repo={composed.repo}")
    assert (done.status, "has no commit absent" in done.stderr) == (1, True)


def test_a_commit_that_something_else_made(site: Site, tmp_path: Path) -> None:
    """The real ostree commits anything."""
    tree = tmp_path / "tree"
    for path in ("usr/etc", "etc", "var/lib", "usr/bin"):
        (tree / path).mkdir(parents=True)
    (tree / "var/lib/data").write_text("x")
    site.ostree("commit", "--branch=wrong", f"--tree=dir={tree}", "--add-metadata=ostree.bootable=true")
    done = lint(site, "wrong", f"--repo={site.repo}")
    assert done.status == 1
    rules = {line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines() if line.startswith("error:")}
    assert rules >= {"etc-usretc", "var-content", "kernel", "os-release", "baseimage-root", "api-base-directories"}


def test_a_root_directory(site: Site) -> None:
    tree = site.write_treefile()
    out = site.path / "out"
    subprocess.run(
        [sys.executable, "-m", "compose", "install", tree, out, f"--repo={site.repo}", f"--cachedir={site.cachedir}",
         "--postprocess"], check=True, capture_output=True,
    )  # fmt: skip
    assert lint(site, out / "rootfs").status == 0
    os.chmod(out / "rootfs/usr/share/hello", 0o777)
    # a commit would need room for its holes
    hole = out / "rootfs/usr/share/hello/hole"
    hole.touch()
    os.truncate(hole, 15 << 40)
    done = lint(site, out / "rootfs")
    assert "warning: /usr/share/hello: has mode 0777 [world-writable]" in done.stdout
    os.truncate(out / "rootfs/usr/lib/os-release", 15 << 40)
    done = lint(site, out / "rootfs")
    assert done.status == 2
    assert f"{out}/rootfs/usr/lib/os-release has 16492.7 GB, too much to look at" in done.stderr


def test_the_root_of_a_container_image(site: Site) -> None:
    """It has /etc where programs look for it."""
    tree = site.write_treefile(container=True, packages=["tiny-filesystem", "tiny-shell", "tiny-release"])
    out = site.path / "plain"
    subprocess.run(
        [sys.executable, "-m", "compose", "rootfs", tree, out, f"--cachedir={site.cachedir}"],
        check=True, capture_output=True,
    )  # fmt: skip
    done = lint(site, out, "--container")
    assert (done.status, "etc-usretc" in done.stdout) == (0, False), done.stdout
    (out / "usr/etc").mkdir()
    done = lint(site, out, "--container")
    assert (done.status, "error: /etc: exists, but defaults belong in /usr/etc [etc-usretc]" in done.stdout) == (
        1,
        True,
    )


def test_a_container_image(composed: Site, tmp_path: Path) -> None:
    out = f"oci:{tmp_path}/image:latest"
    composed.tool("container-encapsulate", REF, out, f"--repo={composed.repo}")
    done = lint(composed, out)
    # the same as in the commit, from whose view /var/tmp and the objects in /sysroot differ
    assert (done.status, "[initramfs]" in done.stdout, "error:" in done.stdout) == (0, True, False), done.stdout
    # what a Containerfile left behind
    root = tmp_path / "layer"
    (root / "var/tmp").mkdir(parents=True)
    (root / "var/tmp/left").write_text("x")
    # and what podman does: a place to mount something on
    (root / "run/systemd/resolve").mkdir(parents=True)
    (root / "run/systemd/resolve/stub-resolv.conf").touch()
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "layer.tar", "var", "run"], check=True)
    add_layer(tmp_path / "image", (tmp_path / "layer.tar").read_bytes())
    done = lint(composed, out)
    assert (done.status, [line for line in done.stdout.splitlines() if line.startswith("error:")]) == (
        1, ["error: /var: is not empty: tmp [var-content]"]
    )  # fmt: skip
    done = lint(composed, f"oci:{tmp_path}/absent")
    assert (done.status, "cannot open the OCI layout" in done.stderr) == (1, True)


def add_layer(layout: Path, data: bytes) -> None:
    """An uncompressed layer on top of the only image of a layout."""

    def put(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def read(row: dict[str, Any]) -> Any:
        return json.loads((layout / "blobs/sha256" / row["digest"].removeprefix("sha256:")).read_text())

    index = json.loads((layout / "index.json").read_text())
    manifest = read(index["manifests"][0])
    config = read(manifest["config"])
    layer = put(data)
    config["rootfs"]["diff_ids"].append(layer["digest"])
    manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer})
    manifest["config"] |= put(json.dumps(config).encode())
    index["manifests"][0] |= put(json.dumps(manifest).encode())
    (layout / "index.json").write_text(json.dumps(index))


def test_a_compose_that_breaks_a_rule_commits_nothing(site: Site) -> None:
    before = site.snapshot()
    script = ["mkdir -p /usr/lib/bootc/kargs.d; echo 'kargs = quiet' >/usr/lib/bootc/kargs.d/a.toml"]
    done = site.run(treefile=site.write_treefile(postprocess=script))
    assert done.status == 7
    assert "error: no client could use this tree: /usr/lib/bootc/kargs.d/a.toml: not TOML" in done.stderr
    assert "hint: write /usr/lib/bootc/kargs.d" in done.stderr
    assert site.snapshot() == before

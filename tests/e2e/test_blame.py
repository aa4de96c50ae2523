"""`compose blame`: each kind of maker, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site

pytestmark = pytest.mark.root


def blame(site: Site, *words: str) -> Done:
    command = [sys.executable, "-m", "compose", "blame", f"--repo={site.repo}", f"--ref={REF}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def made(site: Site) -> Site:
    (site.path / "motd").write_text("hello\n")
    scripts = ["echo x >/usr/share/by-script; echo more >>/etc/hello.conf"]
    site.write_treefile(postprocess=scripts, add_files=[["motd", "/usr/etc/motd"]])
    site.compose()
    return site


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/sh", "/usr/bin/sh: package tiny-shell-1-1.x86_64, requested at {treefile}:"),
        ("/usr/share/hello/made-by-post", "/usr/share/hello/made-by-post: %post of hello-"),
        ("/usr/share/by-script", "/usr/share/by-script: postprocess[0] of the treefile, requested at {treefile}:"),
        ("/etc/hello.conf", "/usr/etc/hello.conf: postprocess[0] of the treefile"),
        ("usr/etc/motd", "/usr/etc/motd: the compose itself (add-files), requested at {treefile}:"),
        ("/usr/share/rpm-ostree/treefile.json", "/usr/share/rpm-ostree/treefile.json: the compose itself (treefile)"),
        ("/usr/lib/passwd", "/usr/lib/passwd: the compose itself (passwd)"),
    ],
)
def test_who_made(made: Site, path: str, expected: str) -> None:
    done = blame(made, path)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(expected.format(treefile=made.treefile)), done.stdout


def test_in_each_kind_of_repository(composed: Site) -> None:
    assert blame(composed, "/usr/bin/sh").stdout.startswith("/usr/bin/sh: package tiny-shell-1-1.x86_64, requested at ")
    assert blame(composed, "/usr/share/hello/made-by-post").stdout.startswith(
        "/usr/share/hello/made-by-post: %post of "
    )


def test_programs_that_changed_it(made: Site) -> None:
    done = json.loads(blame(made, "/etc/hello.conf", "--format=json").stdout)
    assert [each["phase"] for each in done["changed"]][-1] == "postprocess[0]"
    assert all(each["status"] == 0 and each["seconds"] >= 0 for each in done["changed"])


def parts(site: Site, *words: str | Path) -> None:
    command = [sys.executable, "-m", "compose", *map(str, words), f"--cachedir={site.cachedir}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_a_compose_in_parts(site: Site) -> None:
    scripts = ["echo x >/usr/share/by-script; echo x >/usr/share/changed"]
    tree = site.write_treefile(postprocess=scripts)
    rootfs = site.path / "out/rootfs"
    parts(site, "install", tree, rootfs.parent, f"--repo={site.repo}")
    (rootfs / "usr/share/by-hand").write_text("x")
    (rootfs / "usr/share/changed").write_text("by hand")
    parts(site, "postprocess", rootfs, tree)
    (rootfs / "usr/share/hello/made-by-post").chmod(0o600)
    parts(site, "commit", tree, rootfs, f"--repo={site.repo}")
    said = {
        "/usr/bin/sh": "package tiny-shell-1-1.x86_64, requested at",
        "/usr/share/made-by-pretrans": "%pretrans of tiny-filesystem-1-1.noarch",
        "/usr/share/by-script": "postprocess[0] of the treefile, requested at",
        "/usr/share/by-hand": "changed in the root directory after compose install",
        "/usr/share/changed": "changed in the root directory after compose install",
        "/usr/share/hello/made-by-post": "changed in the root directory after compose install",
        "/usr/lib/passwd": "the compose itself (passwd)",
    }
    for path, expected in said.items():
        assert blame(site, path).stdout.startswith(f"{path}: {expected}"), path
    changed = blame(site, "/usr/share/changed").stdout
    assert "changed by postprocess[0] of the treefile" in changed


def test_a_root_that_something_else_made(site: Site) -> None:
    tree = site.write_treefile(check_passwd={"type": "none"}, check_groups={"type": "none"})
    rootfs = site.path / "out/rootfs"
    parts(site, "install", tree, rootfs.parent, f"--repo={site.repo}", "--postprocess")
    record = rootfs.with_name("compose-records.json.zst")
    record.write_bytes(b"damaged")
    command = [
        sys.executable,
        "-m",
        "compose",
        "commit",
        tree,
        rootfs,
        f"--repo={site.repo}",
        f"--cachedir={site.cachedir}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, f"{record} is damaged" in done.stderr) == (2, True)
    for path in (record, rootfs.with_name("compose.json")):
        path.unlink()
    parts(site, "commit", tree, rootfs, f"--repo={site.repo}")
    assert blame(site, "/usr/bin/sh").stdout == (
        "/usr/bin/sh: the root directory that was committed (not made by compose install)\n"
    )


def test_what_is_not_there(made: Site) -> None:
    done = blame(made, "/nowhere")
    assert done.status == 2
    assert "has no /nowhere" in done.stderr


def test_records_go_with_their_commit(made: Site) -> None:
    place = made.repo / "extensions/compose"
    first = made.head()
    assert sorted(os.listdir(place)) == [f"{first}.json.zst", f"{first}.sources.tar.zst"]
    made.ostree("refs", "--delete", REF)
    made.ostree("prune", "--refs-only")
    made.write_treefile("tiny-odd")
    made.compose("--no-parent")
    assert sorted(os.listdir(place)) == [f"{made.head()}.json.zst", f"{made.head()}.sources.tar.zst"]
    made.ostree("fsck")


def test_damaged_and_missing_records(made: Site) -> None:
    (record,) = (made.repo / "extensions/compose").glob("*.json.zst")
    record.write_bytes(b"garbage")
    assert "is damaged" in blame(made, "/usr").stderr
    record.unlink()
    done = blame(made, "/usr")
    assert done.status == 1
    assert "has no records of" in done.stderr


def test_names_do_not_command_a_terminal(site: Site) -> None:
    site.compose()
    site.write_treefile(postprocess=['echo >"/usr/share/$(printf "a\\033[31m")"'])
    site.compose()
    name = "/usr/share/a\x1b[31m"
    for done in (
        site.tool("blame", name, f"--repo={site.repo}", f"--ref={REF}"),
        site.tool("diff", f"{REF}^", REF, f"--repo={site.repo}"),
    ):
        assert "\x1b" not in done.stdout
    assert r"/usr/share/a\x1b[31m" in site.tool("blame", name, f"--repo={site.repo}", f"--ref={REF}").stdout

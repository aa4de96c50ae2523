"""`compose diff`, with `ostree diff` as judge of the paths."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import make_site
from tests.e2e.tiny import REF, SPECS, Done, Site, release
from tests.support.rpmrepo import Keys, run

pytestmark = pytest.mark.root

RELABEL = "echo '/usr/share/hello.* -- system_u:object_r:etc_t:s0' >>/etc/selinux/tiny/contexts/files/file_contexts"
UNITS = """cd /usr/lib/systemd/system 2>/dev/null || { mkdir -p /usr/lib/systemd/system; cd /usr/lib/systemd/system; }
for unit in stays on off masked $more; do
    printf '[Service]\\nExecStart=true\\n[Install]\\nWantedBy=multi-user.target\\n' >$unit.service
done
mkdir -p /etc/systemd/system/multi-user.target.wants
link() { ln -s /usr/lib/systemd/system/$1.service /etc/systemd/system/multi-user.target.wants/$1.service; }
link stays
"""
FIRST = [
    "mkdir /usr/share/kind",
    "more=gone\n" + UNITS + "link off",
    "echo 'goes:x:801:801::/:/usr/bin/true' >>/etc/passwd",
]
SECOND = [
    "echo more >/usr/share/new",
    ": >/usr/share/kind",
    RELABEL,
    UNITS + "echo >new.socket; link on; ln -s /dev/null /etc/systemd/system/masked.service",
    "echo 'new:x:802:802::/var/new:/usr/bin/true' >>/etc/passwd; echo 'new:x:802:hello' >>/etc/group",
]
CHANGELOG = """
%changelog
* Wed Nov 25 2026 Some One <one@example.com> - 2.0-1
- Say more | with a pipe
- And `ticks`

* Mon Nov 02 2026 Some One <one@example.com> - 1.9-1
- Before that
"""


def diff(site: Site, *words: str) -> Done:
    command = [sys.executable, "-m", "compose", "diff", f"--repo={site.repo}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, packages: Path, keys: Keys) -> Site:
    """Two commits: the second has a package more, two less and one newer, programs that are read-only, and changes of scripts.
    Not to be changed."""
    path = tmp_path_factory.mktemp("diff")
    site = make_site(path / "site", Path(shutil.copytree(packages, path / "mine")), keys, path / "cache")
    site.write_treefile("tiny-odd", automatic_version_prefix="1", postprocess=FIRST,
                        remove_files=["usr/bin/hello-capable"])  # fmt: skip
    site.compose()
    release(site, keys, path, spec=(SPECS / "hello-lib.spec").read_text() + CHANGELOG)
    site.write_treefile("conflict-a", automatic_version_prefix="1", readonly_executables=True, preserve_passwd=False,
                        postprocess=SECOND, remove_files=["usr/bin/hello-setuid"])  # fmt: skip
    site.compose()
    return site


def test_what_a_client_gets(two: Site) -> None:
    done = diff(two, f"{REF}^", REF)
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "version: 1 -> 1.1"
    changed = "label system_u:object_r:usr_t:s0 -> system_u:object_r:etc_t:s0"
    expected = {
        "added: conflict-a.noarch 1.0-1 (+11 B)",
        "upgraded: hello-lib.noarch 1.0-1 -> 2.0-1 (0)",
        "unit added: new.socket",
        "unit removed: gone.service",
        "unit enabled: on.service",
        "unit disabled: off.service",
        "unit masked: masked.service",
        "user added: new (id=802, gid=802, home=/var/new, shell=/usr/bin/true)",
        "user removed: goes (id=801, gid=801, home=/, shell=/usr/bin/true)",
        "group added: new (id=802, members=['hello'])",
        "privileges removed: /usr/bin/hello-setuid (setuid to 0)",
        "privileges added: /usr/bin/hello-capable (cap_net_raw=ep)",
        "changelog of hello-lib-2.0-1.noarch:",
        "  * 2026-11-25 Some One <one@example.com> - 2.0-1",
        "  - Say more | with a pipe",
        "~ /usr/share/kind (kind directory -> file)",
        "~ /usr/bin/cat (mode 0755 -> 0555)",
        f"~ /usr/share/hello/one ({changed})",
        "+ /usr/share/new (file 0644 0:0 system_u:object_r:usr_t:s0 5 bytes)",
        "- /usr/share/locale/de (directory 0755 0:0 system_u:object_r:usr_t:s0)",
    }
    assert expected - set(lines) == set()


def test_a_bare_repository_reads_the_same(two: Site, tmp_path: Path) -> None:
    bare = replace(two, path=tmp_path / "other")
    bare.path.mkdir()
    bare.init("bare")
    bare.ostree("pull-local", "--depth=1", str(two.repo), REF)
    assert diff(bare, f"{REF}^", REF) == diff(two, f"{REF}^", REF)


def test_the_paths_are_those_ostree_names(two: Site) -> None:
    document = json.loads(diff(two, f"{REF}^", REF, "--format=json").stdout)
    # of directories ostree tells only that they come and go
    ours = {
        ("A" if each["before"] is None else "D" if each["after"] is None else "M", each["path"])
        for each in document["paths"]
        if None in (each["before"], each["after"]) or each["after"]["kind"] != "directory"
    }
    # and of what comes with one, or goes with one, nothing
    alone = {(kind, path) for kind, path in ours if (kind, str(Path(path).parent)) not in ours}
    theirs = {tuple(line.split(maxsplit=1)) for line in two.ostree("diff", f"{REF}^", REF).splitlines()}
    assert alone == theirs
    assert len(ours) > len(alone) > 5


def test_sizes(two: Site) -> None:
    found = json.loads(diff(two, f"{REF}^", REF, "--format=json", "--no-paths").stdout)
    trees = []
    for revision in (f"{REF}^", REF):
        out = two.path / revision.rpartition("/")[2]
        two.ostree("checkout", "--user-mode", revision, str(out))
        trees.append(sum(path.lstat().st_size for path in out.rglob("*") if path.is_file() and not path.is_symlink()))
    assert found["files_delta"] == trees[1] - trees[0]
    assert found["paths"] == []
    rpms = list(two.packages.glob("*.rpm"))
    sizes = {
        name: int(size)
        for name, size in (
            line.rsplit("=", 1)
            for line in run("rpm", "-qp", "--nosignature", "--qf", "%{NEVRA}=%{SIZE}\\n", *map(str, rpms)).splitlines()
        )
    }
    listed = two.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist")
    present = re.findall(r"\('([^']+)', '\d+', '([^']+)', '([^']+)', '([^']+)'\)", listed)
    assert len(present) > 5
    assert found["after"]["installed"] == sum(sizes[f"{name}-{v}-{r}.{arch}"] for name, v, r, arch in present)


def test_release_notes(two: Site) -> None:
    text = diff(two, f"{REF}^", REF, "--format=markdown").stdout
    assert text.startswith("## `1` to `1.1`\n\nSize: ")
    assert "| upgraded | `hello-lib.noarch` | `1.0-1` | `2.0-1` | 0 |" in text
    assert "<details><summary>hello-lib-2.0-1.noarch</summary>\n\n```\n* 2026-11-25" in text
    assert "- `unit enabled: on.service`" in text
    assert "- `user added: new (id=802, gid=802, home=/var/new, shell=/usr/bin/true)`" in text
    assert "- `privileges added: /usr/bin/hello-capable (cap_net_raw=ep)`" in text
    assert "~ /usr/bin/cat (mode 0755 -> 0555)" in text
    assert "~ /usr/bin/cat" not in diff(two, f"{REF}^", REF, "--format=markdown", "--no-paths").stdout


def test_only_labels(two: Site) -> None:
    lines = diff(two, f"{REF}^", REF, "--only=label").stdout.splitlines()[1:]
    assert lines
    assert all("; label" in line or "(label" in line for line in lines)


@pytest.mark.parametrize("stripped", [(f"{REF}^",), (f"{REF}^", REF)])
def test_packages_of_commits_without_a_list(two: Site, tmp_path: Path, stripped: tuple[str, ...]) -> None:
    """`ostree commit` leaves none; the databases are in the trees."""
    other = replace(two, path=tmp_path / "other")
    other.path.mkdir()
    other.init("archive")
    other.ostree("pull-local", "--depth=1", str(two.repo), REF)
    for number, revision in enumerate(stripped):
        other.ostree("commit", f"--branch=plain{number}", f"--tree=ref={revision}")
    after = "plain1" if len(stripped) > 1 else REF
    wanted = json.loads(diff(two, f"{REF}^", REF, "--format=json").stdout)
    found = json.loads(diff(other, "plain0", after, "--format=json").stdout)
    assert len(wanted["packages"]) > 3
    for key in ("packages", "sizes", "changelogs"):
        assert found[key] == wanted[key]


def test_packages_that_nobody_knows(two: Site, tmp_path: Path) -> None:
    other = replace(two, path=tmp_path / "other")
    other.path.mkdir()
    other.init("archive")
    for number in range(2):
        (other.path / "tree").mkdir(exist_ok=True)
        (other.path / "tree/file").write_text(f"{number}")
        other.ostree("commit", f"--branch=plain{number}", f"--tree=dir={other.path}/tree")
    done = diff(other, "plain0", "plain1")
    assert done.stdout.startswith("packages: not known")
    assert json.loads(diff(other, "plain0", "plain1", "--format=json").stdout)["packages"] is None


def test_of_the_same_commit_there_is_nothing(two: Site) -> None:
    assert diff(two, REF, REF).stdout == ""


def test_a_commit_that_is_not_there(two: Site) -> None:
    done = diff(two, "nowhere", REF)
    assert done.status != 0
    assert "has no commit nowhere" in done.stderr

"""`compose plan`, with the compose that follows as judge."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from compose.cli.flags import UNCHANGED
from tests.e2e.conftest import make_site
from tests.e2e.tiny import REF, SPECS, Done, Site, release
from tests.support.rpmrepo import Keys, index, run

pytestmark = pytest.mark.root

_SPEC = (SPECS / "hello-lib.spec").read_text()
# another %post, and one more account
_POST = "%post\necho 'of a | pipe and ``` fences'\n\n%install\n"
_INSTALL = """mkdir -p %{buildroot}/usr/lib/sysusers.d %{buildroot}/usr/share
echo 'u hello-lib 500' >%{buildroot}/usr/lib/sysusers.d/lib.conf
head -c 100000 /dev/zero >%{buildroot}/usr/share/big
"""
_FILES = "%files\n/usr/lib/sysusers.d/lib.conf\n/usr/share/big\n"
_LOG = "\n%changelog\n* Mon Jan 05 2026 Tess <tess@example.com> - 2.0-1\n- A new lib, with a `fence`\n"
LIB = _SPEC.replace("%install\n", _POST + _INSTALL).replace("%files\n", _FILES) + _LOG
UPDATEINFO = """<?xml version="1.0"?>
<updates><update type="security"><id>TINY-2026-1</id><title>t</title><severity>Critical</severity>
<issued date="2026-01-01 00:00:00"/>
<references><reference type="cve" id="CVE-2026-1" href="https://example.com/1" title="CVE-2026-1"/></references>
<pkglist><collection><package name="hello-lib" version="2.0" release="1" epoch="0" arch="noarch">
<filename>hello-lib-2.0.rpm</filename></package></collection></pkglist></update></updates>
"""


def plan(site: Site, *flags: str, status: int = 0) -> Done:
    return site.tool("plan", site.treefile, f"--repo={site.repo}", f"--cachedir={site.cachedir}", "--progress=none",
                     *flags, status=status)  # fmt: skip


def document(site: Site, *flags: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plan(site, "--format=json", *flags).stdout)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packages: Path, keys: Keys) -> Site:
    """A commit, and after it another build of a package, and another treefile. Not to be changed."""
    path = tmp_path_factory.mktemp("plan")
    mine = Path(shutil.copytree(packages, path / "mine"))
    site = make_site(path / "site", mine, keys, path / "cache")
    (site.path / "motd").write_text("one")
    site.write_treefile("conflict-a", add_files=[["motd", "/usr/etc/motd"]])
    site.compose()
    release(site, keys, path, spec=LIB)
    (path / "updateinfo.xml").write_text(UPDATEINFO)
    run("modifyrepo_c", str(path / "updateinfo.xml"), str(mine / "repodata"))
    (site.path / "motd").write_text("two")
    site.write_treefile("tiny-odd", add_files=[["motd", "/usr/etc/motd"]], documentation=False)
    return site


@pytest.fixture
def changed(made: Site, tmp_path: Path) -> Site:
    """A copy of it, with a cache of its own."""
    shutil.copytree(made.path, tmp_path / "site", symlinks=True)
    shutil.copytree(made.cachedir, tmp_path / "cache", symlinks=True)
    return Site(tmp_path / "site", made.packages, made.key, tmp_path / "cache")


def test_nothing_changed(moving: Site) -> None:
    first = plan(moving).stdout
    assert first.startswith(f"{REF}: a first commit\nwhy: not known: there is no previous commit\n")
    assert "10 added" in first or "added; " in first
    moving.compose()
    assert plan(moving).stdout == f"{REF}: nothing changed since {moving.head()[:12]}\n"
    plan(moving, "--unchanged-exit-77", status=UNCHANGED)
    assert moving.run("--unchanged-exit-77").status == UNCHANGED
    assert moving.run().status == 0


def test_what_changes_is_what_the_compose_then_changes(changed: Site) -> None:
    before = changed.snapshot()
    found = document(changed)
    assert changed.snapshot() == before
    assert found["changed"]
    assert found["previous"] == changed.head()
    told = [[each["change"], each["before"], each["after"]] for each in found["packages"]]
    assert told == [
        ["added", None, "tiny-odd-1-1.noarch"],
        ["added", None, "tiny-weak-1-1.noarch"],
        ["removed", "conflict-a-1.0-1.noarch", None],
        ["upgraded", "hello-lib-1.0-1.noarch", "hello-lib-2.0-1.noarch"],
    ]
    lib = found["packages"][-1]
    rpms = {path: changed.packages / path for path in ("hello-lib-2.0.rpm", "tiny-odd.rpm", "tiny-weak.rpm")}
    assert lib["size"] == int(run("rpm", "-qp", "--qf", "%{SIZE}", str(rpms["hello-lib-2.0.rpm"])))
    assert (lib["size_before"], lib["repo"]) == (len("hello-lib\n"), "tiny")
    assert found["download"] == sum(path.stat().st_size for path in rpms.values())
    (disk,) = found["disk"]
    assert disk["needed"] > found["download"] + 100_000
    assert sorted(found["unread"]) == ["hello-lib-2.0-1.noarch", "tiny-odd-1-1.noarch", "tiny-weak-1-1.noarch"]
    assert found["scripts"] == found["accounts"] == []

    downloaded = document(changed, "--download")
    assert downloaded["download"] == 0
    assert downloaded["unread"] == []
    ((changelog),) = downloaded["changelogs"]
    assert changelog["packages"] == ["hello-lib-2.0-1.noarch"]
    assert [each["text"] for each in changelog["entries"]] == ["- A new lib, with a `fence`"]
    ((script),) = downloaded["scripts"]
    assert (script["package"], script["phase"], script["before"]) == ("hello-lib-2.0-1.noarch", "%post", None)
    assert [(each["kind"], each["name"], each["before"], each["after"]) for each in downloaded["accounts"]] == [
        ("user", "hello-lib", None, 500),
        ("group", "hello-lib", None, 500),
    ]
    assert [each["id"] for each in downloaded["advisories"]] == ["TINY-2026-1"]

    result = changed.path / "result.json"
    changed.compose(f"--write-composejson-to={result}")
    names = ("added", "removed", "upgraded", "downgraded")
    assert [(each["change"], (each["after"] or each["before"]).rsplit("-", 2)[0]) for each in found["packages"]] == [
        (names[kind], name) for name, kind, _ in json.loads(result.read_text())["pkgdiff"]
    ]
    after = document(changed)
    assert (after["changed"], after["packages"]) == (False, [])
    assert after["size"] == found["size"]


def test_only_what_changed_is_downloaded(changed: Site) -> None:
    shutil.rmtree(changed.cachedir)
    found = document(changed, "--download")
    assert found["unread"] == []
    assert {path.name for path in changed.cachedir.glob("rpms/*/*.rpm")} == {
        "hello-lib-2.0.rpm", "tiny-odd.rpm", "tiny-weak.rpm",
    }  # fmt: skip
    assert found["download"] > 0


def test_which_input_changed(changed: Site) -> None:
    causes = {(row["change"]["kind"], row["change"]["name"]): row["place"] for row in document(changed)["causes"]}
    lines = changed.treefile.read_text().splitlines()

    def place(text: str) -> str:
        number = next(number for number, line in enumerate(lines, 1) if text in line)
        return f"{changed.treefile}:{number}:"

    assert causes.pop(("treefile", "documentation")).startswith(place('"documentation"'))
    assert causes.pop(("file", "add-files motd")).startswith(place('"motd"'))
    assert causes.pop(("treefile", "packages")).startswith(place('"tiny-odd"'))
    assert {kind for kind, _ in causes} == {"package"}
    assert ("package", "hello-lib-2.0-1.noarch") in causes
    text = plan(changed).stdout
    assert "packages: + tiny-odd, - conflict-a (" in text
    assert "documentation: not set -> false (" in text
    assert "file add-files motd: changed (" in text


def test_another_rpm_of_the_same_version(moving: Site, keys: Keys, tmp_path: Path) -> None:
    moving.compose()
    (moving.packages / "hello-lib.rpm").unlink()
    release(moving, keys, tmp_path, version="1.0", spec=LIB)
    found = document(moving)
    assert [(each["change"], each["after"]) for each in found["packages"]] == [("rebuilt", "hello-lib-1.0-1.noarch")]
    assert "= hello-lib.noarch 1.0-1 (tiny, +0.1 MB" in plan(moving).stdout


def test_a_commit_without_record(changed: Site) -> None:
    (kept,) = (changed.repo / "extensions/compose").glob("*.json.zst")
    kept.unlink()
    text = plan(changed).stdout
    assert f"why: not known: {changed.repo} has no records of {changed.head()}" in text
    assert "+ tiny-odd.noarch 1-1 (tiny" in text


def test_ids_that_are_not_locked(changed: Site) -> None:
    ids = changed.path / "ids.yaml"
    ids.write_text("compose-ids: 1\nusers: {hello: 701}\ngroups: {hello: 700}\n")
    changed.write_treefile("tiny-odd", id_lock="ids.yaml")
    text = plan(changed, "--download").stdout
    assert "  user hello: id 700 -> 701\n" in text
    assert "  new user hello-lib, id 500, declared by hello-lib-2.0-1.noarch; not in id-lock: " in text


def test_markdown(changed: Site) -> None:
    text = plan(changed, "--format=markdown", "--download").stdout
    assert text.startswith(f"## `{REF}`: a new commit after {changed.head()[:12]}\n")
    assert "| upgraded | `hello-lib.noarch` | `1.0-1` | `2.0-1` | `tiny` | +0.1 MB |" in text
    assert "````diff\n" in text
    assert "+echo 'of a | pipe and ``` fences'" in text
    assert "<summary>hello-lib-2.0-1.noarch</summary>" in text
    assert "- A new lib, with a `fence`\n" in text
    assert "- `TINY-2026-1 (critical): hello-lib-2.0-1.noarch, CVE-2026-1`" in text


def test_of_a_lockfile(changed: Site) -> None:
    """What it has is in the plan; what it lacks is said to be unknown, not to be nothing."""
    lock = changed.path / "lock.yaml"
    changed.tool("lock", changed.treefile, f"--lockfile={lock}", f"--cachedir={changed.cachedir}")
    text = plan(changed, f"--lockfile={lock}").stdout
    assert "^ hello-lib.noarch 1.0-1 -> 2.0-1 (tiny" in text
    assert "\nsecurity advisories:\n  TINY-2026-1 (critical): hello-lib-2.0-1.noarch, CVE-2026-1\n" in text
    assert document(changed, f"--lockfile={lock}")["advisories"] == document(changed)["advisories"]
    lock.write_text(re.sub(r"(?s)    advisories:.*", "", lock.read_text()))
    unknown = "not known: the lockfile lacks them (compose lock update --keep adds them)"
    assert f"\nsecurity advisories: {unknown}\n" in plan(changed, f"--lockfile={lock}").stdout
    text = plan(changed, f"--lockfile={lock}", "--format=markdown").stdout
    assert f"\nSecurity advisories: {unknown}.\n" in text
    assert document(changed, f"--lockfile={lock}")["advisories"] is None


def test_the_repository_of_the_packages_is_gone(moving: Site) -> None:
    moving.compose()
    index(moving.packages)
    moving.write_repo(baseurl="file:///nonexistent")
    assert "metadata" in plan(moving, status=4).stderr

"""Where packages and files come from besides `packages`: groups, RPM files, layers; and what repositories say of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.listing import difference, listing
from tests.e2e.tiny import BASE, EPOCH, REF, Site
from tests.support.rpmrepo import Server, run

pytestmark = pytest.mark.root

MANDATORY = "".join(f'<packagereq type="mandatory">{name}</packagereq>' for name in BASE)
COMPS = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps>
 <group><id>tiny-core</id><name>Core</name><default>true</default><uservisible>true</uservisible>
  <packagelist>{MANDATORY}<packagereq type="optional">tiny-weak</packagereq></packagelist></group>
 <environment><id>tiny-environment</id><name>Tiny</name><grouplist><groupid>tiny-core</groupid></grouplist></environment>
</comps>
"""

UPDATEINFO = """<?xml version="1.0" encoding="UTF-8"?>
<updates>
 <update from="a@example.com" status="final" type="security" version="2">
  <id>TINY-2026-1</id><title>hello</title><severity>Important</severity>
  <references>
   <reference href="https://example.com/CVE-2026-1" id="CVE-2026-1" type="cve" title="CVE-2026-1 hello"/>
   <reference href="https://example.com/bug" id="7" type="bugzilla" title="a bug"/>
  </references>
  <pkglist><collection short="c"><name>c</name>
   <package name="hello" version="1.0" release="1" epoch="0" arch="noarch"><filename>hello.rpm</filename></package>
   <package name="other" version="1.0" release="1" epoch="0" arch="noarch"><filename>other.rpm</filename></package>
  </collection></pkglist>
 </update>
 <update from="a@example.com" status="final" type="security" version="2">
  <id>TINY-2026-2</id><title>another build of hello</title><severity>Low</severity>
  <pkglist><collection short="c"><name>c</name>
   <package name="hello" version="0.9" release="1" epoch="0" arch="noarch"><filename>hello.rpm</filename></package>
  </collection></pkglist>
 </update>
 <update from="a@example.com" status="final" type="bugfix" version="2">
  <id>TINY-2026-3</id><title>no security</title>
  <pkglist><collection short="c"><name>c</name>
   <package name="hello" version="1.0" release="1" epoch="0" arch="noarch"><filename>hello.rpm</filename></package>
  </collection></pkglist>
 </update>
</updates>
"""


@pytest.fixture(scope="session")
def rich(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny repository with groups and advisories."""
    directory = tmp_path_factory.mktemp("rich") / "packages"
    shutil.copytree(packages, directory)
    (directory / "comps.xml").write_text(COMPS)
    (directory / "updateinfo.xml").write_text(UPDATEINFO)
    shutil.rmtree(directory / "repodata")
    run("createrepo_c", "--quiet", "-g", "comps.xml", str(directory))
    run("modifyrepo_c", "--mdtype=updateinfo", str(directory / "updateinfo.xml"), str(directory / "repodata"))
    return directory


@pytest.fixture
def rich_site(site: Site, rich: Path) -> Site:
    site.write_repo(baseurl=rich.as_uri())
    return site


def compose(site: Site, *flags: str, **keys: object) -> None:
    site.write_treefile(**keys)
    site.compose(*flags, "--force-nocache", SOURCE_DATE_EPOCH=str(EPOCH))


@pytest.mark.parametrize("spec", ["@tiny-core", "@tiny-environment", "@^tiny-environment"])
def test_a_group_is_its_packages(rich_site: Site, spec: str) -> None:
    compose(rich_site)
    before = listing(rich_site, REF)
    compose(rich_site, packages=[spec])
    assert difference(before, listing(rich_site, REF)) == ["~ /usr/share/rpm-ostree/treefile.json content"]


def test_a_group_is_resolved_into_the_lock(rich_site: Site) -> None:
    treefile = rich_site.write_treefile(packages=["@tiny-core"])
    lock = rich_site.path / "tiny.lock.yaml"
    run(sys.executable, "-m", "compose", "lock", str(treefile), f"--cachedir={rich_site.cachedir}")
    assert lock.read_text().count('"specs": ["@tiny-core"]') == len(BASE)
    # the group may change: what is locked does not
    rich_site.compose(f"--lockfile={lock}")


def test_groups_that_are_not_there_are_all_told(rich_site: Site) -> None:
    rich_site.write_treefile(packages=["@tiny-cor", "@^tiny-core", "hello"])
    done = rich_site.run()
    assert done.status == 3
    assert "tiny.yaml:7:5: there is no group '@tiny-cor'" in done.stderr
    assert "did you mean tiny-core" in done.stderr
    assert "there is no group '@^tiny-core'" in done.stderr


def test_advisories_that_the_packages_fix(rich_site: Site) -> None:
    compose(rich_site)
    told = rich_site.ostree("show", REF, "--print-metadata-key=rpmostree.advisories")
    # kind 1 is security, severity 3 important
    assert told.replace(" ", "").strip() == (
        "[('TINY-2026-1',uint321,uint323,['hello-1.0-1.noarch'],"
        "{'cve_references':<[('https://example.com/CVE-2026-1','CVE-2026-1hello')]>})]"
    )
    inline = rich_site.head()
    compose(rich_site, advisories_metadata="disabled")
    assert "rpmostree.advisories" not in rich_site.ostree("show", "--raw", REF)
    compose(rich_site, advisories_metadata="detached")
    assert rich_site.head() != inline
    assert "TINY-2026-1" in rich_site.ostree("show", REF, "--print-detached-metadata-key=rpmostree.advisories")


@pytest.mark.parametrize("kind", ["path", "url"])
def test_an_rpm_that_is_in_no_repository(site: Site, packages: Path, kind: str) -> None:
    """It is pinned by its digest: the unsigned one is taken too."""
    rpm = packages / "unsigned.rpm"
    digest = hashlib.sha256(rpm.read_bytes()).hexdigest()
    server = Server(packages)
    try:
        shutil.copy(rpm, site.path / "own.rpm")
        where = {"path": "own.rpm"} if kind == "path" else {"url": f"{server.url}/unsigned.rpm"}
        site.write_treefile(rpm_files=[{**where, "sha256": digest}])
        site.compose()
        assert "'unsigned'" in site.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist")
        site.write_treefile(rpm_files=[{**where, "sha256": "0" * 64}])
        done = site.run()
        assert done.status == 5
        assert f"has the sha256 {digest}, the treefile says 0000" in done.stderr
        assert "tiny.yaml:" in done.stderr
    finally:
        server.close()


@pytest.fixture
def layered(site: Site, tmp_path: Path) -> Site:
    """Two commits to lay over: one with a new file, one that changes a packaged one."""
    for name, path in (("extra", "usr/share/extra"), ("override", "usr/etc/hello.conf")):
        tree = tmp_path / name
        (tree / path).parent.mkdir(parents=True)
        (tree / path).write_text(name)
        (tree / path).chmod(0o600)
        site.ostree("commit", f"--branch=layer/{name}", f"--tree=dir={tree}", "--owner-uid=0", "--owner-gid=0")
    return site


def test_layers(layered: Site) -> None:
    compose(layered)
    before = listing(layered, REF)
    compose(layered, ostree_layers=["layer/extra"], ostree_override_layers=["layer/override"])
    assert difference(before, listing(layered, REF)) == [
        "~ /usr/etc/hello.conf mode 00644 00600",
        "+ /usr/share/extra -00600 0:0 usr_t",
        "~ /usr/share/rpm-ostree/treefile.json content",
    ]
    assert layered.ostree("cat", REF, "/usr/etc/hello.conf") == "override"


def test_a_layer_that_changed_is_composed_anew(layered: Site, tmp_path: Path) -> None:
    layered.write_treefile(ostree_layers=["layer/extra"])
    layered.compose()
    assert "No apparent changes" in layered.compose()
    # another commit of the same tree is no change, another tree is
    layered.ostree("commit", "--branch=layer/extra", "--tree=ref=layer/extra", "--subject=again")
    assert "No apparent changes" in layered.compose()
    (tmp_path / "extra/usr/share/extra").write_text("new")
    layered.ostree("commit", "--branch=layer/extra", f"--tree=dir={tmp_path / 'extra'}")
    assert REF in layered.compose()


def test_a_layer_of_another_repository(layered: Site, tmp_path: Path) -> None:
    other = tmp_path / "layers"
    layered.repo.rename(other)
    layered.init()
    compose(layered, f"--layer-repo={other}", ostree_layers=["layer/extra"])
    assert layered.ostree("cat", REF, "/usr/share/extra") == "extra"
    done = layered.run()
    assert done.status != 0
    assert "ostree-layers:" in done.stderr and "has no commit layer/extra" in done.stderr


def test_a_layer_that_conflicts(layered: Site) -> None:
    layered.write_treefile(ostree_layers=["layer/override"])
    before = layered.snapshot()
    done = layered.run()
    assert done.status != 0
    assert "layer/override: /etc/hello.conf differs from the one in hello-1.0-1.noarch" in done.stderr
    assert "hint: name it in ostree-override-layers" in done.stderr
    assert layered.snapshot() == before


def test_cliwrap_needs_a_client(site: Site, layered: Site, tmp_path: Path) -> None:
    done = site.run(treefile=site.write_treefile(cliwrap=True))
    assert "cliwrap: the tree has no /usr/bin/rpm-ostree" in done.stderr
    client = tmp_path / "client/usr/bin/rpm-ostree"
    client.parent.mkdir(parents=True)
    client.write_text("#!/bin/sh\n")
    client.chmod(0o755)
    site.ostree(
        "commit", "--branch=layer/client", f"--tree=dir={tmp_path / 'client'}", "--owner-uid=0", "--owner-gid=0"
    )
    compose(site, ostree_layers=["layer/client"])
    before = listing(site, REF)
    compose(site, ostree_layers=["layer/client"], cliwrap_binaries=["dnf", "rpm"])
    assert difference(before, listing(site, REF)) == [
        "+ /usr/bin/dnf -00755 0:0 bin_t",
        "~ /usr/share/rpm-ostree/treefile.json content",
    ]


def test_packages_of_an_include_are_dropped(site: Site) -> None:
    site.write_treefile("conflict-a", name="base.yaml", ref=None)
    site.treefile.write_text(json.dumps({"include": "base.yaml", "ref": REF, "packages-remove": ["conflict-a"]}))
    site.compose()
    assert "conflict-a" not in site.ostree("show", REF, "--print-metadata-key=rpmostree.rpmdb.pkglist")

"""What a good compose leaves, and what each flag changes about it. ostree itself says what is in the commit."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import BASE, EPOCH, REF, Site

pytestmark = pytest.mark.root

PROJECT = Path(__file__).parents[2]
NO_CHANGES = "No apparent changes"


def test_commits(site: Site) -> None:
    printed = site.compose()
    assert f"{REF} => {site.head()}" in printed
    assert site.ostree("refs").split() == [REF]


def test_fsck(composed: Site) -> None:
    composed.ostree("fsck", "--quiet")


@pytest.fixture
def checkout(composed: Site, tmp_path: Path) -> Path:
    out = tmp_path / "checkout"
    composed.ostree("checkout", REF, str(out))
    return out


def test_checkout(checkout: Path) -> None:
    assert (checkout / "usr/etc/hello.conf").read_text() == "greeting = hello\n"
    assert not (checkout / "etc").exists()
    assert os.readlink(checkout / "bin") == "usr/bin"
    assert os.readlink(checkout / "ostree") == "sysroot/ostree"
    assert os.readlink(checkout / "usr/share/hello/link") == "one"
    for name in ("one", "two", "made-by-post"):
        assert (checkout / "usr/share/hello" / name).read_text() == "shared\n"
    assert (checkout / "usr/share/hello/grüße").read_text() == "umlauts\n"
    assert (checkout / "usr/share/doc/hello/README").is_file()
    assert (checkout / "usr/share/made-by-pretrans").is_dir()
    assert (checkout / "usr/lib/modules/6.1.0-tiny/vmlinuz").is_file()
    assert list((checkout / "var").iterdir()) == []

    assert stat.S_IMODE((checkout / "usr/bin/hello-setuid").stat().st_mode) == 0o4755
    private = (checkout / "usr/share/hello/private").stat()
    assert (private.st_uid, private.st_gid, stat.S_IMODE(private.st_mode)) == (700, 700, 0o640)
    assert stat.S_IMODE((checkout / "usr/etc/shadow").stat().st_mode) == 0
    capability = os.getxattr(checkout / "usr/bin/hello-capable", "security.capability")
    # VFS_CAP_REVISION_2, effective; CAP_NET_RAW is bit 13
    assert capability == bytes.fromhex("01000002 00200000 00000000 00000000 00000000")
    assert "hello:x:700:" in (checkout / "usr/lib/passwd").read_text() + (checkout / "usr/etc/passwd").read_text()


def test_directory_of_var_comes_with_its_owner(checkout: Path) -> None:
    lines = "".join(path.read_text() for path in (checkout / "usr/lib/tmpfiles.d").iterdir())
    assert "d /var/lib/hello 0750 hello hello" in lines


def test_rpm_database(checkout: Path) -> None:
    listed = subprocess.run(
        ["rpm", "--dbpath", checkout / "usr/share/rpm", "-qa", "--qf", "%{NAME}\n"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert sorted(listed.split()) == sorted((*BASE, "hello-lib"))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/bin/hello", "hello_exec_t"),
        ("/usr/bin/sh", "bin_t"),
        ("/usr/lib/os-release", "lib_t"),
        ("/usr/etc/hello.conf", "etc_t"),
        ("/usr/etc/shadow", "shadow_t"),
        ("/usr/share/hello/made-by-post", "usr_t"),
        ("/var", "var_t"),
    ],
)
def test_labels(composed: Site, path: str, kind: str) -> None:
    listed = composed.ostree("ls", "-X", "-d", REF, path)
    assert f"system_u:object_r:{kind}:s0" in listed


def test_disable_selinux(site: Site) -> None:
    site.compose("--disable-selinux")
    assert "security.selinux" not in site.ostree("ls", "-X", "-R", REF)


def test_unchanged(site: Site) -> None:
    stamp = site.path / "stamp"
    site.compose(f"--touch-if-changed={stamp}")
    assert stamp.exists()
    os.utime(stamp, (1, 1))
    before = site.snapshot()
    assert NO_CHANGES in site.compose(f"--touch-if-changed={stamp}")
    assert site.snapshot() == before
    assert stamp.stat().st_mtime == 1
    # how fast it is follows from what it does without: each of these takes as long as all the rest, or has no part in it
    lines = site.run(PYTHONPROFILEIMPORTTIME="1").stderr.splitlines()
    modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "compose.pipeline.run" in modules
    assert not modules & {"jsonschema", "yaml", "rich", "zstandard", "libdnf5", "rpm", "selinux", "compose.rpm.child"}
    parts = {name.split(".")[1] for name in modules if name.startswith("compose.")}
    assert not parts & {"assemble", "commit", "fetch", "importer", "label", "lint", "lock", "postprocess", "records"}
    assert not parts & {"sandbox", "workroot"}


def test_changed_treefile(site: Site) -> None:
    site.compose()
    first = site.head()
    stamp = site.path / "stamp"
    site.write_treefile("conflict-a")
    site.compose(f"--touch-if-changed={stamp}")
    assert site.ostree("rev-parse", f"{REF}^").strip() == first
    assert stamp.exists()


def test_force_nocache(site: Site) -> None:
    site.compose()
    first = site.head()
    site.compose("--force-nocache")
    assert site.head() != first
    assert site.ostree("rev-parse", f"{REF}^").strip() == first


def test_write_commitid(site: Site) -> None:
    site.compose()
    first = site.head()
    file = site.path / "commitid"
    report = site.path / "compose.json"
    site.compose("--force-nocache", f"--write-commitid-to={file}", f"--write-composejson-to={report}")
    assert site.head() == first
    # as with rpm-ostree: the ref that was moved
    assert "ref" not in json.loads(report.read_text())
    assert file.read_text().strip() != first
    assert f"commit {file.read_text().strip()}" in site.ostree("show", file.read_text().strip())


def test_records_that_cannot_be_kept_stop_no_commit(site: Site) -> None:
    (site.repo / "extensions").rmdir()
    (site.repo / "extensions").touch()
    done = site.run()
    assert (done.status, f"{REF} => {site.head()}" in done.stdout) == (0, True), done.stderr
    assert "warning: the record is not kept" in done.stderr
    assert "warning: the sources are not kept" in done.stderr


def test_records_are_kept_before_the_ref_moves(site: Site) -> None:
    """A kill after it would leave a commit that blame and verify know nothing of, and a compose that finds nothing to do."""
    below = site.repo / "refs/heads" / REF / "below"
    below.parent.mkdir(parents=True)
    below.write_text("0" * 64)
    assert site.run().status == 1
    (commit,) = (each.parent.name + each.stem for each in (site.repo / "objects").glob("??/*.commit"))
    kept = {each.name for each in (site.repo / "extensions").rglob(f"{commit}*")}
    assert kept == {f"{commit}.json.zst", f"{commit}.sources.tar.zst"}
    assert site.tool("blame", "/usr/bin/hello", f"--repo={site.repo}", f"--ref={commit}").stdout


def test_composejson(site: Site) -> None:
    file = site.path / "compose.json"
    site.compose(f"--write-composejson-to={file}", "--add-metadata-string=version=1.2")
    first = json.loads(file.read_text())
    shown = site.ostree("show", "--print-metadata-key=rpmostree.inputhash", REF)
    assert first["ref"] == REF
    assert first["ostree-commit"] == site.head()
    assert first["ostree-version"] == "1.2"
    assert first["rpm-ostree-inputhash"] == shown.strip().strip("'")
    assert len(first["ostree-content-checksum"]) == 64
    assert first["ostree-timestamp"].endswith("Z")
    assert first["ostree-n-content-total"] == first["ostree-n-content-written"] > 30
    assert first["ostree-n-metadata-total"] == first["ostree-n-metadata-written"] > 30
    assert first["ostree-content-bytes-written"] > 100_000
    assert first["content-bytes-hashed"] >= first["content-bytes-compressed"] > 100_000
    assert "pkgdiff" not in first

    site.write_treefile("conflict-a")
    site.compose(f"--write-composejson-to={file}")
    second = json.loads(file.read_text())
    # what is in the repository since the first compose is not even read
    assert second["ostree-n-cache-hits"] == second["ostree-n-content-total"] - second["ostree-n-content-written"]
    assert second["content-bytes-hashed"] < first["content-bytes-hashed"] // 4
    documented = set(re.findall(r"`([\w-]+)`", (PROJECT / "docs/composejson.md").read_text()))
    assert second.keys() <= documented
    assert min(second["peak-rss"].values()) > 1 << 20
    # 0: added, as in rpm-ostree's RpmOstreePackageDiffType
    assert second["pkgdiff"] == [["conflict-a", 0, {"NewPackage": ["conflict-a", "1.0-1", "noarch"]}]]
    assert second["ostree-n-content-written"] < second["ostree-n-content-total"]


def test_timings(site: Site) -> None:
    file = site.path / "timings.json"
    # with a cache of its own: what another compose has run takes no time here
    cache = f"--cachedir={site.path / 'cache'}"
    done = site.run(cache, "--timings", f"--write-timings-to={file}")
    written = json.loads(file.read_text())
    stages = [each["name"] for each in written["stages"]]
    assert " ".join(stages) == "treefile solve fetch import assemble postprocess label lint commit"
    programs = written["programs"]
    assert programs == sorted(programs, key=lambda each: -each["seconds"])
    (hello,) = [
        each for each in programs if (each["phase"], each["owner"]) == ("%post", "scriptlet:hello-1.0-1.noarch")
    ]
    assert hello["stage"] == "assemble"
    assert written["cpu-seconds"]["own"] > 0.1
    table = done.stderr[done.stderr.index("seconds  stage") :]
    for name in (*stages, "%post of hello-1.0-1.noarch (assemble)"):
        assert name in table
    assert "seconds" not in done.stdout

    # where nothing is composed there are stages all the same
    done = site.run(cache, "--timings")
    assert NO_CHANGES in done.stdout
    assert "seconds  stage" in done.stderr

    # where standard error is for events, the table is one
    done = site.run(cache, "--timings", "--progress=json")
    notices = [each["message"] for each in events(done.stderr) if each["event"] == "notice"]
    assert notices[-1].startswith("seconds  stage")


def test_metadata(site: Site) -> None:
    file = site.path / "metadata.json"
    file.write_text(json.dumps({"a.list": ["x", True], "a.number": 3, "a.double": -1.5, "winner": "file"}))
    site.write_treefile(add_commit_metadata={"a.tree": "yes", "winner": "treefile"})
    done = site.run(
        f"--add-metadata-from-json={file}", "--add-metadata-string=a.string=b=c", "--add-metadata-string=ostree.linux=x"
    )
    assert "warning: ostree.linux is metadata that the compose itself gives a commit" in done.stderr

    def shown(key: str) -> str:
        return site.ostree("show", f"--print-metadata-key={key}", REF).strip()

    assert shown("a.string") == "'b=c'"
    assert shown("a.tree") == "'yes'"
    assert shown("winner") == "'file'"
    assert shown("a.list") == "[<'x'>, <true>]"
    raw = site.ostree("show", "--raw", REF)
    assert "'a.number': <int64 3>" in raw
    assert "'a.double': <-1.5>" in raw
    assert "'hello', '0', '1.0', '1', 'noarch'" in shown("rpmostree.rpmdb.pkglist")
    assert shown("ostree.bootable") == "true"
    assert shown("ostree.linux") == "'6.1.0-tiny'"


@pytest.mark.parametrize("how", ["string", "file", "treefile"])
def test_a_version_in_the_metadata_is_the_version(how: str, site: Site) -> None:
    """Also of os-release and the report."""
    file, report = site.path / "metadata.json", site.path / "report.json"
    file.write_text(json.dumps({"version": "7.1"}))
    site.write_treefile(
        automatic_version_prefix="10",
        mutate_os_release="1",
        add_commit_metadata={"version": "7.1"} if how == "treefile" else None,
    )
    flags = {"string": ["--add-metadata-string=version=7.1"], "file": [f"--add-metadata-from-json={file}"]}
    assert "version: 7.1\n" in site.compose(*flags.get(how, []), f"--write-composejson-to={report}")
    assert json.loads(report.read_text())["ostree-version"] == "7.1"
    assert "OSTREE_VERSION='7.1'" in site.ostree("cat", REF, "/usr/lib/os-release")
    assert site.ostree("show", "--print-metadata-key=version", REF).strip() == "'7.1'"


def test_a_key_that_is_missing_is_found_before_the_work(site: Site, tmp_path: Path) -> None:
    site.write_treefile(gpg_key="nobody@example.invalid")
    done = site.run(GNUPGHOME=str(tmp_path))
    assert (done.status, "gpg cannot sign with nobody@example.invalid" in done.stderr) == (2, True), done.stderr
    assert "import" not in done.stderr
    # where only packages are fetched, the key need not be
    assert site.run("--download-only", GNUPGHOME=str(tmp_path)).status == 0


def test_a_version_that_is_a_number(site: Site) -> None:
    """As YAML reads one without quotes; clients look for text."""
    site.write_treefile(add_commit_metadata={"version": 43})
    done = site.run()
    assert done.status == 2
    assert "the version in the commit metadata must be text" in done.stderr


@pytest.mark.parametrize(
    "flag", ["--parent=nowhere", "--previous-commit=nowhere", "--add-metadata-from-json=/nowhere.json"]
)
def test_what_the_commit_needs_is_checked_before_the_work(flag: str, site: Site) -> None:
    done = site.run(flag)
    assert done.status == 2
    assert "nowhere" in done.stderr
    # the solver is not asked
    assert "7 packages" not in done.stderr


@pytest.mark.parametrize(
    "flag", ["--parent=nowhere", "--previous-commit=nowhere", "--add-metadata-from-json=/nowhere.json"]
)
def test_and_even_if_nothing_changed(flag: str, site: Site) -> None:
    site.compose()
    done = site.run(flag)
    assert done.status == 2, done.stdout
    assert "nowhere" in done.stderr


def test_parent(site: Site) -> None:
    site.compose()
    first = site.head()
    site.compose("--force-nocache")
    site.compose("--force-nocache", f"--parent={first}")
    assert site.ostree("rev-parse", f"{REF}^").strip() == first
    site.compose("--force-nocache", "--no-parent")
    assert "Parent:" not in site.ostree("show", REF)


def test_dry_run(site: Site) -> None:
    before = site.snapshot()
    stamp = site.path / "stamp"
    printed = site.compose("--dry-run", f"--touch-if-changed={stamp}")
    for name in (*BASE, "hello-lib"):
        assert f"{name}-" in printed
    assert "7 packages" in printed
    assert site.snapshot() == before
    assert stamp.exists()


def test_print_only(site: Site) -> None:
    site.write_treefile("conflict-a", name="base.yaml")
    site.treefile.write_text("include: base.yaml\nref: tiny/${basearch}/other\npackages: [conflict-b]\n")
    flat = json.loads(site.compose("--print-only"))
    assert flat["ref"] == "tiny/x86_64/other"
    assert {"conflict-a", "conflict-b", "hello"} <= set(flat["packages"])
    assert "include" not in flat


@pytest.mark.parametrize(("flag", "imported"), [("--download-only", True), ("--download-only-rpms", False)])
def test_download_only(site: Site, flag: str, imported: bool) -> None:
    site = replace(site, cachedir=site.path / "cache")
    stamp = site.path / "stamp"
    touch = f"--touch-if-changed={stamp}"
    assert "7 packages" in site.compose(flag, touch)
    assert stamp.exists()
    assert len(list((site.cachedir / "rpms").rglob("*.rpm"))) == 7
    assert bool(list((site.cachedir / "blobs").rglob("*"))) == imported
    assert site.ostree("refs") == ""
    stamp.unlink()
    site.compose()
    before = site.snapshot()
    site.compose(flag, touch)
    assert site.snapshot() == before
    assert not stamp.exists()
    site.compose(flag, touch, "--force-nocache")
    assert stamp.exists()


def test_cache_only(site: Site) -> None:
    moving = site.path / "moving"
    shutil.copytree(site.packages, moving)
    site.write_repo(baseurl=moving.as_uri())
    site = replace(site, cachedir=site.path / "cache")
    site.compose("--download-only")
    moving.rename(site.path / "gone")
    site.compose("--cache-only")
    site.ostree("fsck", "--quiet")


def test_include_and_yaml(site: Site) -> None:
    """The included file's packages too, in a YAML that is no JSON."""
    site.write_treefile(name="base.yaml")
    site.treefile.write_text("# comment\ninclude: base.yaml\npackages:\n  - conflict-a\n")
    site.compose()
    assert "/usr/share/conflict" in site.ostree("ls", "-R", REF, "/usr/share")


def test_json(site: Site) -> None:
    site.compose(treefile=site.treefile.rename(site.path / "tiny.json"))
    site.ostree("fsck", "--quiet")


def test_preview(site: Site) -> None:
    """Without --repo the commit is in a repository of the cachedir, and the user is told how to look at it."""
    before = site.snapshot()
    site = replace(site, cachedir=site.path / "cache")
    printed = site.compose(repo=False)
    assert site.snapshot() == before
    command = next(line.split() for line in printed.splitlines() if line.lstrip().startswith("ostree "))
    assert "/usr/bin/hello" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"compose serve --repo={site.cachedir}/preview-repo\n" in printed


def test_reproducible(site: Site) -> None:
    """Other caches, other repositories, the same commit."""
    commits = set()
    for name in ("one", "two"):
        each = replace(site, cachedir=site.path / name)
        shutil.rmtree(site.repo)
        each.init()
        each.compose(SOURCE_DATE_EPOCH=str(EPOCH + 1))
        commits.add(each.head())
        assert "Date:  2023-11-14 22:13:21 +0000" in each.ostree("show", REF)
    assert len(commits) == 1


def test_summary_is_refreshed(site: Site) -> None:
    site.ostree("summary", "--update")
    assert REF not in site.ostree("summary", "--view")
    site.compose()
    assert site.head() in site.ostree("summary", "--view")


def test_no_summary_is_made(site: Site) -> None:
    site.compose()
    assert not (site.repo / "summary").exists()


def test_ids_are_kept(site: Site) -> None:
    """A user that was in the previous commit has the id of that, whatever the package's script would choose now."""
    (site.path / "passwd").write_text("hello:x:755:755::/:/usr/bin/true\n")
    (site.path / "group").write_text("hello:x:755:\n")
    site.write_treefile(
        check_passwd={"type": "file", "filename": "passwd"}, check_groups={"type": "file", "filename": "group"}
    )
    site.compose()
    assert " 755 755 " in site.ostree("ls", REF, "/usr/share/hello/private")
    site.write_treefile()
    site.compose()
    assert " 755 755 " in site.ostree("ls", REF, "/usr/share/hello/private")
    passwd = site.ostree("cat", REF, "/usr/lib/passwd") + site.ostree("cat", REF, "/usr/etc/passwd")
    assert passwd.count("hello:x:755:") == 1


def test_a_dry_run_prints_the_packages_also_when_nothing_changed(composed: Site) -> None:
    printed = composed.compose("--dry-run")
    assert NO_CHANGES in printed
    assert "hello-1" in printed
    assert "packages\n" in printed

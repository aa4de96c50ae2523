"""`compose delta`: an update that clients pull in a few files, of small trees and of a whole system."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.ostree.delta.write import DeltaOptions
from compose.pipeline.delta import make_delta
from compose.pipeline.options import ComposeOptions, Outcome
from compose.pipeline.run import compose_tree
from tests.compat.ostree.test_commit import ostree
from tests.compat.ostree.test_static_delta import logged
from tests.e2e.test_events import events
from tests.e2e.tiny import REF, Site
from tests.e2e.whole import compose_whole

pytestmark = pytest.mark.root


def test_an_update(site: Site) -> None:
    site.write_treefile()
    site.compose()
    words = ("delta", REF, f"--repo={site.repo}")
    assert "--empty to make" in site.tool(*words, status=2).stderr
    (site.path / "large").write_bytes(bytes(300_000))
    site.write_treefile("tiny-odd", add_files=[["large", "/usr/share/large"]])
    site.compose()
    assert "has no summary" in site.tool(*words).stderr
    site.ostree("summary", "-u")
    done = site.tool(*words, "--format=json")
    document = json.loads(done.stdout)
    assert document["written"]
    assert [document["source"], document["target"]] == [site.ostree("rev-parse", f"{REF}^").strip(), site.head()]
    assert document["fetched_bytes"] == sum(path.stat().st_size for path in Path(document["path"]).iterdir())
    assert events(site.tool(*words, "--progress=json").stderr)[-1]["delta"]["target"] == site.head()
    done = site.tool(*words, "--if-not-exists", "--progress=json")
    assert "No change" in done.stdout
    assert events(done.stderr)[-1]["delta"] == {"written": False}
    assert "without the delta" in site.tool(*words).stdout
    site.tool(*words, "--empty", "--sign-command=ed25519=head -c 64 /dev/zero")
    assert (site.repo / "summary.sig").exists()
    client = site.path / "client"
    ostree(client, "init", "--mode=bare-user")
    with logged(site.repo) as server:
        ostree(client, "remote", "add", "--no-gpg-verify", "o", server.url)
        # the one before from objects, for there is no delta to it; then one delta, then the other
        ostree(client, "pull", "o", f"{REF}@{document['source']}")
        server.asked.clear()
        ostree(client, "pull", "--require-static-deltas", "o", REF)
        assert not server.fetched(".filez")
        ostree(client, "fsck")
        shutil.rmtree(client)
        ostree(client, "init", "--mode=bare")
        ostree(client, "remote", "add", "--no-gpg-verify", "o", server.url)
        server.asked.clear()
        ostree(client, "pull", "--require-static-deltas", "o", REF)
        assert not server.fetched(".filez")
    ostree(client, "fsck")
    assert ostree(client, "rev-parse", f"o:{REF}") == site.head()


def test_arguments(site: Site) -> None:
    site.write_treefile()
    site.compose()
    repo = f"--repo={site.repo}"
    for words, said in (
        ((repo,), "give the commit that clients update to"),
        ((repo, REF, f"--to={REF}"), "exclude each other"),
        ((repo, REF, "--empty", f"--from={REF}"), "exclude each other"),
        ((repo, REF, f"--from={REF}"), "the same commit"),
        ((repo, REF, "--empty", "--filename="), "--filename is empty"),
        ((repo, REF, "--empty", "--filename=x", "-n"), "--if-not-exists and --filename exclude each other"),
        (
            (repo, REF, "--empty", "--filename=x", "--min-fallback-size=4"),
            "--min-fallback-size and --filename exclude each other",
        ),
        ((repo, REF, "--empty", "--filename=x", "--gpg-key=x"), "--gpg-key and --filename exclude each other"),
    ):
        assert said in site.tool("delta", *words, status=2).stderr
    assert "No such file" in site.tool("delta", REF, repo, "--empty", "--filename=/gone/x", status=1).stderr
    line = site.tool("delta", REF, repo, "--empty", f"--filename={site.path / 'x'}", "--min-fallback-size=0").stdout
    assert " in 1 file; " in line
    assert not (site.repo / "deltas").exists()
    assert "has no commit nothing" in site.tool("delta", "nothing", repo, status=1).stderr


@pytest.mark.universe
def test_a_package_less(tmp_path: Path) -> None:
    """Of a system that boots: with it go its lines in the package database, the caches and the initramfs."""
    whole = compose_whole("min", tmp_path)
    repo = tmp_path / "repo"
    treefile = json.loads(whole.treefile.read_text())
    whole.treefile.write_text(json.dumps({**treefile, "packages-remove": ["jq"]}))
    options = ComposeOptions(treefile=str(whole.treefile), cachedir=str(tmp_path / "cache"), repo=str(repo), jobs=2)
    assert compose_tree(options, Reporter()).outcome is Outcome.COMMITTED
    ref = whole.result.ref
    assert ref is not None
    ostree(repo, "summary", "-u")

    written = make_delta(str(repo), ref, None, DeltaOptions(jobs=2), Reporter())
    assert written is not None and written.loose_bytes is not None
    print(f"{written.fetched_bytes} bytes instead of {written.loose_bytes}")
    client = tmp_path / "client"
    ostree(client, "init", "--mode=bare")
    with logged(repo) as server:
        ostree(client, "remote", "add", "--no-gpg-verify", "o", server.url)
        ostree(client, "pull", "--disable-static-deltas", "o", f"{ref}@{written.source}")
        ostree(client, "pull", "--require-static-deltas", "o", ref)
    ostree(client, "fsck")
    assert ostree(client, "rev-parse", f"o:{ref}") == written.target
    assert written.fetched_bytes < written.loose_bytes / 3

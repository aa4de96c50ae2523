"""Repositories of a collection: clients take no commit that does not say to be of it, and of which ref."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_events import events
from tests.e2e.tiny import REF, Site
from tests.support import rpmrepo
from tests.support.rpmrepo import Server

pytestmark = pytest.mark.root
COLLECTION = "org.example.Tiny"


def metadata(site: Site, key: str) -> str:
    return site.ostree("show", f"--print-metadata-key={key}", REF).strip()


def pull(url: str, repo: Path, collection: str = COLLECTION) -> subprocess.CompletedProcess[str]:
    rpmrepo.run("ostree", f"--repo={repo}", "init", "--mode=archive")
    remote = ["remote", "add", "--no-gpg-verify", f"--collection-id={collection}", "tiny", url]
    rpmrepo.run("ostree", f"--repo={repo}", *remote)
    command = ["ostree", f"--repo={repo}", "pull", "tiny", REF]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_clients_pull_what_is_bound(site: Site, tmp_path: Path) -> None:
    site.compose()
    assert "ref-binding" not in site.ostree("show", "--list-metadata-keys", REF)
    unbound = site.head()
    site.ostree("config", "set", "core.collection-id", COLLECTION)
    site.ostree("summary", "-u")
    server = Server(site.repo)
    try:
        # what clients would refuse is made anew, though nothing else changed
        assert pull(server.url, tmp_path / "refused").returncode != 0
        planned = site.tool(
            "plan", site.treefile, f"--repo={site.repo}", f"--cachedir={site.cachedir}", "--unchanged-exit-77"
        )
        assert f"{REF}: " in planned.stdout
        assert f"the repository's config asks for collection-id: none -> {COLLECTION}" in planned.stdout
        site.compose()
        assert site.head() != unbound
        assert metadata(site, "ostree.collection-binding") == f"'{COLLECTION}'"
        assert metadata(site, "ostree.ref-binding") == f"['{REF}']"
        done = pull(server.url, tmp_path / "client")
        assert done.returncode == 0, done.stderr
        assert pull(server.url, tmp_path / "other", "org.example.Other").returncode != 0
    finally:
        server.close()
    bound = site.head()
    site.compose()
    assert site.head() == bound
    site.ostree("fsck", "--verify-bindings")
    site.tool("verify", REF, f"--repo={site.repo}", f"--cachedir={site.cachedir}")


def test_publishing_in_a_collection(site: Site, tmp_path: Path) -> None:
    production = tmp_path / "production"
    rpmrepo.run("ostree", f"--repo={production}", "init", "--mode=archive", f"--collection-id={COLLECTION}")
    words = ("publish", REF, f"--repo={site.repo}", f"--to={production}")
    site.compose()
    assert f"{REF}: " in site.tool(*words, status=7).stderr
    site.ostree("config", "set", "core.collection-id", COLLECTION)
    site.compose()
    assert events(site.tool(*words, "--progress=json").stderr)[-1]["refs"] == {REF: site.head()}
    rpmrepo.run("ostree", f"--repo={production}", "fsck", "--verify-bindings")

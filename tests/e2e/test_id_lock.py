"""id-lock: allocated once, never reused, and new ids are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Site

pytestmark = pytest.mark.root

NONE = {"check_passwd": {"type": "none"}, "check_groups": {"type": "none"}, "preserve_passwd": False}


@pytest.fixture
def ids(site: Site) -> Path:
    site.write_treefile(id_lock="ids.yaml", **NONE)
    return site.path / "ids.yaml"


def test_new_ids_are_refused_then_accepted_then_kept(site: Site, ids: Path) -> None:
    done = site.run()
    assert done.status == 7
    assert "ids.yaml: user hello (700) is not locked" in done.stderr
    assert "--accept-new-ids" in done.stderr
    assert not ids.exists()
    site.compose("--accept-new-ids")
    assert '  "hello": 700\n' in ids.read_text()
    written = ids.read_text()
    assert "No apparent changes" in site.compose()
    site.compose("--force-nocache")
    assert ids.read_text() == written


def test_a_dry_run_writes_nothing(site: Site, ids: Path) -> None:
    site.compose("--accept-new-ids", "--dry-run")
    assert not ids.exists()


def test_what_floats_follows_the_lock(site: Site, ids: Path) -> None:
    site.compose("--accept-new-ids")
    ids.write_text(ids.read_text().replace('"hello": 700', '"hello": 555'))
    assert "No apparent changes" not in site.compose()
    assert " 555 555 " in site.ostree("ls", REF, "/usr/share/hello/private")
    assert "hello:x:555:555:" in site.ostree("cat", REF, "/usr/lib/passwd")


def test_faults_in_the_file(site: Site, ids: Path) -> None:
    ids.write_text("compose-ids: 1\nusers: {hello: x}\n")
    done = site.run()
    assert done.status == 2
    assert f"{ids}:2:9: users.hello must be a number" in done.stderr

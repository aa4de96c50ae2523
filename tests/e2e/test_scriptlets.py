"""Which scriptlets run, and which may fail: by the treefile, each exception with its reason."""

from __future__ import annotations

import pytest

from tests.e2e.tiny import REF, Site

pytestmark = pytest.mark.root

SCRIPT = 6
FAILING = {"package": "failing-post", "scriptlet": "post", "reason": "no frobnicator in a compose"}


def etc(site: Site) -> str:
    return site.ostree("ls", REF, "/usr/etc")


def test_a_failure_that_is_allowed_is_a_warning(site: Site) -> None:
    site.write_treefile("failing-post", allow_scriptlet_failures=[FAILING])
    done = site.run()
    assert done.status == 0, done.stderr
    assert (
        "%post of failing-post-1.0-1.noarch failed with status 3: no frobnicator found"
        " (allowed: no frobnicator in a compose)"
    ) in done.stderr
    assert "failing-post" in site.ostree("ls", REF, "/usr/share")


@pytest.mark.parametrize("other", [{"package": "absent"}, {"scriptlet": "posttrans"}])
def test_another_failure_is_not_allowed_by_it(site: Site, other: dict[str, str]) -> None:
    site.write_treefile("failing-post", allow_scriptlet_failures=[FAILING | other])
    done = site.run()
    assert done.status == SCRIPT
    assert "%post of failing-post-1.0-1.noarch failed with status 3" in done.stderr
    assert "allow-scriptlet-failures: no %" in done.stderr


def test_what_programs_print_is_in_the_log(site: Site) -> None:
    """Also when their results come from the cache."""
    finalize = site.path / "finalize.d"
    finalize.mkdir()
    (finalize / "50-last").write_text("#!/bin/sh\necho finalized\n")
    (finalize / "50-last").chmod(0o755)
    site.write_treefile(postprocess=["echo to stdout; echo to stderr >&2"])
    for flags in ((), ("--force-nocache",)):
        done = site.run(*flags)
        assert done.status == 0
        for line in (
            "%post of hello-1.0-1.noarch: hello, I am 0, args: 1",
            "postprocess[0]: to stdout",
            "postprocess[0]: to stderr",
            "finalize.d/50-last: finalized",
        ):
            assert f"] {line}\n" in done.stderr
            assert line not in done.stdout


def test_a_scriptlet_that_is_ignored_does_not_run(site: Site) -> None:
    site.write_treefile("failing-post", ignore_scriptlets=[FAILING])
    done = site.run()
    assert done.status == 0
    assert "Skipping %post of failing-post-1.0-1.noarch: no frobnicator in a compose" in done.stderr


def test_an_exception_for_nothing_is_told(site: Site) -> None:
    site.write_treefile(ignore_scriptlets=[FAILING])
    done = site.run()
    assert done.status == 0
    assert "ignore-scriptlets: no %post of failing-post would run, so" in done.stderr


def test_the_built_in_list_can_be_switched_off(site: Site) -> None:
    site.write_treefile("kernel-core")
    assert "Skipping %posttrans of kernel-core-1.0-1.noarch: runs kernel-install" in site.run().stderr
    assert "kernel-installed" not in etc(site)
    site.write_treefile("kernel-core", default_ignored_scriptlets=False)
    site.compose()
    assert "kernel-installed" in etc(site)


def test_an_exception_needs_its_reason(site: Site) -> None:
    site.write_treefile(ignore_scriptlets=[{"package": "hello", "scriptlet": "post"}])
    done = site.run()
    assert done.status != 0
    assert "tiny.yaml" in done.stderr
    assert "reason" in done.stderr

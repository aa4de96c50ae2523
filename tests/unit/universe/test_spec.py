"""Specs and file lists: text that rpmbuild reads as it is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.universe.build import planned
from tests.universe.model import CONFIG, Entry, FileTrigger, Ghost, Kind, Package
from tests.universe.spec import file_list, quoted, spec


def package() -> Package:
    return Package(
        name="thing",
        root=Path("/nonexistent"),
        epoch="1",
        version="2",
        release="3",
        arch="noarch",
        summary="100% thing",
        description="Does %things.",
    )


def test_file_list() -> None:
    thing = package()
    thing.files = {
        each.path: each
        for each in (
            Entry(path="/usr/bin/[", kind=Kind.FILE, mode=0o755, capabilities="cap_net_raw=ep"),
            Entry(path="/etc/a b%c", kind=Kind.FILE, mode=0o640, group="shadow", flags=[CONFIG]),
            Entry(path="/etc/link", kind=Kind.LINK, mode=0o777),
            Entry(path="/etc", kind=Kind.DIRECTORY, mode=0o755),
        )
    }
    thing.ghosts = [Ghost("/etc/ghost", 0o600)]
    assert file_list(thing) == (
        "%defattr(-,root,root,-)\n"
        '%dir %attr(0755,root,root) "/etc"\n'
        '%config(noreplace) %attr(0640,root,shadow) "/etc/a b%%c"\n'
        '"/etc/link"\n'
        '%caps(cap_net_raw=ep) %attr(0755,root,root) "/usr/bin/["\n'
        '%ghost %attr(0600,root,root) "/etc/ghost"\n'
    )


@pytest.mark.parametrize("path", ['/a"b', "/a\nb"])
def test_paths_that_a_list_cannot_hold(path: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        quoted(path)


def test_spec() -> None:
    thing = package()
    thing.requires_pre = ["coreutils"]
    thing.requires = ["(a or b)", "(a or b)"]
    thing.scripts = {"post": "-p /sbin/ldconfig\n", "pretrans": "-p <lua>\nprint('100%')\n"}
    thing.triggers = [FileTrigger("transfiletriggerin", 1000, ("/usr/lib", "/lib"), "echo %\n")]
    lines = spec(thing, Path("/x/files")).splitlines()
    assert "Summary: 100%% thing" in lines
    assert "Epoch: 1" in lines
    assert "BuildArch: noarch" in lines
    assert "Requires(pre): coreutils" in lines
    assert [line for line in lines if line.startswith("Requires: ")] == ["Requires: coreutils", "Requires: (a or b)"]
    assert "%post -p /sbin/ldconfig" in lines
    assert lines[lines.index("%pretrans -p <lua>") + 1] == "print('100%%')"
    assert lines[lines.index("%transfiletriggerin -P 1000 -- /usr/lib /lib") + 1] == "echo %%"
    assert lines[-1] == "%files -f /x/files"


def test_an_rpm_is_named_after_all_that_makes_it(tmp_path: Path) -> None:
    thing = package()
    first = planned(thing, "content", tmp_path).path
    assert first == planned(package(), "content", tmp_path).path
    assert first != planned(thing, "other content", tmp_path).path
    thing.requires.append("x")
    assert first != planned(thing, "content", tmp_path).path

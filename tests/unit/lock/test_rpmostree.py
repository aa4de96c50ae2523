"""rpm-ostree's lockfiles: read strictly, as lockfile.rs does; written so that rpm-ostree reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import TreefileError
from compose.lock.rpmostree import format_locked, overlay, read_locked
from compose.rpm.nevra import Nevra
from compose.solve.locked import LockedBuild
from compose.solve.resolution import Reason, RepoSnapshot, Resolution, ResolvedPackage
from compose.treefile.parse import parse_json, parse_yaml
from compose.treefile.source import SourceFault

# the form of an overrides file as Fedora CoreOS keeps them
OVERRIDES = """
packages:
  systemd:
    evr: 258.1-1.fc43
    metadata:
      reason: https://example.com/1
      type: pin
  kernel:
    evra: 1:6.17.1-300.fc43.x86_64
    digest: sha256:abcd
"""


def test_both_spellings() -> None:
    assert read_locked(parse_yaml(OVERRIDES.encode(), "o.yaml")) == {
        "systemd": LockedBuild(name="systemd", evr="258.1-1.fc43"),
        "kernel": LockedBuild(name="kernel", evr="1:6.17.1-300.fc43", arch="x86_64", digest="sha256:abcd"),
    }


def test_later_files_win_per_name() -> None:
    first = {"a": LockedBuild(name="a", evr="1-1"), "b": LockedBuild(name="b", evr="1-1")}
    second = {"b": LockedBuild(name="b", evr="2-1")}
    assert [str(build) for build in overlay([first, second])] == ["a-1-1", "b-2-1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "l.json:1:1: packages must be a mapping"),
        ('{"packages": []}', "l.json:1:2: packages must be a mapping"),
        ('{"packages": {}, "pkgs": {}}', "l.json:1:18: pkgs: unknown key of a lockfile"),
        ('{"packages": {"a": {}}}', "l.json:1:15: a must have exactly one of evr and evra"),
        ('{"packages": {"a": {"evr": "1-1", "evra": "1-1.x"}}}', "exactly one of evr and evra"),
        ('{"packages": {"a": {"evra": "1.1"}}}', "is not [epoch:]version-release.arch"),
        ('{"packages": {"a": {"evr": 1}}}', "a.evr must be a string"),
        ('{"packages": {"a": {"evr": "1-1", "digst": "x"}}}', "a.digst: unknown key of a locked package"),
        ('{"packages": {"a": {"evr": "1-1", "digest": "x"}}}', "the digest 'x' is not algorithm:digest"),
        ('{"packages": {"a": "1-1"}}', "a must be a mapping with evr or evra"),
    ],
)
def test_faults(text: str, complaint: str) -> None:
    with pytest.raises(TreefileError) as caught:
        read_locked(parse_json(text.encode(), "l.json"))
    assert complaint in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["packages", "metadata", "a", "evr", "evra", "digest"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["packages", "metadata", "x"]), json_values))
def test_never_a_traceback(value: object) -> None:
    try:
        read_locked(parse_json(json.dumps(value).encode(), "l.json"))
    except (TreefileError, SourceFault) as fault:
        assert "l.json" in str(fault)


def test_written_lockfile() -> None:
    def package(name: str, arch: str, epoch: int) -> ResolvedPackage:
        return ResolvedPackage(
            nevra=Nevra(name=name, epoch=epoch, version="1", release="2", arch=arch), repo="r", location="l",
            checksum=("sha256", "ab"), download_size=1, install_size=1, source_rpm="my-src-1-2.src.rpm",
            reason=Reason.DEPENDENCY,
        )  # fmt: skip

    resolution = Resolution(
        packages=(package("a", "x86_64", 3), package("b", "i686", 0), package("b", "x86_64", 0)),
        repos=(RepoSnapshot(id="r", timestamp=1_700_000_000, gpgcheck=False, gpgkeys=()),),
    )
    text, several = format_locked(resolution, generated=1_700_000_000)
    assert several == ("b",)
    assert json.loads(text) == {
        "packages": {
            "a": {"evra": "3:1-2.x86_64", "digest": "sha256:ab", "metadata": {"sourcerpm": "my-src"}},
            "b": {"evra": "1-2.x86_64", "digest": "sha256:ab", "metadata": {"sourcerpm": "my-src"}},
        },
        "metadata": {"generated": "2023-11-14T00:00:00Z", "rpmmd_repos": {"r": {"generated": "2023-11-14T22:13:20Z"}}},
    }
    assert read_locked(parse_json(text.encode(), "l.json"))["a"].evr == "3:1-2"

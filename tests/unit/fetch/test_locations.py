"""Names of cached RPMs, which metadata, lockfiles and treefiles choose."""

from __future__ import annotations

import pytest

from compose.errors import FetchError, TreefileError
from compose.events import Reporter
from compose.fetch.fetcher import missing_bytes
from compose.fetch.local import Source, bring
from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import Reason, Resolution, ResolvedPackage

LONG = "a" * 252 + ".rpm"


def missing(cachedir, location):
    package = ResolvedPackage(
        nevra=Nevra(name="a", epoch=0, version="1", release="1", arch="noarch"),
        repo="r",
        location=location,
        checksum=("sha256", "00"),
        download_size=1,
        install_size=1,
        source_rpm="",
        reason=Reason.REQUESTED,
    )
    return missing_bytes(Resolution(packages=(package,), repos=()), RepoNetwork(cachedir=str(cachedir)))


@pytest.mark.parametrize("location", ["", "x/", "x/..", f"x/{LONG}", "x/a\0.rpm", "x/\ud800.rpm"])
def test_a_location_that_names_no_file(tmp_path, location):
    with pytest.raises(FetchError, match="from which no file name can be made"):
        missing(tmp_path, location)


def test_a_file_where_the_directory_of_a_package_goes(tmp_path):
    """The download replaces it."""
    (tmp_path / "rpms").mkdir()
    (tmp_path / "rpms/sha256-00").touch()
    assert list(missing(tmp_path, "a.rpm").values()) == [1]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://[a/b.rpm", r"is not a valid URL"),
        ("https://a/b.txt", r"does not end in \.rpm"),
        ("https://a/b%00.rpm", r"holds a NUL"),
        (f"https://a/{LONG}", r"is longer than 255 bytes"),
    ],
)
def test_a_url_of_rpm_files_that_names_no_file(tmp_path, url, fault):
    source = Source(sha256="00", place="a.yaml:1:1", url=url)
    access = RepoAccess(repo_dirs=(), basearch="x86_64")
    with pytest.raises(TreefileError, match=f"^a.yaml:1:1: rpm-files: .*{fault}"):
        bring((source,), access, RepoNetwork(cachedir=str(tmp_path)), Reporter())

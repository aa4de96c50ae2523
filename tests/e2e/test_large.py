"""A file of more than 4 GiB: 64-bit sizes in the header, a payload whose entries have no size, down to what ostree reads.

About 90 s of CPU, a third of it rpmbuild's, and 4 GiB of disk: like rpm, the importer keeps no holes.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.e2e.tiny import EPOCH, REF, Site
from tests.support import rpmrepo

pytestmark = [pytest.mark.root, pytest.mark.slow]
SIZE = (4 << 30) + 5
# Sparse for whoever builds it; the payload is compressed zeros.
SPEC = f"""\
Name: large
Version: 1
Release: 1
Summary: A file of more than 4 GiB
License: MIT
BuildArch: noarch
AutoReqProv: no

%description
%{{summary}}.

%install
mkdir -p %{{buildroot}}/usr/share/large
cd %{{buildroot}}/usr/share/large
truncate -s {SIZE - 3} image
printf end >>image
echo small >another
ln another linked

%files
/usr/share/large
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    where = tmp_path / "large"
    where.mkdir()
    (where / "large.spec").write_text(SPEC)
    rpmrepo.run(
        "rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", "--define", f"_rpmdir {where}",
        "--define", "_build_name_fmt %{NAME}.rpm", "--define", "_rpmformat 4", "--define", "_binary_payload w1.zstdio",
        "--define", "__os_install_post %{nil}", str(where / "large.spec"), SOURCE_DATE_EPOCH=str(EPOCH),
    )  # fmt: skip
    rpmrepo.index(where)
    return where / "large.rpm"


def test_it_is_what_ostree_reads(site: Site, package: Path) -> None:
    tags = "[%{LONGFILESIZES} ]%{PAYLOADFORMAT} %{LONGSIZE}\n"
    sizes = subprocess.run(["rpm", "-qp", f"--qf={tags}", package], capture_output=True, text=True, check=True).stdout
    assert str(SIZE) in sizes.split()
    site.write_repo(name="large", baseurl=package.parent.as_uri(), gpgcheck=False)
    site.write_treefile("large", repos=["tiny", "large"])
    done = subprocess.run(site.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    listed = site.ostree("ls", REF, "/usr/share/large/image").split()
    assert listed[:4] == ["-00644", "0", "0", str(SIZE)]
    with subprocess.Popen(
        ["ostree", f"--repo={site.repo}", "cat", REF, "/usr/share/large/image"], stdout=subprocess.PIPE
    ) as reading:
        assert reading.stdout is not None
        found = hashlib.file_digest(reading.stdout, "sha256").hexdigest()
    assert reading.returncode == 0
    expected = hashlib.sha256()
    block = bytes(1 << 20)
    for _ in range((SIZE - 3) // len(block)):
        expected.update(block)
    expected.update(bytes((SIZE - 3) % len(block)) + b"end")
    assert found == expected.hexdigest()
    for name in ("another", "linked"):
        assert site.ostree("cat", REF, f"/usr/share/large/{name}") == "small\n"

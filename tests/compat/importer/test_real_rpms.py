"""What the importer makes of RPMs that rpmbuild made, beside what rpm, rpm2cpio and cpio make of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import rpm

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.fetch.rpmfile import RpmFile
from compose.importer.cache import ImportCache
from compose.importer.stage import import_packages
from compose.importer.unpack import unpack_rpm
from compose.rpm.manifest import FileFlag, ScriptKind, TriggerKind
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Reason, ResolvedPackage

UNIVERSE = Path(__file__).parents[3] / "build/universe/min"

SPEC = r"""
Name: oddities
Epoch: 3
Version: 1.2
Release: 4
Summary: One of every kind of file, scriptlet and trigger
License: none
%description
-
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/oddities/docs %{buildroot}/etc/oddities.d
cd %{buildroot}/usr/bin
printf one > one; ln one two; ln one three
printf plain > caps; printf plain > same-content; printf setuid > su; printf group > games
ln -s one link; ln -s /etc/oddities.d/absent dangling
cd ../share/oddities
head -c 3000000 /dev/urandom > big
: > empty
printf umlaut > 'größe'; printf space > 'a b'
printf doc > docs/doc; printf licence > docs/licence; printf german > docs/german
printf conf > %{buildroot}/etc/oddities.d/conf
: > %{buildroot}/etc/ghost
%files
/usr/bin/one
/usr/bin/two
/usr/bin/three
/usr/bin/same-content
%attr(0755,root,root) %caps(cap_net_raw,cap_net_admin=ep cap_chown+eip) /usr/bin/caps
%attr(4755,root,root) /usr/bin/su
%attr(2751,root,games) /usr/bin/games
/usr/bin/link
/usr/bin/dangling
%attr(0660,root,disk) %dev(b 7 200) /usr/bin/loop
%dir %attr(0700,daemon,daemon) /usr/share/oddities
/usr/share/oddities/big
/usr/share/oddities/empty
/usr/share/oddities/größe
"/usr/share/oddities/a b"
%doc /usr/share/oddities/docs/doc
%license /usr/share/oddities/docs/licence
%lang(de) /usr/share/oddities/docs/german
%dir /etc/oddities.d
%config(noreplace) /etc/oddities.d/conf
%ghost /etc/ghost
%pretrans -p <lua>
print("pretrans")
%pre -e
echo %%{name}
%post -p /sbin/ldconfig
%preun -p "/bin/sh -x"
echo preun
%triggerin -- bash > 1, dash
echo trigger
%triggerprein -- bash
echo before
%triggerpostun -p <lua> -- bash = 3:2
print("gone")
%filetriggerin -P 100 -- /usr/lib /usr/share
cat
%transfiletriggerpostun -p <lua> -- /usr/lib
print("files")
"""

BUILDS = {
    "zstd": ("w3.zstdio", "4", ""),
    "xz": ("w2.xzdio", "4", ""),
    "gzip": ("w6.gzdio", "4", ""),
    "bzip2": ("w9.bzdio", "4", ""),
    "lzma": ("w2.lzdio", "4", ""),
    "uncompressed": ("w.ufdio", "4", ""),
    "format 6": ("w3.zstdio", "6", ""),
    "md5": ("w3.zstdio", "4", "1"),
    "sha512": ("w3.zstdio", "4", "10"),
}


@pytest.fixture(scope="module", params=BUILDS)
def built(request, tmp_path_factory):
    """Path of the RPM of SPEC, built with a compressor, in a format, with a digest."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("no rpmbuild here")
    top = tmp_path_factory.mktemp("rpmbuild")
    payload, rpm_format, digest = BUILDS[request.param]
    (top / "oddities.spec").write_text(SPEC)
    (top / "BUILD").mkdir()
    defines = {
        "_topdir": top, "_binary_payload": payload, "_rpmformat": rpm_format, "_build_id_links": "none",
        "__os_install_post": "%{nil}",
    }  # fmt: skip
    if digest:
        defines["_binary_filedigest_algorithm"] = digest
    arguments = [part for name, value in defines.items() for part in ("--define", f"{name} {value}")]
    run("rpmbuild", "-bb", "--quiet", *arguments, top / "oddities.spec")
    (path,) = top.glob("RPMS/*/*.rpm")
    return path


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def query(path, *tags):
    """Rows of array tags, as rpm prints them."""
    row = "\\t".join(f"%{{{tag}}}" for tag in tags)
    text = run("rpm", "-qp", "--nosignature", "--qf", f"[{row}\\n]", path).decode()
    return [line.split("\t") for line in text.splitlines()]


def compare(path, manifest, blobs, scratch):
    """Each file of the manifest beside rpm's query and what cpio unpacks; returns how many were compared."""
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    run("sh", "-c", 'rpm2cpio "$1" | cpio -idm --quiet', "-", path, cwd=unpacked)
    files = {file.path: file for file in manifest.files}

    rows = query(
        path, "FILENAMES", "FILEMODES:octal", "FILEUSERNAME", "FILEGROUPNAME", "FILEMTIMES", "FILEFLAGS",
        "FILELINKTOS", "FILELANGS", "FILECOLORS", "FILECAPS",
    )  # fmt: skip
    assert len(rows) == len(files)
    for name, mode, user, group, mtime, flags, target, lang, color, caps in rows:
        file = files[name.removeprefix("/")]
        assert (f"{file.mode:o}".zfill(6), file.user, file.group) == (mode.zfill(6), user, group), name
        assert (str(file.mtime), str(int(file.flags)), str(file.color)) == (mtime, flags, color), name
        assert (file.target or "", file.lang) == (target, lang), name
        assert file.caps == capabilities(caps, scratch), name

    inodes = defaultdict(set)
    seen = set()
    for place in unpacked.rglob("*"):
        relative = str(place.relative_to(unpacked))
        file = files.get(relative)
        if file is None:
            # cpio makes the parents that no package owns
            assert place.is_dir(), relative
            continue
        seen.add(relative)
        status = place.lstat()
        assert stat.S_IFMT(status.st_mode) == stat.S_IFMT(file.mode), relative
        if file.target is not None:
            assert os.readlink(place) == file.target
        elif stat.S_ISREG(file.mode):
            content = place.read_bytes()
            assert file.blob is not None, relative
            assert blobs.read(file.blob) == content, relative
            assert file.blob.digest == hashlib.sha256(content).hexdigest()
            stored = os.stat(blobs.path(file.blob))
            assert int(stored.st_mtime) == file.mtime == int(status.st_mtime), relative
            assert stat.S_IMODE(stored.st_mode) in (stat.S_IMODE(file.mode), 0o600), relative
            inodes[status.st_ino].add(relative)
    missing = {name for name, file in files.items() if not file.flags & FileFlag.GHOST} - seen - {""}
    assert not missing

    links = defaultdict(set)
    for name, file in files.items():
        if file.link:
            links[file.link].add(name)
    assert sorted(map(sorted, links.values())) == sorted(sorted(names) for names in inodes.values() if len(names) > 1)
    return len(files)


def capabilities(text, scratch):
    """What setcap writes for a text of capabilities."""
    if text in ("", "(none)"):
        return b""
    file = scratch / "caps"
    file.touch()
    run("setcap", text, file)
    return os.getxattr(file, "security.capability")


@pytest.mark.root
def test_files_are_what_rpm_and_cpio_say(built, tmp_path):
    blobs = BlobStore(str(tmp_path / "blobs"))
    manifest = unpack_rpm(str(built), "0" * 64, blobs)
    assert compare(built, manifest, blobs, tmp_path) == 21
    files = {file.path: file for file in manifest.files}
    assert files["usr/bin/one"].link == files["usr/bin/two"].link == files["usr/bin/three"].link != 0
    assert files["usr/bin/caps"].caps != b""
    assert files["usr/bin/games"].blob.mode == 0o600
    assert stat.S_ISBLK(files["usr/bin/loop"].mode)
    assert files["etc/ghost"].blob is None


def test_scriptlets_and_triggers(built, tmp_path):
    manifest = unpack_rpm(str(built), "0" * 64, BlobStore(str(tmp_path / "blobs")))
    assert manifest.nevra == Nevra(name="oddities", epoch=3, version="1.2", release="4", arch=manifest.nevra.arch)
    scripts = {each.kind: (each.script.interpreter, each.script.body) for each in manifest.scriptlets}
    assert scripts == {
        ScriptKind.PRETRANS: (("<lua>",), 'print("pretrans")'),
        ScriptKind.PRE: (("/bin/sh",), "echo %{name}"),
        ScriptKind.POST: (("/sbin/ldconfig",), ""),
        ScriptKind.PREUN: (("/bin/sh", "-x"), "echo preun"),
    }
    assert [each.kind for each in manifest.scriptlets if each.script.expand] == [ScriptKind.PRE]
    greater, equal = 1 << 2, 1 << 3
    triggers = [
        (each.kind, [(one.name, one.flags & 0xF, one.version) for one in each.conditions], each.priority)
        for each in manifest.triggers
    ]
    assert triggers == [
        (TriggerKind.IN, [("bash", greater, "1"), ("dash", 0, "")], 1_000_000),
        (TriggerKind.PREIN, [("bash", 0, "")], 1_000_000),
        (TriggerKind.POSTUN, [("bash", equal, "3:2")], 1_000_000),
        (TriggerKind.FILE_IN, [("/usr/lib", 0, ""), ("/usr/share", 0, "")], 100),
        (TriggerKind.TRANS_FILE_POSTUN, [("/usr/lib", 0, "")], 1_000_000),
    ]
    assert manifest.triggers[2].script.interpreter == ("<lua>",)


def test_librpm_takes_the_header_back(built, tmp_path):
    manifest = unpack_rpm(str(built), "0" * 64, BlobStore(str(tmp_path / "blobs")))
    header = rpm.hdr(manifest.header)
    assert header["NEVRA"] == str(manifest.nevra)
    assert header["SHA256HEADER"] == run("rpm", "-qp", "--qf", "%{SHA256HEADER}", built).decode()
    assert header.unload() == manifest.header


@pytest.mark.root
@pytest.mark.universe
def test_every_package_of_the_universe(tmp_path):
    paths = sorted(UNIVERSE.rglob("*.rpm"))
    if not paths:
        pytest.skip("make universe makes the packages")
    cache = ImportCache(str(tmp_path / "manifests"), BlobStore(str(tmp_path / "blobs")))
    files = {rpm_file(path) for path in paths}
    manifests = import_packages(tuple(files), cache, os.cpu_count() or 1, Reporter())
    by_sha256 = {file.sha256: Path(file.path) for file in files}
    compared = 0
    for manifest in manifests:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        compared += compare(by_sha256[manifest.sha256], manifest, cache.blobs, scratch)
        shutil.rmtree(scratch)
    assert compared > 10_000
    assert import_packages(tuple(files), cache, 1, Reporter()) == manifests


def rpm_file(path):
    name, epoch, version, release, arch = (
        run("rpm", "-qp", "--nosignature", "--qf", "%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE} %{ARCH}", path)
        .decode()
        .split()
    )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    package = ResolvedPackage(
        nevra=Nevra(name=name, epoch=int(epoch), version=version, release=release, arch=arch),
        repo="universe",
        location=path.name,
        checksum=("sha256", sha256),
        download_size=path.stat().st_size,
        install_size=path.stat().st_size,
        source_rpm="",
        reason=Reason.REQUESTED,
    )
    return RpmFile(package=package, path=str(path), sha256=sha256, key="")

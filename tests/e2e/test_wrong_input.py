"""Everything that can be wrong: said in words that name it, by an exit code, and without a trace in the repository."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site
from tests.support import rpmrepo
from tests.support.rpmmaker import Member, RpmMaker, symlink
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root

FAILED, USAGE, SOLVE, FETCH, TRUST, SCRIPT = 1, 2, 3, 4, 5, 6


def refused(site: Site, *flags: str, treefile: Path | None = None) -> Done:
    """Compose what must fail: in words, with the repository as it was."""
    before = site.snapshot() if site.repo.exists() else None
    done = site.run(*flags, treefile=treefile)
    assert (site.snapshot() if site.repo.exists() else None) == before
    assert done.status != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    return done


def says(done: Done, status: int, *parts: str) -> None:
    assert done.status == status, done.stderr
    for part in parts:
        assert part in done.stderr


# --- the treefile


def test_unknown_key(site: Site) -> None:
    site.write_treefile(pakages=["hello"])
    says(refused(site), USAGE, "tiny.yaml:", "pakages: unknown key", 'did you mean "packages"?')


def test_yaml_syntax(site: Site) -> None:
    site.treefile.write_text("ref: x\npackages: [a, b\nrepos: [tiny]\n")
    says(refused(site), USAGE, "tiny.yaml:3:")


def test_wrong_type(site: Site) -> None:
    site.write_treefile(selinux="perhaps")
    says(refused(site), USAGE, "tiny.yaml:", "selinux: must be true or false")


def test_no_treefile(site: Site) -> None:
    says(refused(site, treefile=site.path / "none.yaml"), USAGE, str(site.path / "none.yaml"), "No such file")


def test_no_include(site: Site) -> None:
    site.write_treefile(include="none.yaml")
    says(refused(site), USAGE, "none.yaml", "tiny.yaml")


def test_repository_of_packages_is_not_defined(site: Site) -> None:
    site.write_treefile(repos=["tiny", "small"])
    says(refused(site), USAGE, "small", str(site.path))


def test_no_kernel(site: Site) -> None:
    site.write_treefile(packages=["tiny-filesystem", "tiny-shell", "tiny-release", "tiny-policy"])
    says(refused(site), FAILED, "no kernel")


def test_no_policy(site: Site) -> None:
    site.write_treefile(packages=["tiny-filesystem", "tiny-shell", "tiny-release", "tiny-kernel"])
    says(refused(site), FAILED, "/etc/selinux/config")


# --- what to install


def test_missing_packages(site: Site) -> None:
    """All of them, each where it is asked for."""
    site.treefile.write_text(
        "ref: x\nrepos: [tiny]\nreleasever: '1'\npackages:\n  - tiny-filesystem\n  - helo\n  - quite-unheard-of\n"
    )
    says(refused(site), SOLVE, "tiny.yaml:6:5", "helo", "hello", "tiny.yaml:7:5", "quite-unheard-of")


def test_broken_dependency(site: Site) -> None:
    site.write_treefile("broken-dep")
    says(refused(site), SOLVE, "broken-dep-1.0-1.noarch", "requires nothing-provides-this")


# --- where from


@pytest.fixture
def own_packages(site: Site) -> Site:
    """A copy of the packages that a test may damage, and a cache of its own."""
    own = replace(site, packages=site.path / "packages", cachedir=site.path / "cache")
    shutil.copytree(site.packages, own.packages)
    own.write_repo()
    return own


def test_unreachable(site: Site) -> None:
    with socket.socket() as closed:
        # bound but not listening: nobody else can take the port, and connections to it are refused
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        site.write_repo(baseurl=url)
        says(refused(replace(site, cachedir=site.path / "cache")), FETCH, "tiny", url)


def test_no_metadata(site: Site) -> None:
    site.write_repo(baseurl=(site.path / "nowhere").as_uri())
    says(refused(replace(site, cachedir=site.path / "cache")), FETCH, "tiny", "nowhere")


def test_corrupted_metadata(own_packages: Site) -> None:
    primary = next(own_packages.packages.glob("repodata/*primary.xml*"))
    os.truncate(primary, primary.stat().st_size // 2)
    says(refused(own_packages), FETCH, "tiny")


def test_corrupted_package(own_packages: Site) -> None:
    """Nothing of it stays in the cache: once the repository is whole again, the same cache is good."""
    rpm = own_packages.packages / "hello.rpm"
    good = rpm.read_bytes()
    rpm.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    says(refused(own_packages), FETCH, "hello-1.0-1.noarch")
    rpm.write_bytes(good)
    own_packages.compose()


# --- whom to trust


def test_unsigned(site: Site) -> None:
    site.write_treefile("unsigned")
    says(refused(site), TRUST, "unsigned-1.0-1.noarch", "not signed")


def test_no_key_given(site: Site) -> None:
    site.write_repo(gpgkey=None)
    says(refused(site), TRUST, "'tiny' has gpgcheck=1 but no gpgkey=")


def test_wrong_key(site: Site, keys: Keys) -> None:
    site = replace(site, key=keys.export("other"))
    site.write_repo()
    says(refused(site), TRUST, "tiny", keys.fingerprint("tiny")[-16:])


def test_key_is_no_key(site: Site) -> None:
    site = replace(site, key=b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    site.write_repo()
    says(refused(site), TRUST, "tiny.key")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        pytest.param([Member("/usr/share/../../../../escaped")], "/usr/share/../../../../escaped", id="dots"),
        pytest.param(
            [symlink("/usr/share/way", "/tmp"), Member("/usr/share/way/escaped")],
            "/usr/share/way/escaped",
            id="symlink",
        ),
        pytest.param([Member("/usr/share/good", archive_name=b"./usr/share/other")], "usr/share/other", id="unlisted"),
    ],
)
def test_hostile_payload(site: Site, members: list[Member], path: str) -> None:
    packages = site.path / "hostile"
    packages.mkdir()
    (packages / "nasty.rpm").write_bytes(RpmMaker(members=members).build())
    rpmrepo.index(packages)
    site.write_repo(name="hostile", baseurl=packages.as_uri(), gpgcheck=False)
    site.write_treefile("nasty", repos=["tiny", "hostile"])
    done = refused(site)
    says(done, TRUST, "error: nasty", path)
    assert not os.path.lexists("/tmp/escaped") and not os.path.lexists("/escaped")


@pytest.mark.parametrize(
    ("install", "message"),
    [
        (r"echo x >usr/share/$(printf 'caf\351')", r"latin.rpm: '/usr/share/caf\udce9': its name is not UTF-8"),
        (
            r"ln -s $(printf 'caf\351') usr/share/link",
            "latin.rpm: '/usr/share/link': its symlink target is not UTF-8",
        ),
    ],
)
def test_names_that_are_not_utf8(site: Site, install: str, message: str) -> None:
    """rpm installs them; OSTree cannot hold them."""
    packages = site.path / "latin"
    packages.mkdir()
    (packages / "latin.spec").write_text(
        f"Name: latin\nVersion: 1\n{rpmrepo.DEFAULT_TAGS}BuildArch: noarch\n%description\ntest\n"
        f"%install\nmkdir -p %{{buildroot}}/usr/share; cd %{{buildroot}}; {install}\n%files\n/usr/share/*\n"
    )
    rpmrepo.run(
        "rpmbuild", "-bb", "--quiet", "--define", f"_topdir {site.path}/top", "--define", f"_rpmdir {packages}",
        "--define", "_build_name_fmt %{NAME}.rpm", "--define", "_invalid_encoding_terminates_build 0",
        "--define", "__os_install_post %{nil}", str(packages / "latin.spec"),
    )  # fmt: skip
    rpmrepo.index(packages)
    site.write_repo(name="latin", baseurl=packages.as_uri(), gpgcheck=False)
    site.write_treefile("latin", repos=["tiny", "latin"])
    says(refused(site), TRUST, message)


# --- how packages fit together


def test_failing_script(site: Site) -> None:
    site.write_treefile("failing-post")
    says(refused(site), SCRIPT, "%post of failing-post-1.0-1.noarch failed with status 3",
         "looking for the frobnicator\n", "no frobnicator found\n")  # fmt: skip


def test_failing_postprocess(site: Site) -> None:
    site.write_treefile(postprocess=["#!/bin/sh\necho reason\nexit 4\n"])
    says(refused(site), SCRIPT, "postprocess[0]", "status 4", "reason\n")


def test_file_conflict(site: Site) -> None:
    site.write_treefile("conflict-a", "conflict-b")
    says(refused(site), FAILED, "/usr/share/conflict", "conflict-a-1.0-1.noarch", "conflict-b-1.0-1.noarch", "content")


def test_directory_of_two_modes(site: Site) -> None:
    """As rpm 6.1 and dnf5 refuse it."""
    packages = site.path / "modes"
    packages.mkdir()
    for name, mode in (("open", "0755"), ("closed", "0700")):
        (packages / f"{name}.spec").write_text(
            f"Name: {name}\nVersion: 1\n{rpmrepo.DEFAULT_TAGS}BuildArch: noarch\n%description\ntest\n"
            f"%install\nmkdir -p %{{buildroot}}/usr/share/both\n%files\n%dir %attr({mode},root,root) /usr/share/both\n"
        )
        rpmrepo.run(
            "rpmbuild", "-bb", "--quiet", "--define", f"_topdir {site.path}/top", "--define", f"_rpmdir {packages}",
            "--define", "_build_name_fmt %{NAME}.rpm", str(packages / f"{name}.spec"),
        )  # fmt: skip
    rpmrepo.index(packages)
    site.write_repo(name="modes", baseurl=packages.as_uri(), gpgcheck=False)
    site.write_treefile("open", "closed", repos=["tiny", "modes"])
    says(refused(site), FAILED, "/usr/share/both of ", "closed-1-1.noarch", "open-1-1.noarch", "differ in mode: 07")
    site.write_treefile(
        "open", "closed", repos=["tiny", "modes"], remove_from_packages=[["closed", "^/usr/share/both$"]]
    )
    assert site.run().status == 0


# --- where to


def test_no_repository(site: Site) -> None:
    shutil.rmtree(site.repo)
    says(refused(site), FAILED, str(site.repo), "No such file", f"ostree --repo={site.repo} init")


def test_not_a_repository(site: Site) -> None:
    shutil.rmtree(site.repo)
    site.repo.mkdir()
    says(refused(site), FAILED, "not an OSTree repository")


def test_repository_that_cannot_hold_a_system(site: Site) -> None:
    shutil.rmtree(site.repo)
    site.init("bare-user-only")
    says(refused(site), FAILED, "bare-user-only", "archive, bare-user or bare")


@pytest.fixture
def read_only(site: Site) -> Iterator[Site]:
    rpmrepo.run("mount", "--bind", str(site.repo), str(site.repo))
    try:
        rpmrepo.run("mount", "-o", "remount,bind,ro", str(site.repo))
        yield site
    finally:
        rpmrepo.run("umount", str(site.repo))


def test_read_only_repository(read_only: Site) -> None:
    says(refused(read_only), FAILED, str(read_only.repo), "not writable")


@pytest.mark.parametrize("flags", [("--no-parent", "--parent=x"), ("--parent=none",), ("--add-metadata-string=x",)])
def test_wrong_flags(site: Site, flags: tuple[str, ...]) -> None:
    says(refused(site, *flags), USAGE, flags[0].partition("=")[0])


def test_cache_only_without_a_cache(site: Site) -> None:
    says(
        refused(replace(site, cachedir=site.path / "cache"), "--cache-only"),
        FETCH,
        "'tiny'",
        "compose once without --cache-only or --offline",
    )


# --- interrupted


@dataclass(frozen=True, slots=True)
class Running:
    """A process as /proc shows it."""

    pid: int
    words: tuple[str, ...]


def running() -> list[Running]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z":
                found.append(Running(int(path.name), tuple(words)))
    return found


def leftovers(site: Site) -> list[str]:
    return [path.name for path in (site.cachedir / "work").iterdir() if path.name != ".lock"]


def sleeping() -> bool:
    return any("31.4159" in each.words for each in running())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(site: Site, number: signal.Signals) -> None:
    site = replace(site, cachedir=site.path / "cache")
    good = site.write_treefile(name="good.yaml")
    site.write_treefile("slow-post")
    before, mounts = site.snapshot(), Path("/proc/self/mounts").read_text()
    process = subprocess.Popen(
        site.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: sleeping() or process.poll() is not None, 20)
        assert sleeping(), process.communicate()[1]
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in errors
    assert "Traceback" not in errors
    # killed with their namespace, a moment later
    wait_for(lambda: not any(str(site.path) in word for each in running() for word in each.words) and not sleeping(), 3)
    assert Path("/proc/self/mounts").read_text() == mounts
    assert site.snapshot() == before
    assert leftovers(site) == []
    site.compose(treefile=good)
    site.ostree("fsck", "--quiet")


def test_nohup_is_minded(site: Site) -> None:
    """What the caller had ignored stays ignored."""
    site.write_treefile("slow-post")
    process = subprocess.Popen(
        ["nohup", *site.command()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: sleeping() or process.poll() is not None, 20)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed(site: Site) -> None:
    """Not even SIGKILL leaves a running script, or a cache or repository that the next compose cannot use."""
    site = replace(site, cachedir=site.path / "cache")
    good = site.write_treefile(name="good.yaml")
    site.write_treefile("slow-post")
    process = subprocess.Popen(site.command(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: sleeping() or process.poll() is not None, 20)
        assert sleeping()
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not sleeping(), 5)
    site.compose(treefile=good)
    site.ostree("fsck", "--quiet")
    assert leftovers(site) == []


def test_the_ref_moves_meanwhile(site: Site) -> None:
    """The commit would not follow what is there now, and its version and accounts neither."""
    site.compose()
    first = site.head()
    site.write_treefile(postprocess=["#!/bin/sh\nexec sleep 2.7182\n"])
    process = subprocess.Popen(
        site.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: any("2.7182" in each.words for each in running()) or process.poll() is not None, 20)
        between = site.ostree("commit", f"--branch={REF}", f"--tree=ref={REF}", "--subject=between").strip()
        before = site.snapshot()
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == FAILED, errors
    for said in (REF, first, between, "run the same command again"):
        assert said in errors
    assert site.snapshot() == before
    site.compose()
    assert site.ostree("rev-parse", f"{REF}^").strip() == between


@pytest.mark.parametrize("limit", [10, 12])
def test_a_machine_with_few_open_files(site: Site, limit: int) -> None:
    before = site.snapshot()
    done = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *site.command()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == FAILED
    assert "resource limit of this machine is reached: Too many open files\nhint: raise the limits" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.snapshot() == before

"""Each key that changes the tree: the commit with it beside the commit without it, path by path; nothing else may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.listing import Listed, difference, listing
from tests.e2e.tiny import EPOCH, Site
from tests.support.rpmrepo import Keys

pytestmark = pytest.mark.root

TREEFILE = "~ /usr/share/rpm-ostree/treefile.json content"
RPMDB = [f"~ /usr/{place}/rpmdb.sqlite content" for place in ("lib/sysimage/rpm-ostree-base-db", "share/rpm")]


def _nothing(directory: Path) -> None:
    del directory


@dataclass(frozen=True)
class Case:
    """keys: added to the good treefile. expected: lines of difference(), besides that of the recorded treefile. prepare:
    puts files beside the treefile. more: packages of both trees. contents: text that files must hold."""

    name: str
    keys: dict[str, Any]
    expected: list[str] = field(default_factory=list)
    prepare: Callable[[Path], None] = _nothing
    more: tuple[str, ...] = ()
    contents: dict[str, str] = field(default_factory=dict)


def _write(name: str, text: str, mode: int = 0o644) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return write


def _accounts(directory: Path) -> None:
    _write("passwd", "hello:x:777:778::/:/bin/sh\n")(directory)
    _write("group", "hello:x:778:\n")(directory)


CASES = [
    Case(
        "postprocess",
        {"postprocess": ["echo x >/usr/share/x", ": >/etc/hello.conf"]},
        ["~ /usr/etc/hello.conf content", "+ /usr/share/x -00644 0:0 usr_t"],
    ),
    Case(
        "postprocess-script",
        {"postprocess_script": "s.sh"},
        ["+ /usr/share/s d00755 0:0 usr_t"],
        prepare=_write("s.sh", "#!/bin/sh\nmkdir /usr/share/s\n", 0o755),
    ),
    Case(
        "add-files",
        {"add_files": [["f", "etc/f"], ["f", "/usr/share/hello/one"]]},
        ["+ /usr/etc/f -00755 0:0 etc_t", "~ /usr/share/hello/one mode 00644 00755"],
        prepare=_write("f", "f\n", 0o755),
    ),
    Case(
        "remove-files",
        {"remove_files": ["etc/hello.conf", "usr/share/hello", "usr/share/none"]},
        [
            "- /usr/etc/hello.conf",
            "- /usr/share/hello",
            *(f"- /usr/share/hello/{name}" for name in ("grüße", "link", "made-by-post", "one", "private", "two")),
        ],
    ),
    Case(
        "remove-from-packages",
        {"remove_from_packages": [["hello", "/usr/share/doc/.*", "hello\\.conf$"]]},
        [
            "- /usr/etc/hello.conf",
            *(f"- /usr/share/doc{path}" for path in ("", "/hello", "/hello/README")),
            *RPMDB,
        ],
    ),
    Case(
        "units",
        {"units": ["hello.service"]},
        [
            *(
                f"+ /usr/etc/systemd{path} d00755 0:0 etc_t"
                for path in ("", "/system", "/system/multi-user.target.wants")
            ),
            "+ /usr/etc/systemd/system/multi-user.target.wants/hello.service l00777 0:0 etc_t "
            "-> /usr/lib/systemd/system/hello.service",
        ],
    ),
    Case(
        "default-target",
        {"default_target": "/usr/lib/systemd/system/multi-user.target"},
        [
            "+ /usr/lib/systemd d00755 0:0 lib_t",
            "+ /usr/lib/systemd/system d00755 0:0 lib_t",
            "+ /usr/lib/systemd/system/default.target l00777 0:0 lib_t -> /usr/lib/systemd/system/multi-user.target",
        ],
    ),
    Case("machineid-compat", {"machineid_compat": False}, ["- /usr/etc/machine-id"]),
    Case(
        "mutate-os-release",
        {"mutate_os_release": "1", "automatic_version_prefix": "1.7"},
        ["~ /usr/lib/os-release content"],
        contents={"/usr/lib/os-release": "OSTREE_VERSION='1.7'"},
    ),
    Case(
        "etc-group-members",
        {"etc_group_members": ["hello"]},
        ["~ /usr/etc/group content"],
        contents={"/usr/etc/group": "hello:x:700:", "/usr/lib/group": "hello:x:700:"},
    ),
    Case(
        "check-passwd",
        {
            "check_passwd": {"type": "file", "filename": "passwd"},
            "check_groups": {"type": "file", "filename": "group"},
        },
        [
            # what sysusers writes for who has no password
            "~ /usr/etc/gshadow content",
            "~ /usr/etc/shadow content",
            "~ /usr/lib/group content",
            "~ /usr/lib/passwd content",
            "~ /usr/share/hello/private owner 700:700 777:778",
        ],
        prepare=_accounts,
        contents={"/usr/lib/passwd": "hello:x:777:778:"},
    ),
    Case(
        "documentation",
        {"documentation": False},
        [*RPMDB, *(f"- /usr/share/doc{path}" for path in ("", "/hello", "/hello/README"))],
    ),
    Case(
        "install-langs",
        {"install_langs": ["de"]},
        [*RPMDB, *(f"- /usr/share/locale/fr{path}" for path in ("", "/LC_MESSAGES", "/LC_MESSAGES/odd.mo"))],
        more=("tiny-odd",),
    ),
    Case("tmp-is-dir", {"tmp_is_dir": False}, ["~ /tmp kind d l, mode 01777 00777, target none sysroot/tmp"]),
    Case(
        "boot-location",
        {"boot_location": "new"},
        [
            "+ /usr/lib/ostree-boot d00755 0:0 lib_t",
            "+ /usr/lib/ostree-boot/vmlinuz-6.1.0-tiny-718ecd27f86c1973d78aa9afa9a8b4c045cf012a12282b9fc7cf82d120bd292f "
            "-00644 0:0 lib_t",
        ],
    ),
    Case(
        "opt-usrlocal-root",
        {"opt_usrlocal": "root"},
        [
            "~ /opt kind l d, mode 00777 00755, target var/opt none",
            "- /usr/lib/tmpfiles.d/rpm-ostree-0-integration-opt-usrlocal.conf",
            "~ /usr/local kind l d, mode 00777 00755, target ../var/usrlocal none",
        ],
    ),
    Case(
        "opt-usrlocal-overlay",
        {"opt_usrlocal": "state-overlay"},
        [
            "~ /opt target var/opt usr/lib/opt",
            "+ /usr/lib/opt d00755 0:0 default_t",
            "+ /usr/lib/systemd d00755 0:0 lib_t",
            "+ /usr/lib/systemd/system d00755 0:0 lib_t",
            "+ /usr/lib/systemd/system/local-fs.target.requires d00755 0:0 lib_t",
            *(
                f"+ /usr/lib/systemd/system/local-fs.target.requires/ostree-state-overlay@{name}.service l00777 0:0 lib_t "
                "-> /usr/lib/systemd/system/ostree-state-overlay@.service"
                for name in ("usr-lib-opt", "usr-local")
            ),
            "~ /usr/lib/tmpfiles.d/rpm-ostree-0-integration-opt-usrlocal.conf content",
            "~ /usr/local kind l d, mode 00777 00755, target ../var/usrlocal none",
        ],
    ),
    Case("selinux-label-version", {"selinux_label_version": 1}),
    Case("container", {"container": True, "selinux": True}),
    Case(
        "recommends",
        {"recommends": False},
        [*RPMDB, "- /usr/share/weak", "- /usr/share/weak/file"],
        more=("tiny-odd",),
    ),
    Case(
        "exclude-packages",
        {"exclude_packages": ["tiny-weak"]},
        [*RPMDB, "- /usr/share/weak", "- /usr/share/weak/file"],
        more=("tiny-odd",),
    ),
    Case("rpmdb", {"rpmdb": "sqlite"}),
    Case("rpmdb-normalize", {"rpmdb_normalize": True}),
    Case("sysusers", {"sysusers": "compose-forced"}),
    Case(
        "finalize.d",
        {},
        ["+ /usr/etc/one -00644 0:0 etc_t", "+ /usr/share/one -00644 0:0 usr_t"],
        prepare=_write("finalize.d/1", "#!/bin/sh\necho 1 >/usr/share/one; echo etc >/usr/etc/one\n", 0o755),
    ),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, packages: Path, keys: Keys, shared_cachedir: Path) -> Site:
    site = Site(tmp_path_factory.mktemp("keys"), packages, keys.export("tiny"), shared_cachedir)
    site.init()
    site.write_repo()
    return site


@pytest.fixture(scope="module")
def base(place: Site) -> Callable[[tuple[str, ...]], dict[str, Listed]]:
    """The tree without any key, for a set of further packages."""
    known: dict[tuple[str, ...], dict[str, Listed]] = {}

    def make(more: tuple[str, ...]) -> dict[str, Listed]:
        if more not in known:
            ref = "-".join(("base", *more))
            place.write_treefile(*more, ref=ref)
            place.compose(SOURCE_DATE_EPOCH=str(EPOCH))
            known[more] = listing(place, ref)
        return known[more]

    return make


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_key(case: Case, place: Site, base: Callable[[tuple[str, ...]], dict[str, Listed]], tmp_path: Path) -> None:
    before = base(case.more)
    ref = f"key/{case.name}"
    site = Site(tmp_path, place.packages, place.key, place.cachedir)
    case.prepare(tmp_path)
    site.write_repo()
    treefile = site.write_treefile(*case.more, ref=ref, **case.keys)
    place.compose(treefile=treefile, SOURCE_DATE_EPOCH=str(EPOCH))
    found = difference(before, listing(place, ref))
    expected = [*case.expected, TREEFILE]
    assert sorted(found) == sorted(expected)
    for path, text in case.contents.items():
        assert text in place.ostree("cat", ref, path)


def test_readonly_executables(
    place: Site, base: Callable[[tuple[str, ...]], dict[str, Listed]], tmp_path: Path
) -> None:
    """The same rule for every executable: too many to list, the rule is what is tested."""
    before = base(())
    treefile = Site(tmp_path, place.packages, place.key, place.cachedir).write_treefile(
        ref="key/readonly", readonly_executables=True
    )
    (tmp_path / "tiny.repo").write_text((place.path / "tiny.repo").read_text())
    (tmp_path / "tiny.key").write_bytes(place.key)
    place.compose(treefile=treefile, SOURCE_DATE_EPOCH=str(EPOCH))
    after = listing(place, "key/readonly")
    assert before.keys() == after.keys()
    for path, entry in before.items():
        mode = int(entry.mode, 8)
        wanted = mode & ~0o222 if entry.kind == "-" and mode & 0o111 else mode
        assert int(after[path].mode, 8) == wanted, path
        if path != "/usr/share/rpm-ostree/treefile.json" and mode == wanted:
            assert after[path] == entry
    assert after["/usr/bin/hello-setuid"].mode == "04555"


def test_selinux_false_takes_every_label_and_nothing_else(
    place: Site, base: Callable[[tuple[str, ...]], dict[str, Listed]], tmp_path: Path
) -> None:
    before = base(())
    site = Site(tmp_path, place.packages, place.key, place.cachedir)
    site.write_repo()
    place.compose(treefile=site.write_treefile(ref="key/selinux", selinux=False), SOURCE_DATE_EPOCH=str(EPOCH))
    after = listing(place, "key/selinux")
    assert {entry.label for entry in after.values()} == {""}
    found = difference(before, after)
    assert found.count(TREEFILE.replace("content", "label usr_t none")) == 1
    assert all(" label " in line and line.endswith(" none") and "," not in line for line in found)


def test_a_device_is_refused_without_ignore_devices(place: Site, tmp_path: Path) -> None:
    site = Site(tmp_path, place.packages, place.key, place.cachedir)
    site.write_repo()
    done = place.run(treefile=site.write_treefile("tiny-odd", ref="key/devices", ignore_devices=False))
    assert done.status != 0
    assert "tiny-odd-1-1.noarch: /usr/lib/odd/null is a device" in done.stderr

"""Which package's file is where, by RPM's rules."""

from __future__ import annotations

import itertools
import stat
from dataclasses import replace

import pytest

from compose.assemble.merge import Merged, merge
from compose.assemble.options import AssembleOptions
from compose.errors import AssembleError
from compose.rpm.database import FileState
from compose.rpm.manifest import FileFlag, ManifestFile, PackageManifest, Script
from tests.support.manifests import directory, file, link, package


def merged(*packages: PackageManifest, **options: object) -> Merged:
    return merge(packages, AssembleOptions(epoch=0, **options))  # type: ignore[arg-type]


def test_what_is_the_same_is_of_both_and_the_first_one_writes() -> None:
    one, two = (
        package(name, file("usr/x", "same", caps=name.encode()), directory("usr/d", 0o700), link("usr/l", "x"))
        for name in ("one", "two")
    )
    found = merged(one, two).tree
    assert {found[path].writer for path in ("usr/x", "usr/d", "usr/l")} == {"package:one-1-1.x86_64"}
    assert found["usr/x"].xattrs == ((b"security.capability", b"one"),)


def test_only_regular_files_get_capabilities() -> None:
    """With %caps() on a directory, rpmbuild records them for all that is below, too."""
    tree = merged(package("a", directory("d", caps=b"x"), file("d/f", caps=b"x"), link("d/l", "f", caps=b"x"))).tree
    assert [path for path, entry in tree.walk() if entry.xattrs] == ["d/f"]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (file("usr/x", "same"), file("usr/x", "other"), "content"),
        (file("usr/x", "same", color=1), file("usr/x", "other", color=1), "content"),
        (file("usr/x", "same", color=1), file("usr/x", "other"), "content"),
        (file("usr/x", "same", color=2), file("usr/x", "other", color=2), "content"),
        (file("usr/x", "same"), file("usr/x", "same", 0o755), "mode: 0644 and 0755"),
        (file("usr/x", "same"), file("usr/x", "same", user="bin"), "owner: root:root and bin:root"),
        (file("usr/x", "same"), link("usr/x", "y"), "type: a file and a symlink"),
        (file("usr/x", "same"), directory("usr/x"), "type: a file and a directory"),
        (link("usr/x", "y"), link("usr/x", "z"), "target: y and z"),
        (link("usr/x", "y"), directory("usr/x"), "type: a symlink and a directory"),
        (directory("usr/x", 0o700), directory("usr/x", 0o1777), "mode: 0700 and 1777"),
        (directory("usr/x"), directory("usr/x", group="mail"), "owner: root:root and root:mail"),
    ],
)
def test_what_differs_conflicts_and_both_packages_are_named(
    one: ManifestFile, other: ManifestFile, difference: str
) -> None:
    message = f"/usr/x of one-1-1.x86_64 and of two-1-1.x86_64 differ in {difference}"
    with pytest.raises(AssembleError, match=f"^{message}$"):
        merged(package("one", one), package("two", other))


def test_all_conflicts_are_told_together() -> None:
    files = [[file(f"usr/{number}", name) for number in range(30)] for name in ("one", "two")]
    with pytest.raises(AssembleError, match="30 file conflicts") as caught:
        merged(package("one", *files[0]), package("two", *files[1]))
    assert caught.value.details[-1] == "and 10 more"


def test_of_two_word_sizes_the_wider_one_stays() -> None:
    narrow = [package(name, file("usr/x", "32", color=1)) for name in ("narrow", "thin")]
    wide = package("wide", file("usr/x", "64", color=2))
    for order in itertools.permutations((*narrow, wide)):
        assert merged(*order).tree["usr/x"].writer == "package:wide-1-1.x86_64"


def test_the_database_is_told_whose_file_is_not_there() -> None:
    narrow, thin = (package(name, file("usr/x", "32", color=1)) for name in ("narrow", "thin"))
    wide, doc = package("wide", file("usr/x", "64", color=2)), package("doc", file("usr/doc", flags=FileFlag.DOC))
    told: list[dict[tuple[str, str], FileState]] = []
    options = AssembleOptions(epoch=0, documentation=False)
    for order in ((narrow, wide, thin, doc), (narrow, thin, wide, doc)):
        merge(order, options, lambda states: told.append(dict(states)))
    wrong, left_out = {("narrow-1-1.x86_64", "usr/x"), ("thin-1-1.x86_64", "usr/x")}, ("doc-1-1.x86_64", "usr/doc")
    assert told[0] == {**dict.fromkeys(wrong, FileState.WRONG_COLOR), left_out: FileState.NOT_INSTALLED}
    # librpm looks no further back than to the one before
    assert told[1] == {("thin-1-1.x86_64", "usr/x"): FileState.WRONG_COLOR, left_out: FileState.NOT_INSTALLED}


def test_a_ghost_of_another_word_size_gives_no_way() -> None:
    narrow, wide = (package(name, file("usr/x", name, color=color)) for name, color in (("narrow", 1), ("wide", 2)))
    ghosts = package("ghosts", file("usr/x", color=2, flags=FileFlag.GHOST))
    told: list[object] = []
    for order in ((narrow, ghosts), (ghosts, narrow)):
        found = merge(order, AssembleOptions(epoch=0), lambda states: told.append(dict(states)))
        assert found.tree["usr/x"].writer == "package:narrow-1-1.x86_64"
    assert told == [{}, {}]
    assert merged(narrow, wide, ghosts).tree["usr/x"].writer == "package:wide-1-1.x86_64"


def test_files_below_another_package_s_symlink_go_where_it_leads() -> None:
    base = package("base", link("bin", "usr/bin"), link("usr/sbin", "bin"), directory("usr/bin"))
    found = merged(base, package("tool", file("bin/a"), file("usr/sbin/b"), directory("bin/sub"))).tree
    assert {"usr/bin/a", "usr/bin/b", "usr/bin/sub"} <= set(found.entries)
    assert stat.S_ISLNK(found["usr/sbin"].mode)


def test_files_below_a_symlink_that_pretrans_makes_go_where_it_leads() -> None:
    """Fedora's filesystem package: /usr/sbin is a %ghost symlink, and other packages' files in it must end up in /usr/bin."""
    ghosts = [link(path, "bin", flags=FileFlag.GHOST) for path in ("usr/sbin", "usr/local/sbin")]
    files = (link("sbin", "usr/sbin"), directory("usr/bin"), *ghosts)
    base = package("base", *files, scripts={"pretrans": Script(interpreter=("<lua>",), body="x")})
    tool = package("tool", file("usr/sbin/a"), file("sbin/b"), directory("usr/sbin"))
    found = merged(base, tool)
    assert {"usr/bin/a", "usr/bin/b"} <= set(found.tree.entries)
    assert (found.tree["usr/sbin"].target, found.tree["usr/sbin"].writer) == ("bin", "package:base-1-1.x86_64")
    # nothing is below the other one: it comes to be when %pretrans runs
    assert "usr/local/sbin" not in found.tree
    # without the script nobody makes it
    found = merged(package("base", *files), tool)
    assert found.tree["usr/sbin"].is_dir


def test_a_package_s_own_symlink_is_not_followed() -> None:
    with pytest.raises(AssembleError, match=r"evil-1-1\.x86_64: /usr/d/passwd leads through its own symlink /usr/d"):
        merged(package("evil", link("usr/d", "/etc"), file("usr/d/passwd")))


def test_a_symlink_that_is_not_root_s_is_not_followed() -> None:
    with pytest.raises(AssembleError, match="belongs to user:root, not to root"):
        merged(package("one", link("usr/d", "/etc", user="user")), package("two", file("usr/d/passwd")))


def test_a_loop_of_symlinks_ends() -> None:
    with pytest.raises(AssembleError, match="loop"):
        merged(package("one", link("a", "b"), link("b", "a")), package("two", file("a/x")))


def test_ghosts_are_not_made() -> None:
    assert "var/log/x" not in merged(package("one", file("var/log/x", flags=FileFlag.GHOST))).tree


def test_documentation_goes_when_it_is_not_wanted() -> None:
    one = package("one", file("usr/doc", flags=FileFlag.DOC), file("usr/licence", flags=FileFlag.LICENSE))
    assert "usr/doc" in merged(one).tree
    found = merged(one, documentation=False)
    assert "usr/doc" not in found.tree
    assert "usr/licence" in found.tree
    assert [(each.path, each.package, each.reason) for each in found.dropped] == [
        ("usr/doc", "one-1-1.x86_64", "documentation: false")
    ]


def test_licenses_stay_whatever_is_not_wanted() -> None:
    documented = file("usr/share/doc/COPYING", flags=FileFlag.DOC | FileFlag.LICENSE)
    found = merged(
        package("one", documented, file("LICENCE.fr", flags=FileFlag.LICENSE, lang="fr")),
        documentation=False,
        install_langs=("de",),
    )
    assert not found.dropped
    assert {"usr/share/doc/COPYING", "LICENCE.fr"} <= set(found.tree.entries)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (None, {"de", "en", "pt_BR", "many"}),
        (("all",), {"de", "en", "pt_BR", "many"}),
        (("en_US",), {"en", "many"}),
        (("pt",), set()),
        (("pt_BR", "de"), {"de", "pt_BR"}),
        ((), set()),
    ],
)
def test_languages(wanted: tuple[str, ...] | None, kept: set[str]) -> None:
    files = [file(name, lang=name) for name in ("de", "en", "pt_BR")]
    found = merged(package("one", *files, file("many", lang="fr|en"), file("none")), install_langs=wanted)
    assert set(found.tree.entries) - {""} == {*kept, "none"}


@pytest.mark.parametrize("pattern", ["^/opt/x/.*", "^/usr/lib/opt/x/.*"])
def test_remove_from_packages_takes_both_names_of_a_path(pattern: str) -> None:
    found = merged(package("one", file("opt/x/f", "f")), remove_from_packages=(("one", (pattern,)),))
    assert "opt/x/f" not in found.tree


def test_remove_from_packages_is_of_one_package_and_sees_etc_in_usr() -> None:
    one, two = (package(name, file("etc/x"), file(f"etc/{name}")) for name in ("one", "two"))
    found = merged(one, two, remove_from_packages=(("one", ("^/usr/etc/.*$",)),))
    assert set(found.tree.entries) - {""} == {"etc", "etc/x", "etc/two"}


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        # libostree shows rpm-ostree's filter a directory with a slash at its end, and omits what is below it
        ("^/usr/share/d/$", {"usr/share/d-x", "usr/share/link", "opt/d/x"}),
        ("/d/$", {"usr/share/d-x", "usr/share/link"}),
        ("^/usr/share/d/?$", {"usr/share/d-x", "usr/share/link", "opt/d/x"}),
        ("^/usr/share/d/.*", {"usr/share/d-x", "usr/share/link", "opt/d/x"}),
        ("^/usr/share/$", {"opt/d/x"}),
        ("^/usr/lib/opt/d/$", {"usr/share/d", "usr/share/d/x", "usr/share/d-x", "usr/share/link"}),
        ("^/$", set()),
    ],
)
def test_remove_from_packages_takes_a_directory_with_all_below_it(pattern: str, kept: set[str]) -> None:
    one = package(
        "one",
        file("usr/share/d/x", "x"),
        directory("usr/share/d"),
        file("usr/share/d-x", "y"),
        link("usr/share/link", "d-x"),
        file("opt/d/x", "z"),
    )
    found = merged(one, remove_from_packages=(("one", (pattern,)),))
    assert {each.path for each in found.dropped} == {each.path for each in one.files} - kept
    assert {path for path in found.tree.entries if path in {each.path for each in one.files}} == kept


def test_remove_from_packages_takes_only_the_entry_of_a_directory() -> None:
    """So that of two packages with different modes one has its way."""
    one = package("one", directory("usr/d", 0o700), file("usr/d/x", "x"), link("usr/l", "x"))
    found = merged(one, package("two", directory("usr/d", 0o711)), remove_from_packages=(("one", ("^/usr/[dl]$",)),))
    assert [each.path for each in found.dropped] == ["usr/d", "usr/l"]
    assert {"usr/d", "usr/d/x"} <= set(found.tree.entries)
    assert found.tree["usr/d"].permissions == 0o711


def test_devices() -> None:
    device = package("one", replace(file("dev/null", blob=None), mode=stat.S_IFCHR | 0o666))
    found = merged(device)
    assert "dev/null" not in found.tree
    assert [(each.path, each.reason) for each in found.dropped] == [("dev/null", "device")]
    with pytest.raises(AssembleError, match="/dev/null is a device"):
        merged(device, ignore_devices=False)


def test_executables_without_write_bits() -> None:
    found = merged(package("one", file("usr/x", mode=0o755), file("usr/y", mode=0o644)), readonly_executables=True)
    assert [found.tree[path].permissions for path in ("usr/x", "usr/y")] == [0o555, 0o644]


def test_hard_links_stay_a_group_of_their_package() -> None:
    one = package("one", file("usr/a", link=1), file("usr/b", link=1), file("usr/c"))
    found = merged(one, package("two", file("usr/d", link=1))).tree
    assert found["usr/a"].link == found["usr/b"].link == "one-1-1.x86_64:1"
    assert found["usr/c"].link == ""
    assert found["usr/d"].link != found["usr/a"].link


def test_the_third_of_the_same_is_made_again() -> None:
    """rpm compares each file with the one before it."""
    packages = [package(name, directory("usr/d"), file("usr/x", "same")) for name in ("one", "two", "three", "four")]
    found = merged(*packages)
    assert {found.tree[path].writer for path in ("usr/x", "usr/d")} == {"package:three-1-1.x86_64"}
    assert found.skipped == {(f"{name}-1-1.x86_64", path) for name in ("two", "four") for path in ("usr/d", "usr/x")}


def test_a_ghost_is_like_anything() -> None:
    one, three = package("one", file("usr/x", "1")), package("three", file("usr/x", "3"))
    ghost = package("two", file("usr/x", "2", flags=FileFlag.GHOST))
    assert merged(one, ghost, three).tree["usr/x"].writer == "package:three-1-1.x86_64"
    assert merged(ghost, one).tree["usr/x"].writer == "package:one-1-1.x86_64"
    found = merged(one, ghost)
    assert found.tree["usr/x"].writer == "package:one-1-1.x86_64"
    assert found.skipped == {("two-1-1.x86_64", "usr/x")}


def test_a_name_that_another_package_has_too_stays_linked() -> None:
    one = package("one", file("usr/a", "x", link=1), file("usr/b", "x", link=1))
    found = merged(one, package("two", file("usr/a", "x"))).tree
    assert found["usr/a"].link == found["usr/b"].link == "one-1-1.x86_64:1"


def test_signatures_of_files_are_kept_when_asked_for() -> None:
    signed = package("signed", file("usr/bin/x", "x", 0o755, caps=b"cap", ima=b"\x03\x02\x04sig"), file("usr/y"))
    assert merged(signed).tree["usr/bin/x"].xattrs == ((b"security.capability", b"cap"),)
    tree = merged(signed, ima=True).tree
    assert tree["usr/bin/x"].xattrs == ((b"security.capability", b"cap"), (b"security.ima", b"\x03\x02\x04sig"))
    assert tree["usr/y"].xattrs == ()

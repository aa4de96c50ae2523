from __future__ import annotations

import os
from dataclasses import replace

import pytest

from compose.errors import TreefileError, TrustError
from compose.events import Reporter
from compose.fetch.keys import load_keys
from compose.fetch.repofiles import format_sections
from compose.rpm.repofile import absolute, parse_repo_file, read_repo_files, select, split_list, without_user
from compose.rpm.repos import (
    UNSET_RELEASEVER,
    RepoAccess,
    RepoNetwork,
    enabled_repos,
    override_dirs_of,
    repo_dirs_of,
    variables,
    vars_dirs_of,
)
from compose.solve.resolution import RepoSnapshot

FEDORA = """\
# a comment
; another one
[fedora]
name=Fedora $releasever
metalink=https://mirrors.example.com/metalink?repo=fedora-$releasever&arch=$basearch
enabled = 1
gpgkey=RPM-GPG-KEY-one
   RPM-GPG-KEY-two

[updates]
baseurl=file:///srv/updates
enabled=0
gpgcheck=no
"""


def parse(text):
    return parse_repo_file("a.repo", text)


def section(text):
    sections, faults = parse(f"[r]\n{text}")
    assert not faults
    return sections[0]


def test_sections_options_and_lines():
    (fedora, updates), faults = parse(FEDORA)
    assert not faults
    assert (fedora.id, fedora.place, updates.place) == ("fedora", "a.repo:3", "a.repo:10")
    assert fedora.option("metalink").value.endswith("repo=fedora-$releasever&arch=$basearch")
    assert split_list(fedora.option("gpgkey").value) == ("RPM-GPG-KEY-one", "RPM-GPG-KEY-two")
    assert fedora.option("gpgkey").line == 7
    assert (fedora.enabled, fedora.gpgcheck, updates.enabled, updates.gpgcheck) == (True, True, False, False)


def test_main_section_is_dnfs_own():
    sections, faults = parse("[main]\nbest=1\n[r]\nbaseurl=x\n")
    assert [each.id for each in sections] == ["r"]
    assert not faults


def test_every_fault_of_a_file_is_told_with_its_line():
    _, faults = parse("oops\n[r]\nbaseurl\n=x\n[s\n[bad id]\n")
    assert [fault.split(": ")[0] for fault in faults] == ["a.repo:1", "a.repo:3", "a.repo:4", "a.repo:5", "a.repo:6"]


@pytest.mark.parametrize(
    ("text", "checked"),
    [
        ("", True),
        ("gpgcheck=0", False),
        ("gpgcheck=1", True),
        ("gpgcheck=0\npkg_gpgcheck=1", True),
        ("gpgcheck=off", False),
    ],
)
def test_gpgcheck_is_on_unless_said_otherwise(text, checked):
    assert section(text).gpgcheck is checked


def test_what_is_no_boolean_is_an_error_with_its_line():
    with pytest.raises(TreefileError, match=r"a\.repo:2: gpgcheck=maybe"):
        _ = section("gpgcheck=maybe").gpgcheck


def test_the_last_of_two_options_counts():
    assert section("enabled=1\nenabled=0").enabled is False


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("baseurl", "repo", "file:///etc/tree/repo"),
        ("baseurl", "../x y", "file:///etc/x file:///etc/tree/y"),
        ("baseurl", "/srv/repo", "file:///srv/repo"),
        ("baseurl", "https://example.com/a,http://example.com/b", "https://example.com/a http://example.com/b"),
        ("gpgkey", "keys/a%b.asc", "file:///etc/tree/keys/a%25b.asc"),
        ("gpgkey", "file:///etc/pki/key", "file:///etc/pki/key"),
        ("sslcacert", "ca.pem", "/etc/tree/ca.pem"),
        ("sslcacert", "/ca.pem", "/ca.pem"),
        ("priority", "5", "5"),
    ],
)
def test_relative_paths_start_at_the_repo_file(key, value, expected):
    assert absolute(key, value, "/etc/tree") == expected


def test_files_are_read_in_order_and_ids_are_unique(tmp_path):
    (tmp_path / "b.repo").write_text("[b]\nbaseurl=x\n")
    (tmp_path / "a.repo").write_text("[z]\nbaseurl=x\n[a]\nbaseurl=x\n")
    (tmp_path / "README").write_text("not one")
    assert [each.id for each in read_repo_files([str(tmp_path)])] == ["a", "b", "z"]
    (tmp_path / "c.repo").write_text("[a]\nbaseurl=y\n")
    with pytest.raises(TreefileError, match=rf"{tmp_path}/c\.repo:1: .*'a'.*{tmp_path}/a\.repo:3"):
        read_repo_files([str(tmp_path)])


def test_earlier_directories_take_precedence(tmp_path):
    """As in dnf5: what an administrator has in /etc counts more than what a distribution has in /usr."""
    ours, theirs = tmp_path / "etc", tmp_path / "usr"
    for directory, text in ((ours, "[a]\nbaseurl=ours\n"), (theirs, "[a]\nbaseurl=theirs\n[b]\nbaseurl=theirs\n")):
        directory.mkdir()
        (directory / "x.repo").write_text(text)
    found = read_repo_files([str(ours), str(theirs)])
    assert [(each.id, each.path) for each in found] == [("a", f"{ours}/x.repo"), ("b", f"{theirs}/x.repo")]
    # within a directory nobody knows which is meant
    (theirs / "y.repo").write_text("[b]\nbaseurl=again\n")
    with pytest.raises(TreefileError, match=rf"{theirs}/y\.repo:1: repository 'b' is already defined"):
        read_repo_files([str(ours), str(theirs)])


def test_where_dnf_looks_in_a_root(tmp_path):
    root = str(tmp_path)
    assert repo_dirs_of(root) == (f"{root}/etc/yum.repos.d",)
    (tmp_path / "usr/share/dnf5/repos.d").mkdir(parents=True)
    assert repo_dirs_of(root) == (f"{root}/usr/share/dnf5/repos.d",)
    (tmp_path / "etc/yum.repos.d").mkdir(parents=True)
    assert repo_dirs_of(root) == (f"{root}/etc/yum.repos.d", f"{root}/usr/share/dnf5/repos.d")
    assert vars_dirs_of(root)[-1] == f"{root}/etc/dnf/vars"
    assert override_dirs_of(root)[0] == f"{root}/etc/dnf/repos.override.d"


def test_what_dnf_config_manager_changed(tmp_path):
    """As in dnf5: by the names of files, whose sections are patterns of ids; of two files of one name, that in /etc counts."""
    ours, theirs = (tmp_path / name for name in ("etc", "usr"))
    for directory, name, text in (
        (ours, "99-config_manager", "[b*]\nenabled=1\n[a]\ngpgkey=a.asc\nenabled=0\n"),
        (theirs, "50-vendor", "[?]\nenabled=0\ncost=1\n"),
        (theirs, "99-config_manager", "[*]\nenabled=0\n"),
    ):
        directory.mkdir(exist_ok=True)
        (directory / f"{name}.repo").write_text(text)
    (tmp_path / "x.repo").write_text("[a]\nbaseurl=a\ngpgkey=old.asc\n[b]\nbaseurl=b\n[c]\nbaseurl=c\n")
    overrides = (str(ours), str(theirs), str(tmp_path / "absent"))
    found = {section.id: section for section in read_repo_files([str(tmp_path)], overrides)}
    assert [section.id for section in found.values() if section.enabled] == ["b"]
    assert {section.option("cost").place for section in found.values()} == {f"{theirs}/50-vendor.repo:3"}
    # what is relative is so to the file that says it
    assert (found["a"].option("gpgkey").value, found["a"].option("gpgkey").path) == (
        "a.asc",
        f"{ours}/99-config_manager.repo",
    )
    assert found["a"].place == f"{tmp_path}/x.repo:1"


def test_a_fault_in_what_overrides(tmp_path):
    (tmp_path / "99.repo").write_text("[a/b]\nenabled=0\n[a]\nenabled=maybe\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/x.repo").write_text("[a]\nbaseurl=a\n")
    access = RepoAccess(repo_dirs=(str(tmp_path / "x"),), override_dirs=(str(tmp_path),), basearch="x86_64")
    with pytest.raises(TreefileError, match=rf"^{tmp_path}/99\.repo:1: 'a/b' cannot be a repository id .*\* \?"):
        enabled_repos(access)
    (tmp_path / "99.repo").write_text("[a]\nenabled=maybe\n")
    with pytest.raises(TreefileError, match=rf"^{tmp_path}/99\.repo:2: enabled=maybe in repository 'a' is not 0 or 1"):
        enabled_repos(access)


def test_faults_of_several_files_come_together(tmp_path):
    (tmp_path / "a.repo").write_text("x\n")
    (tmp_path / "b.repo").write_bytes(b"\xff\xfe")
    with pytest.raises(TreefileError) as caught:
        read_repo_files([str(tmp_path), str(tmp_path / "absent")])
    assert len(caught.value.details) == 3
    assert "2 faults" not in caught.value.message


def test_an_unknown_id_is_told_with_those_there_are():
    sections, _ = parse(FEDORA)
    with pytest.raises(TreefileError) as caught:
        select(sections, ("fedora", "fedorra", "rawhide"))
    assert "'fedorra', 'rawhide'" in caught.value.message
    assert caught.value.details == ("fedora (a.repo:3)", "updates (a.repo:10)")


def test_repos_of_the_treefile_win_over_enabled():
    sections, _ = parse(FEDORA)
    assert [each.id for each in select(sections, None)] == ["fedora"]
    assert [each.id for each in select(sections, ("updates",))] == ["updates"]


def test_no_repository_at_all_and_one_without_a_url(tmp_path):
    access = RepoAccess(repo_dirs=(str(tmp_path),), basearch="x86_64")
    with pytest.raises(TreefileError, match="no package repository is enabled"):
        enabled_repos(access)
    for source in ("", "baseurl=", "baseurl=\nmetalink="):
        (tmp_path / "a.repo").write_text(f"[a]\nname=A\n{source}\n")
        with pytest.raises(TreefileError, match=r"a\.repo:1: repository 'a' has no baseurl"):
            enabled_repos(access)


def test_the_source_is_the_option_with_a_value():
    (section,), _ = parse("[a]\nmetalink=\nbaseurl=\n  https://b/a\n")
    assert section.source is not None
    assert section.source.value == "https://b/a"


def test_variables(tmp_path):
    (tmp_path / "stream").write_text("stable\nsecond line\n")
    (tmp_path / "infra").write_text("file")
    access = RepoAccess(
        repo_dirs=(), basearch="i386", vars_dirs=(str(tmp_path), "/nonexistent"), repovars=(("infra", "treefile"),)
    )
    assert variables(access) == {
        "stream": "stable",
        "infra": "treefile",
        "basearch": "i386",
        "arch": "i686",
        "releasever": UNSET_RELEASEVER,
    }


@pytest.mark.parametrize("line", ["VERSION_ID=43", 'VERSION_ID="43"', "VERSION_ID='43' "])
def test_the_release_of_the_source_root(tmp_path, line):
    """The last resort: before it come the treefile and the root's variables."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text(f"NAME=x\n{line}\nVARIANT_ID=iot\n")
    access = RepoAccess(repo_dirs=(), basearch="x86_64", root=str(tmp_path), vars_dirs=(str(tmp_path / "vars"),))
    assert variables(access)["releasever"] == "43"
    (tmp_path / "vars").mkdir()
    (tmp_path / "vars/releasever").write_text("44\n")
    assert variables(access)["releasever"] == "44"
    assert variables(replace(access, releasever="45"))["releasever"] == "45"


@pytest.mark.parametrize("database", [b"", b"not a database" * 100])
def test_a_source_root_without_a_release(tmp_path, database):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("NAME=x\n")
    (tmp_path / "usr/lib/sysimage/rpm").mkdir(parents=True)
    (tmp_path / "usr/lib/sysimage/rpm/rpmdb.sqlite").write_bytes(database)
    access = RepoAccess(repo_dirs=(), basearch="x86_64", root=str(tmp_path))
    assert variables(access)["releasever"] == UNSET_RELEASEVER


def test_a_directory_of_variables_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refuse)
    access = RepoAccess(repo_dirs=(), basearch="x86_64", vars_dirs=(str(tmp_path),))
    with pytest.raises(TreefileError, match="cannot look for repository variables: Permission denied"):
        variables(access)


def test_a_metalink_is_one_url_whatever_is_in_it():
    stream = "https://mirrors.example.org/metalink?repo=base-9&arch=x86_64&protocol=https,http"
    assert absolute("metalink", stream, "/srv") == stream
    assert absolute("mirrorlist", "list", "/srv") == "file:///srv/list"
    assert absolute("baseurl", "https://a/x,https://b/x", "/srv") == "https://a/x https://b/x"


def test_a_comment_behind_a_section_header():
    (section,), faults = parse("[a] # comment\nbaseurl=http://h/a\n")
    assert (section.id, faults) == ("a", ())
    assert parse("[a] b\n")[1] == ("a.repo:1: section header '[a] b' has no closing bracket",)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/a@b", "https://host/a@b"),
        ("https://me:se@cret@host:8/", "https://host:8/"),
        ("no key (http://me@host/k, https://host?mail=a@b)", "no key (http://host/k, https://host?mail=a@b)"),
        ("file:///a@b and me@host", "file:///a@b and me@host"),
    ],
)
def test_user_and_password_are_taken_out_of_urls(text, shown):
    assert without_user(text) == shown


@pytest.mark.parametrize(("target", "said"), [("fifo", "not a regular file"), ("huge", "more than")])
def test_what_has_no_end_is_not_read(tmp_path, target, said):
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(5 << 20)
    (tmp_path / "a.repo").symlink_to(target)
    (tmp_path / "masked.repo").symlink_to("/dev/null")
    with pytest.raises(TreefileError, match=rf"a\.repo: cannot be read: .*{said}"):
        read_repo_files([str(tmp_path)])
    key = RepoSnapshot(id="a", gpgcheck=True, gpgkeys=((tmp_path / "fifo").as_uri(),), timestamp=0)
    with pytest.raises(TrustError, match="not a regular file"):
        load_keys(key, RepoAccess(repo_dirs=(), basearch="x"), RepoNetwork(cachedir=str(tmp_path)), Reporter())


def test_no_password_is_in_a_repo_file_that_is_passed_on():
    text = "[a]\nbaseurl=https://me:secret@h/a\nproxy=me:secret@proxy:3128\nusername=me\npassword=secret\n"
    sections, _ = parse_repo_file("a.repo", text)
    assert format_sections(sections, {}) == "[a]\nbaseurl=https://h/a\nproxy=proxy:3128\n"


def test_an_option_that_is_given_again_is_passed_on_once():
    sections, _ = parse_repo_file("a.repo", "[a]\nbaseurl=https://h/a\nmirrorlist=https://h/m\nbaseurl=https://h/b\n")
    assert format_sections(sections, {}) == "[a]\nbaseurl=https://h/b\nmirrorlist=https://h/m\n"

"""Includes, merge rules, conditions, substitution: rpm-ostree's semantics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compose.errors import TreefileError
from compose.treefile.load import named_files
from compose.treefile.model import LoadedTreefile
from tests.unit.treefile.conftest import Load


def flat(loaded: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(loaded.json)
    return found


def test_defaults(load: Load) -> None:
    treefile = load("packages: [bash]").treefile
    assert [spec.text for spec in treefile.packages] == ["bash"]
    assert treefile.selinux
    assert treefile.recommends
    assert treefile.documentation
    assert not treefile.tmp_is_dir
    assert treefile.machineid_compat
    assert treefile.boot_location == "new"
    assert treefile.repos is None


def test_merge_rules(load: Load) -> None:
    loaded = load(
        """
include: [a.yaml, b.yaml]
ref: top
packages: [top]
repos: [top]
units: [top.service]
variables: {x: top}
""",
        a_yaml="ref: a\npackages: [a, common]\nrepos: [a]\nunits: [a.service]\ndocumentation: false\nselinux: false",
        b_yaml="ref: b\npackages: [b, common]\nrepos: [b]\nunits: [b.service]\nselinux: true\nrecommends: false",
    )
    assert flat(loaded) == {
        "basearch": "x86_64",
        "ref": "top",
        "packages": ["a", "b", "common", "top"],
        # later includes come first, the includer last
        "repos": ["b", "a", "top"],
        "units": ["b.service", "a.service", "top.service"],
        # the earlier include wins
        "selinux": False,
        "documentation": False,
        "recommends": False,
    }


def test_the_nearest_file_s_member_of_a_mapping_counts(load: Load) -> None:
    """Over three files, whatever the types; references are to the variables as they are in the end."""
    loaded = load(
        """
include: middle.yaml
releasever: "35"
packages: [top]
rojig: {name: 'os ${releasever}', summary: '${kind} for ${basearch}', license: MIT}
""",
        middle_yaml="""
include: base.yaml
releasever: 1
variables: {kind: middle, count: 6, flag: true}
packages: [some layered packages]
add-commit-metadata: {second: 'by ${kind}', third: 1000, fourth: {nested: table}}
metadata: {bar: '${kind}', deeper: {answer: 9001}}
etc-group-members: [docker]
""",
        base_yaml="""
releasever: "3"
variables: {kind: base, count: 5, flag: false, kept: "don't"}
add-commit-metadata: {first: 'kept for ${basearch} ${kept}', second: replaced, flag: '${flag} ${count}'}
metadata: {name: base, bar: replaced, deeper: {answer: 42, more: x}}
etc-group-members: [sudo]
""",
    )
    found = flat(loaded)
    assert found["add-commit-metadata"] == {
        "first": "kept for x86_64 don't", "second": "by middle", "third": 1000, "fourth": {"nested": "table"},
        "flag": "true 6",
    }  # fmt: skip
    assert found["metadata"] == {"name": "base", "bar": "middle", "deeper": {"answer": 9001}}
    assert (found["releasever"], found["rojig"]["name"], found["rojig"]["summary"]) == (
        "35",
        "os 35",
        "middle for x86_64",
    )
    assert (found["etc-group-members"], found["packages"]) == (
        ["sudo", "docker"],
        ["layered", "packages", "some", "top"],
    )


def test_what_is_printed_is_a_treefile_that_means_the_same(load: Load, tmp_path: Any) -> None:
    """Pipelines flatten a treefile once, and compose what was printed from the same directory."""
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (tmp_path / "more.ks").write_text("%packages --exclude-weakdeps\nks\n-no\n%end\n")
    first = load(
        """
include: [base.yaml, more.ks]
ref: os/${basearch}/${stream}
variables: {stream: testing}
releasever: 43
rojig: {name: os, summary: s, license: MIT}
packages: [b a, b]
packages-s390x: [zipl]
repo-packages: [{repo: r, packages: [x y]}]
check-passwd: {type: file, filename: passwd}
check-groups: {type: data, entries: {bin: 1}}
opt-usrlocal: stateoverlay
automatic-version-prefix: "${releasever}.<date:%Y%m%d>"
conditional-include: [{if: stream == "testing", include: {packages: [t]}}]
postprocess: ["#!/bin/bash\necho \\n"]
""",
        base_yaml="edition: '2024'\nunits: [u.service]\ngpg_key: K\nbootstrap-packages: [c]\n"
        "remove-from-packages: [[p, '\\.x$']]",
    )
    second = load(first.json, start="flat.json")
    assert second.json == first.json
    assert second.warnings == ()
    assert deciding(second) == deciding(first)
    assert [spec.text for spec in second.treefile.packages] == ["a", "b", "c", "ks", "t"]


def test_packages_are_split_and_remember_their_place(load: Load) -> None:
    specs = load(
        "packages:\n  - b  a\n  - \"'skopeo >= 2:1.7' c\"\npackages-x86_64: [x]\npackages-aarch64: [y]"
    ).treefile.packages
    assert [(spec.text, spec.place.split(":", 1)[1]) for spec in specs] == [
        ("a", "2:5"),
        ("b", "2:5"),
        ("c", "3:5"),
        ("skopeo >= 2:1.7", "3:5"),
        ("x", "4:19"),
    ]


def test_empty_lists_are_none(load: Load) -> None:
    assert load("packages: [a]\netc-group-members:\nunits: null").treefile.units == ()


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ('releasever == "40"', False),
        ("releasever == 40", True),
        ("releasever >= 40", True),
        ("releasever < 40", False),
        ('basearch == "x86_64"', True),
        ('basearch != "x86_64"', False),
        ("on == true", True),
    ],
)
def test_conditions(condition: str, taken: bool, load: Load) -> None:
    # a type that does not fit is a fault, so `releasever == "40"` is tried against text
    releasever = '"41"' if '"40"' in condition else "40"
    loaded = load(
        f"releasever: {releasever}\nvariables: {{on: true}}\npackages: [a]\n"
        f"conditional-include:\n  - if: '{condition}'\n    include: {{packages: [extra]}}\n"
    )
    assert ("extra" in flat(loaded)["packages"]) is taken


def test_a_condition_may_compare_with_a_quotation_mark(load: Load) -> None:
    loaded = load(
        "variables: {v: 'a\"b'}\npackages: [p]\nconditional-include: [{if: 'v == \"a\"b\"', include: {packages: [q]}}]"
    )
    assert flat(loaded)["packages"] == ["p", "q"]


def test_several_conditions_must_all_hold(load: Load) -> None:
    text = """
variables: {a: true, b: false}
packages: [p]
conditional-include:
  - if: [a == true, b == true]
    include: no.yaml
"""
    assert flat(load(text))["packages"] == ["p"]


def test_a_condition_sees_variables_of_earlier_files_only(load: Load) -> None:
    loaded = load(
        "include: [a.yaml, b.yaml]\npackages: [p]",
        a_yaml="variables: {v: from-a}",
        b_yaml='conditional-include:\n  - if: v == "from-a"\n    include: {packages: [seen]}',
    )
    assert flat(loaded)["packages"] == ["p", "seen"]


def test_what_is_written_in_place_wins_over_files(load: Load) -> None:
    loaded = load(
        "include: a.yaml\nvariables: {v: 1}\npackages: [p]\npostprocess: [echo top]\n"
        "conditional-include: [{if: v == 1, include: {documentation: false, postprocess: [echo in place]}}]",
        a_yaml="documentation: true\npostprocess: [echo included]",
    )
    found = flat(loaded)
    assert (found["documentation"], found["postprocess"]) == (False, ["echo included", "echo in place", "echo top"])


def test_what_else_counts_of_what_is_written_in_place(load: Load) -> None:
    """rpm-ostree ignores these there."""
    loaded = load(
        "include: a.yaml\nconditional-include:\n- if: 'basearch == \"x86_64\"'\n"
        "  include: {packages-x86_64: [x], packages-s390x: [s], variables: {v: 1}, releasever: 44}\n",
        a_yaml="conditional-include: [{if: [v == 1, releasever == 44], include: {packages: [a]}}]",
    )
    assert flat(loaded)["packages"] == ["a", "x"]


def test_packages_of_an_architecture_may_be_empty(load: Load) -> None:
    assert flat(load("packages: [p]\npackages-x86_64:\npackages-s390x:\n"))["packages"] == ["p"]


def test_files_of_what_is_written_in_place(load: Load) -> None:
    loaded = load(
        "packages: [p]\nconditional-include:\n"
        "- {if: 'basearch == \"x86_64\"', include: {add-files: [[motd.yaml, /etc/motd]]}}",
        motd_yaml="hello",
    )
    (added,) = loaded.treefile.add_files
    assert added.source.data == b"hello"


@pytest.mark.parametrize(
    "key", ["include", "ref", "documentation", "conditional-include", "repo-packages", "check-passwd"]
)
def test_a_key_with_nothing_behind_it_is_not_given(key: str, load: Load) -> None:
    with_it, without = load(f"packages: [p]\n{key}:\n"), load("packages: [p]\n")
    assert with_it.treefile == without.treefile
    in_place = f"conditional-include: [{{if: 'basearch == \"x86_64\"', include: {{packages: [q], {key}: }}}}]"
    assert flat(load(f"packages: [p]\n{in_place}")) == flat(load("packages: [p, q]"))


def test_arch_include(load: Load) -> None:
    loaded = load("packages: [p]\narch-include: {x86_64: x.yaml, s390x: absent.yaml}", x_yaml="packages: [x]")
    assert flat(loaded)["packages"] == ["p", "x"]


def test_substitution(load: Load) -> None:
    treefile = load(
        "ref: f/${stream}/${basearch}/${releasever}\nreleasever: 40\nvariables: {stream: s, flag: true}\npackages: [p]\n"
        'automatic-version-prefix: "${releasever}.<date:%Y>"\nadd-commit-metadata: {k: "${flag} ${unknown}"}'
    ).treefile
    assert treefile.ref == "f/s/x86_64/40"
    assert treefile.automatic_version_prefix == "40.<date:%Y>"
    assert treefile.add_commit_metadata == (("k", "true ${unknown}"),)


def test_edition_sets_defaults_of_its_own_file(load: Load) -> None:
    treefile = load(
        'edition: "2024"\ninclude: a.yaml\npackages: [p]', a_yaml="tmp-is-dir: false\nboot-location: new"
    ).treefile
    assert treefile.tmp_is_dir
    assert treefile.boot_location == "modules"


def test_container(load: Load) -> None:
    treefile = load("container: true\npackages: [p]").treefile
    assert not treefile.selinux
    assert treefile.check_passwd.kind == "none"


def test_legacy_spellings(load: Load) -> None:
    assert load("default_target: g.target\npackages: [p]").treefile.default_target == "g.target"


def test_json_with_comments(load: Load) -> None:
    loaded = load('{\n\t"comment-packages": "why",\n\t"packages": ["a"]\n}', start="top.json")
    assert flat(loaded) == {"basearch": "x86_64", "packages": ["a"]}
    assert "comment-packages: unknown key, ignored as a comment" in loaded.warnings[0]


def test_comments_of_json_may_come_again(load: Load) -> None:
    loaded = load('{"_": "one", "packages": ["a"], "_": "two", "default-target": "\\ud83d\\ude00"}', start="top.json")
    assert flat(loaded) == {"basearch": "x86_64", "packages": ["a"], "default-target": "\N{GRINNING FACE}"}
    with pytest.raises(TreefileError, match=r"top\.json:1:21: packages: given twice, first at .*top\.json:1:2"):
        load('{"packages": ["a"], "packages": ["b"]}', start="top.json")


@pytest.mark.parametrize("start", ["top.json", "top.yaml"])
def test_comments_of_treefiles_written_in_place_may_come_again(start: str, load: Load) -> None:
    text = '{"packages": ["a"], "conditional-include": [{"if": "basearch == \\"x86_64\\"", "include": %s}]}'
    loaded = load(text % '{"#": 1, "packages": ["b"], "#": 2}', start=start)
    assert sorted(flat(loaded)["packages"]) == ["a", "b"]
    # what means something may not, and neither may what stands beside a treefile
    for wrong in ('{"packages": ["c"], "packages": ["d"]}', '{"metadata": {"#": 1, "#": 2}}'):
        with pytest.raises(TreefileError, match="given twice"):
            load(text % wrong, start=start)


def test_only_the_descriptive_texts_of_rojig_are_substituted(load: Load) -> None:
    loaded = load("packages: [p]\nrojig: {name: 'n-${basearch}', summary: '${basearch}', license: '${basearch}'}")
    expected = {"name": "n-x86_64", "summary": "x86_64", "license": "${basearch}", "description": None}
    assert flat(loaded)["rojig"] == expected


@pytest.mark.parametrize("name", ["my-stream", "1st", "a.b", "stream name"])
def test_a_variable_of_any_name_is_substituted(name: str, load: Load) -> None:
    treefile = load(f"ref: f/${{{name}}}\nvariables: {{'{name}': s}}\npackages: [p]").treefile
    assert treefile.ref == "f/s"


def test_kickstart(load: Load, tmp_path: Any) -> None:
    (tmp_path / "k.ks").write_text("# comment\n%packages --exclude-weakdeps\na\n-b\n%end\n")
    assert flat(load("include: k.ks\npackages: [p]")) == {
        "basearch": "x86_64",
        "packages": ["a", "p"],
        "exclude-packages": ["b"],
        "recommends": False,
    }


def test_kickstart_alone(load: Load) -> None:
    loaded = load("%packages\nsystemd\n-bash\nnushell\n%end\n", start="top.ks")
    assert flat(loaded) == {"basearch": "x86_64", "packages": ["nushell", "systemd"], "exclude-packages": ["bash"]}


def test_includes_of_a_kickstart_file(load: Load, tmp_path: Any) -> None:
    """All are kickstart, whatever their names, and are looked up beside the first one."""
    (tmp_path / "ks/sub").mkdir(parents=True)
    (tmp_path / "ks/first.ks").write_text('%include sub/second.inc\n%include "with space"\n%packages\na\n-x\n%end\n')
    (tmp_path / "ks/sub/second.inc").write_text("%include third\n%packages --exclude-weakdeps\nb\n-y\n%end\n")
    (tmp_path / "ks/third").write_text("%packages\nc >= 1\n%end\n")
    (tmp_path / "ks/with space").write_text("%packages\nd\n%end\n")
    loaded = load("include: ks/first.ks\npackages: [p]")
    assert flat(loaded) == {
        "basearch": "x86_64",
        "packages": ["a", "b", "c >= 1", "d", "p"],
        "exclude-packages": ["x", "y"],
        "recommends": False,
    }
    places = {spec.text: spec.place.removeprefix(f"{tmp_path}/") for spec in loaded.treefile.packages}
    assert places["c >= 1"] == "ks/third:2:1"
    # an input like any other
    assert f"{tmp_path}/ks/third" in {each.path for each in loaded.files}
    assert f"{tmp_path}/ks/third" in named_files(str(tmp_path / "top.yaml"), basearch="x86_64")[0]


def test_kickstart_files_may_include_the_same_one(load: Load, tmp_path: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.ks").write_text(f"%include common.ks\n%packages\n{name}\n%end\n")
    (tmp_path / "common.ks").write_text("%packages\nc\n%end\n")
    assert flat(load("include: [a.ks, b.ks]"))["packages"] == ["a", "b", "c"]


def test_a_file_that_several_include_counts_once(load: Load) -> None:
    """Scripts would run twice otherwise."""
    loaded = load(
        "include: [a.yaml, b.yaml, &c c.yaml, *c]",
        a_yaml="include: c.yaml\npackages: [a]",
        b_yaml="include: c.yaml\npackages: [b]\npostprocess: [b]\nreleasever: 2",
        c_yaml="packages: [c]\npostprocess: [c]\nreleasever: 1",
    )
    assert flat(loaded)["packages"] == ["a", "b", "c"]
    assert flat(loaded)["postprocess"] == ["b", "c"]
    assert flat(loaded)["releasever"] == 1


def test_symlinked_include_is_relative_to_the_link(load: Load, tmp_path: Any) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yaml").write_text("include: b.yaml")
    (tmp_path / "a.yaml").symlink_to("real/a.yaml")
    assert flat(load("include: a.yaml\npackages: [p]", b_yaml="packages: [b]"))["packages"] == ["b", "p"]


def test_external_files_are_read_beside_the_file_that_names_them(load: Load, tmp_path: Any) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "motd").write_text("hello")
    (tmp_path / "sub" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    treefile = load(
        "include: sub/a.yaml\npackages: [p]",
        sub__a_yaml="add-files: [[motd, /etc/motd]]\ncheck-passwd: {type: file, filename: passwd}",
    ).treefile
    assert treefile.add_files[0].source.data == b"hello"
    assert treefile.check_passwd.file is not None
    assert treefile.check_passwd.file.data.startswith(b"root")


def test_a_single_id_of_a_user_is_its_group_s_too(load: Load) -> None:
    entries = "entries: {bin: 1, daemon: [2], adm: [3, 4]}"
    treefile = load(f"packages: [p]\ncheck-passwd: {{type: data, {entries}}}").treefile
    assert treefile.check_passwd.data == (("adm", (3, 4)), ("bin", (1, 1)), ("daemon", (2, 2)))
    treefile = load("packages: [p]\ncheck-groups: {type: data, entries: {bin: 1, daemon: [2]}}").treefile
    assert treefile.check_groups.data == (("bin", (1,)), ("daemon", (2,)))


def test_a_later_repo_packages_entry_takes_packages_from_earlier_ones(load: Load) -> None:
    loaded = load(
        "include: a.yaml\nrepo-packages: [{repo: top, packages: [x z]}]",
        a_yaml="repo-packages: [{repo: a, packages: [x, y]}, {repo: b, packages: [z]}]",
    )
    assert [(row.repo, [spec.text for spec in row.packages]) for row in loaded.treefile.repo_packages] == [
        ("a", ["y"]),
        ("top", ["x", "z"]),
    ]
    # what is overridden is neither printed nor an input
    assert flat(loaded)["repo-packages"] == [{"repo": "a", "packages": ["y"]}, {"repo": "top", "packages": ["x", "z"]}]
    assert dict(loaded.deciding_keys)["repo-packages"] == json.dumps(flat(loaded)["repo-packages"], sort_keys=True)


def test_repo_packages_of_one_file(load: Load) -> None:
    loaded = load("repo-packages: [{repo: a, packages: [y x y]}, {repo: b, packages: [x]}]")
    assert [(row.repo, [spec.text for spec in row.packages]) for row in loaded.treefile.repo_packages] == [
        ("a", ["y"]),
        ("b", ["x"]),
    ]
    # rpm-ostree drops what is overridden when it merges files, so of a single one nothing
    assert flat(loaded)["repo-packages"] == [{"repo": "a", "packages": ["x", "y"]}, {"repo": "b", "packages": ["x"]}]


def test_repo_packages_without_packages(load: Load) -> None:
    entry = "repo-packages: [{repo: a, packages: }]"
    inline = f"conditional-include: [{{if: 'basearch == \"x86_64\"', include: {{{entry}}}}}]"
    for text, printed in ((entry, [{"repo": "a", "packages": []}]), (inline, [])):
        loaded = load(text)
        assert loaded.treefile.repo_packages == ()
        assert flat(loaded)["repo-packages"] == printed


def deciding(loaded: LoadedTreefile) -> set[tuple[str, str]]:
    return {*loaded.deciding_keys, *loaded.deciding_files}


def test_external_files_decide_and_metadata_does_not(load: Load, tmp_path: Any) -> None:
    (tmp_path / "f").write_text("1")
    first = deciding(load("packages: [p]\nadd-files: [[f, etc/f]]\nmetadata: {a: 1}"))
    assert ("packages", '["p"]') in first
    assert deciding(load("packages: [p]\nadd-files: [[f, etc/f]]\nmetadata: {a: 2}")) == first
    (tmp_path / "f").write_text("2")
    second = deciding(load("packages: [p]\nadd-files: [[f, etc/f]]\nmetadata: {a: 1}"))
    assert [name for name, _ in first - second] == ["add-files f"]


def test_packages_remove_drops_what_an_include_brought(load: Load) -> None:
    base = "packages: [bash, vim, emacs]"
    loaded = load("include: base.yaml\npackages: [vim-minimal]\npackages-remove: [vim, 'emacs nano']", base_yaml=base)
    assert [spec.text for spec in loaded.treefile.packages] == ["bash", "vim-minimal"]
    assert "packages-remove" not in loaded.json
    assert [warning.rpartition("/")[2] for warning in loaded.warnings] == [
        "top.yaml:3:24: packages-remove: no include lists nano"
    ]


def test_packages_remove_leaves_what_others_bring(load: Load) -> None:
    """The top file may list a package that an include removes from its own includes."""
    loaded = load(
        "include: middle.yaml\npackages: [vim]",
        middle_yaml="include: base.yaml\npackages-remove: [vim]",
        base_yaml="packages: [bash, vim]",
    )
    assert [spec.text for spec in loaded.treefile.packages] == ["bash", "vim"]


def test_rpm_files_are_relative_to_the_file_that_names_them(load: Load, tmp_path: Any) -> None:
    digest = "0" * 64
    loaded = load(
        f"include: sub/base.yaml\nrpm-files: [{{url: 'https://example.com/b.rpm', sha256: '{digest}'}}]",
        sub__base_yaml=f"rpm-files: [{{path: a.rpm, sha256: '{digest}'}}]",
    )
    first, second = loaded.treefile.rpm_files
    assert (first.path, first.url) == (str(tmp_path / "sub" / "a.rpm"), None)
    assert (second.path, second.url) == (None, "https://example.com/b.rpm")


def test_finalize_programs_of_all_files_by_name(load: Load, tmp_path: Any) -> None:
    for directory, name, body in (("", "20-b", "top"), ("sub/", "10-a", "sub"), ("sub/", "20-b", "sub")):
        path = tmp_path / f"{directory}finalize.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        path.chmod(0o755)
    (tmp_path / "finalize.d" / "README").write_text("not executable")
    (tmp_path / "finalize.d" / "30-link").symlink_to("../sub/finalize.d/10-a")
    (tmp_path / "finalize.d" / "40-gone").symlink_to("nowhere")
    loaded = load("packages: [p]\ninclude: sub/base.yaml", sub__base_yaml="packages: [q]")
    # of two with one name the includer's is taken, as everywhere else in the language
    assert [each.data for each in loaded.treefile.finalize] == [b"sub", b"top", b"sub"]
    before = deciding(loaded)
    (tmp_path / "finalize.d" / "20-b").write_text("other")
    after = deciding(load("packages: [p]\ninclude: sub/base.yaml", sub__base_yaml="packages: [q]"))
    assert [name for name, _ in after - before] == ["finalize.d 20-b"]

"""Every fault says file:line:column, what is wrong, and what would be right; all are shown together."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.errors import TreefileError
from compose.treefile import flatten, parse
from compose.treefile.conditions import ConditionFault, evaluate, substitute
from compose.treefile.load import load_treefile

Faults = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("packges: [a]", 'top.yaml:1:1: packges: unknown key; did you mean "packages"?'),
        (
            'variables: {a: "<time:x>"}\nautomatic-version-prefix: "<date:%Y>.${a}"',
            "top.yaml:2:1: automatic-version-prefix: unknown tag <time:x>; the only one is <date:FORMAT>",
        ),
        (
            'variables: {a: "b c"}\nref: os/${a}',
            "top.yaml:2:1: ref: 'os/b c' is not a valid ref name (components of letters, digits, . _ and -, joined by /)",
        ),
        ("packages: bash", 'top.yaml:1:1: packages: must be a list, not "bash"'),
        ("packages: [a]\nselinux: yes", 'top.yaml:2:1: selinux: must be true or false, not "yes"'),
        ("releasever: 43.0", "top.yaml:1:1: releasever: must be text or a whole number, not 43.0"),
        (
            "variables: {v: 1.0}\nconditional-include: [{if: v == 1, include: a.yaml}]",
            "top.yaml:1:13: variables.v: must be text or true or false or a whole number, not 1.0",
        ),
        (
            "check-passwd: {type: data, entries: {bin: 1.0}}",
            "top.yaml:1:38: check-passwd.entries.bin: must be an id, or a list of user id and group id, not 1.0",
        ),
        ("packages: [a]\nselinux: yes please", 'top.yaml:2:1: selinux: must be true or false, not "yes please"'),
        (
            "packages: [a]\nboot-location: module",
            'top.yaml:2:1: boot-location: must be one of new, modules, kernel-install, both, legacy, not "module"; '
            'did you mean "modules"?',
        ),
        ("edition: 2024", 'top.yaml:1:1: edition: must be text, in quotes: "2024"'),
        ("add-files: [[a, b, c]]", "top.yaml:1:13: add-files[0]: must have 2 items, not 3"),
        (
            f"rpm-files: [{{path: a.rpm, url: 'http://x/a.rpm', sha256: {'a' * 64}}}]",
            "top.yaml:1:13: rpm-files[0]: must be a mapping with sha256 and either path or url",
        ),
        (
            "remove-from-packages: [[bash, /usr/share/info/.*, '*.pyc']]",
            "top.yaml:1:51: remove-from-packages: '*.pyc' is not a regular expression: nothing to repeat at position 0",
        ),
        ("packages: [a]\nunits: [x, 3]", "top.yaml:2:12: units[1]: must be text, not 3"),
        ("packages: [a]\npackages: [b]", "top.yaml:2:1: packages: given twice, first at top.yaml:1:1"),
        ("packages: [a\n", "top.yaml:2:1: not YAML: did not find expected ',' or ']'"),
        ("", "top.yaml:1:1: the file is empty; it must be a mapping of keys to values"),
        ("- a", "top.yaml:1:1: the file must be a mapping of keys to values, not a list"),
        ("include: q9/x\npackages: [a]", "top.yaml:1:1: include: cannot read q9/x: No such file or directory"),
        (
            "base-refspec: x",
            "top.yaml:1:1: base-refspec: a key of client-side treefiles, which a compose does not accept",
        ),
        ("groups: [core]", 'top.yaml:1:1: groups: unknown key; list its groups under packages, as "@NAME"'),
        (
            "modules: {enable: ['cri-o:1.28']}",
            "top.yaml:1:1: modules: unknown key; modularity has been retired; list the packages of its modules under packages",
        ),
        (
            "opt-usrlocal-overlays: true",
            "top.yaml:1:1: opt-usrlocal-overlays: unknown key; instead of true: opt-usrlocal: state-overlay",
        ),
        ('packages: ["\'a"]', 'top.yaml:1:12: packages: missing terminating quote in "\'a"'),
        (
            "packages:\n - a b\n - skopeo >= 2:1.7",
            "top.yaml:3:4: packages: 'skopeo >= 2:1.7' is split at spaces; to require a version, write \"'skopeo >= 2:1.7'\"",
        ),
        (
            "packages: [\"a = 1 'b'\"]",
            "top.yaml:1:12: packages: \"a = 1 'b'\" is split at spaces; to require a version, write single quotes around it",
        ),
        ("basearch: s390x", "top.yaml:1:1: basearch: s390x is given, but this compose is for x86_64"),
        (
            "variables: {basearch: x}",
            "top.yaml:1:13: variables.basearch: the compose sets this variable; it cannot be defined",
        ),
        (
            f"variables: {{a: 1}}\nconditional-include: [{{if: 'a == {'1' * 5000}', include: a.yaml}}]",
            "top.yaml:2:24: conditional-include: a is compared with a number of 5000 digits",
        ),
        ("ref: a/${no-pe}", "top.yaml:1:1: ref: undefined variable 'no-pe'"),
        ("ref: a/${nope}", "top.yaml:1:1: ref: undefined variable 'nope'"),
        (
            "packages: [a]\nadd-files: [[top.yaml, var/x]]",
            "top.yaml:2:24: add-files: Unsupported path in add-files: var/x; it must be below /usr (not /usr/local) or /etc",
        ),
        ("check-passwd: {type: file}", "top.yaml:1:1: check-passwd: lacks filename"),
        ("check-groups: {type: data}", "top.yaml:1:1: check-groups: lacks entries"),
        (
            "check-passwd: {type: data, entries: {root: '0'}}",
            'top.yaml:1:38: check-passwd.entries.root: must be an id, or a list of user id and group id, not "0"',
        ),
        (
            "check-groups: {type: data, entries: {root: -1}}",
            "top.yaml:1:38: check-groups.entries.root: must be an id, or a list of one id, not -1",
        ),
        (
            "check-groups: {type: data, entries: {root: [0, 1]}}",
            "top.yaml:1:38: check-groups.entries.root: must be an id, or a list of one id, not a list",
        ),
        (
            'automatic-version-suffix: ".\\n"',
            'top.yaml:1:1: automatic-version-suffix: ".\\n" is not allowed: one ASCII character between prefix and counter',
        ),
        ('"packages-x86_64\\n": [a]', 'top.yaml:1:1: packages-x86_64\n: unknown key; did you mean "packages"?'),
        (
            f'rpm-files: [{{path: a.rpm, sha256: "{"a" * 64}\\n"}}]',
            f'top.yaml:1:27: rpm-files[0].sha256: "{"a" * 56}... is not allowed: 64 hexadecimal digits, as sha256sum '
            "prints them",
        ),
        ("repo-metadata:", "top.yaml:1:1: repo-metadata: must be one of inline, detached, disabled, not nothing"),
        (
            "conditional-include: [{if: 'basearch == \"x86_64\"', include: {repo-metadata: }}]",
            "top.yaml:1:62: repo-metadata: must be one of inline, detached, disabled, not nothing",
        ),
        ("remove-files: [../x]", "top.yaml:1:16: remove-files: ../x must be relative, without .."),
        ("mutate-os-release: ''", "top.yaml:1:1: mutate-os-release: must not be empty"),
        ("units: [a]\nmachineid-compat: false", "top.yaml:1:1: units: needs machineid-compat: true"),
        (
            "conditional-include: [{if: 'nope == 1', include: a.yaml}]",
            "top.yaml:1:24: conditional-include: undefined variable 'nope' (defined: basearch)",
        ),
        (
            "packages: [a]\nconditional-include: [{if: 'basearch == \"x86_64\"', include: {packages: [1]}}]",
            "top.yaml:2:73: packages[0]: must be text, not 1",
        ),
        (
            "postprocess-script: gone.sh",
            "top.yaml:1:1: postprocess-script: cannot read gone.sh: No such file or directory",
        ),
        (
            "ref: !!python/name:os.system x",
            "top.yaml:1:6: tag:yaml.org,2002:python/name:os.system is not a plain value",
        ),
        ('include: "a\\0b"', "top.yaml:1:10: not valid text: a NUL character"),
        ('metadata: {"a\\0": 1}', "top.yaml:1:12: not valid text: a NUL character"),
        ("selinux: !!bool maybe", "top.yaml:1:10: not a valid value: 'maybe'"),
        ("releasever: !!int ''", "top.yaml:1:13: not a valid value: ''"),
        ("releasever: !!float ''", "top.yaml:1:13: not a valid value: ''"),
    ],
)
def test_fault(text: str, expected: str, faults: Faults) -> None:
    assert expected in faults(text)


@pytest.mark.parametrize("holds", ["==", "!="])
@pytest.mark.parametrize(
    "entry",
    [
        "include: a.yaml",
        "arch-include: {x86_64: a.yaml}",
        "conditional-include: [{if: 'basearch == \"x86_64\"', include: a.yaml}]",
        "packages-remove: [vim]",
    ],
)
def test_includes_of_an_inline_treefile(entry: str, holds: str, faults: Faults) -> None:
    key = entry.partition(":")[0]
    inline = f"conditional-include: [{{if: 'basearch {holds} \"x86_64\"', include: {{{entry}}}}}]"
    assert faults(f"packages: [a]\n{inline}", a_yaml="packages: [b]") == [
        f"top.yaml:2:62: {key}: not possible in an inline treefile, which cannot include files"
    ]


def test_kickstart(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "a.ks").write_text("%include a\0b\n")
    assert faults("include: a.ks") == ["a.ks:1:1: not valid text: a NUL character (included from top.yaml:1:1)"]
    (tmp_path / "a.ks").write_text("%include b.yaml\n%include gone.ks\n%include 'x\n")
    assert faults("include: a.ks") == [
        "a.ks:3:1: %include 'x is not understood: No closing quotation (included from top.yaml:1:1)"
    ]
    (tmp_path / "a.ks").write_text("%include b.yaml\n%include gone.ks\n%include a.ks\n")
    assert faults("include: a.ks", b_yaml="packages: [a]\n") == [
        "b.yaml:1:1: packages: is not supported; only %packages sections and %include are "
        "(included from a.ks:1:1) (included from top.yaml:1:1)",
        "a.ks:2:1: include: cannot read gone.ks: No such file or directory (included from top.yaml:1:1)",
        "a.ks:3:1: include loop: a.ks is already included (included from top.yaml:1:1)",
    ]


def test_all_faults_at_once_with_the_way_there(faults: Faults) -> None:
    found = faults("include: a.yaml\nslinux: true", a_yaml="selinux: 3\nunits: x")
    assert found == [
        'top.yaml:2:1: slinux: unknown key; did you mean "selinux"?',
        "a.yaml:1:1: selinux: must be true or false, not 3 (included from top.yaml:1:1)",
        'a.yaml:2:1: units: must be a list, not "x" (included from top.yaml:1:1)',
    ]


def test_include_loop(faults: Faults) -> None:
    found = faults("include: a.yaml", a_yaml="include: top.yaml")
    assert found == ["a.yaml:1:1: include loop: top.yaml includes itself (included from top.yaml:1:1)"]
    found = faults(
        "include: [c.yaml, a.yaml]", a_yaml="include: [b.yaml, c.yaml]", b_yaml="include: a.yaml", c_yaml="{}"
    )
    assert found == [
        "b.yaml:1:1: include loop: a.yaml includes itself (included from a.yaml:1:11) (included from top.yaml:1:19)"
    ]


def test_a_symlink_of_git_to_a_file_that_cannot_be_read(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open

    def refusing(path: str, mode: str) -> BinaryIO:
        if path.endswith("b.yaml"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return cast(BinaryIO, opened(path, mode))

    monkeypatch.setattr(flatten, "open", refusing, raising=False)
    found = faults("include: a.yaml", a_yaml="b.yaml", b_yaml="packages: [b]")
    assert found == ["top.yaml:1:1: include: cannot read b.yaml: Permission denied"]


def test_not_found_suggests(tmp_path: Path) -> None:
    (tmp_path / "fedora.yaml").write_text("")
    with pytest.raises(TreefileError, match=r"No such file or directory; did you mean .fedora.yaml"):
        load_treefile(str(tmp_path / "fedroa.yaml"), basearch="x86_64")


def test_a_program_whose_name_is_not_utf_8(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "finalize.d").mkdir()
    (tmp_path / "finalize.d/x\udcff").touch(mode=0o644)
    (tmp_path / "finalize.d/y\udcff").touch(mode=0o755)
    assert faults("packages: [a]") == ["finalize.d/y\udcff: finalize.d: the name of a program must be UTF-8"]


def test_an_alias_bomb_is_refused(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    # a tenth of the real one, which another test reaches
    monkeypatch.setattr(parse, "_MAX_NODES", 20_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert any("too many values" in line for line in faults("\n".join(lines)))


def test_deep_nesting_is_refused(faults: Faults) -> None:
    assert faults("packages: " + "[" * 5000 + "]" * 5000)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=300))
def test_no_text_raises_anything_else(text: str, tmp_path: Path) -> None:
    for name in ("fuzz.yaml", "fuzz.json", "fuzz.ks"):
        path = tmp_path / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(TreefileError):
            load_treefile(str(path), basearch="x86_64")


@given(
    st.text(max_size=60),
    st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.booleans(), st.integers(), st.text())),
)
def test_conditions_and_substitution_never_fail_otherwise(text: str, variables: dict[str, str | int | bool]) -> None:
    with contextlib.suppress(ConditionFault):
        evaluate(text, variables)
    assert isinstance(substitute(text, variables), str)

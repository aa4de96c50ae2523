"""Each rule finds its mistake, at its place, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from compose.architecture import BASE_ARCHES
from compose.cli.treefile import _result
from compose.findings import Level, Result, to_sarif
from compose.treefile.lint import RULES, lint

GOOD_REPO = "[fedora]\nbaseurl=https://example.com/$releasever\ngpgkey=fedora.key\n"
GOOD = "ref: x\nreleasever: 43\nrepos: [fedora]\npackages: [bash]\n"

Lint = Callable[..., list[str]]


@pytest.fixture
def found(tmp_path: Path) -> Lint:
    """Findings as "file:line:column rule: message", of a treefile and other files."""

    def _found(top: str, repo: str = GOOD_REPO, name: str = "top.yaml", **files: str) -> list[str]:
        (tmp_path / name).write_text(top)
        (tmp_path / "fedora.repo").write_text(repo)
        for other, text in files.items():
            (tmp_path / other.replace("_yaml", ".yaml")).write_text(text)
        rows = lint(str(tmp_path / name), basearch="x86_64")
        return [f"{each.place} {each.rule}: {each.message}".replace(f"{tmp_path}/", "") for each in rows]

    return _found


def test_nothing_to_say(found: Lint) -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpg_key: abc", "top.yaml:5:1 deprecated-spelling: gpg_key is the old spelling of gpg-key"),
        (
            "bootstrap-packages: [zsh]",
            "top.yaml:5:1 deprecated-spelling: bootstrap-packages is the old spelling of packages",
        ),
        ("cliwrap: true", "top.yaml:5:1 deprecated-key: cliwrap is deprecated"),
        (
            "platform-module: x",
            "top.yaml:5:1 deprecated-key: platform-module has no effect: modularity has been retired",
        ),
        ("packages-x86_64: [bash]", "top.yaml:5:19 duplicate-package: bash is already listed at top.yaml:4:12"),
        (
            "exclude-packages: [bash]",
            "top.yaml:4:12 excluded-package: bash is excluded at top.yaml:5:20; no solve can succeed",
        ),
        ("packages-x86: []", "top.yaml:5:1 arch-unknown: x86 is not a base architecture; did you mean x86_64?"),
        ("variables: {a: 1}", "top.yaml:5:13 variable-unused: a is never used"),
        (
            "postprocess:\n  - |\n    false\n    true\n",
            "top.yaml:6:5 script-goes-on-after-errors: the script succeeds if its last command does, even if others failed",
        ),
        (
            "conditional-include: [{if: 'basearch == \"x\"', include: {units: [], unit: [a]}}]",
            "top.yaml:5:68 inline-unknown-key: unit: unknown key, ignored",
        ),
        (
            "conditional-include: [{if: 'basearch == \"x\"', include: {packages: [a b]}}]",
            "top.yaml:5:68 inline-unknown-key: 'a b' counts as one package: inline treefiles do not split texts at spaces",
        ),
        (
            "conditional-include: [{if: 'basearch == \"x\"', include: {gpg_key: a}}]",
            "top.yaml:5:57 inline-unknown-key: gpg_key: unknown key, ignored",
        ),
        ("packages-remove: [vim]", "top.yaml:5:19 packages-remove-needless: packages-remove: no include lists vim"),
    ],
)
def test_a_rule(found: Lint, text: str, expected: str) -> None:
    assert found(GOOD + text) == [expected]


def test_an_architecture_by_another_name(found: Lint) -> None:
    rows = found(GOOD + "arch-include: {amd64: top.yaml}")
    assert [row.split()[1] for row in rows] == ["arch-unknown:", "include-not-taken:"]


@pytest.mark.parametrize(
    "text",
    [
        "postprocess: ['set -e\\nfalse\\ntrue']",
        'postprocess: ["#!/bin/bash -eu\\nfalse\\ntrue"]',
        'postprocess: ["#!/usr/bin/env bash\\nset -xeuo pipefail\\nfalse\\ntrue"]',
        'postprocess: ["#!/usr/bin/python3\\nimport os\\nos.sync()"]',
        "postprocess: ['# one command only\\ntrue']",
        "variables: {a: 1}\nmetadata: {x: '${a}'}",
        "variables: {a-b: 1}\nmetadata: {x: '${a-b}'}",
        "variables: {a: 1}\nconditional-include: [{if: 'a == 1', include: {units: []}}]",
        "variables: {a: 1}\nconditional-include: [{if: 'a==1', include: {units: []}}]",
        "variables: {a: 1}\nconditional-include: [{if: 'basearch == \"x\"', include: {metadata: {x: '${a}'}}}]",
        "conditional-include:",
        "cliwrap: false",
    ],
)
def test_what_is_meant(found: Lint, text: str) -> None:
    assert found(GOOD + text) == []


def test_includes_that_are_not_taken(found: Lint) -> None:
    text = GOOD + (
        "arch-include: {aarch64: other.yaml}\nvariables: {x: 1}\n"
        "conditional-include: [{if: x == 2, include: [other.yaml, gone.yaml]}]\n"
    )
    assert found(text, other_yaml="packages: [zsh]") == [
        "top.yaml:5:16 include-not-taken: other.yaml is not included: it is for aarch64, this compose is for x86_64",
        "top.yaml:7:46 include-not-taken: other.yaml is not included: x == 2 does not hold",
        "top.yaml:7:58 include-missing: gone.yaml does not exist (not included here: x == 2 does not hold)",
    ]


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        (
            "[fedora]\nbaseurl=u\ngpgcheck=0\n",
            ["fedora.repo:1:1 repo-without-gpgcheck: packages of fedora are accepted with any signature or none"],
        ),
        ("[fedora]\nbaseurl=u\n", ["fedora.repo:1:1 repo-without-gpgkey: fedora has gpgcheck=1 but no gpgkey"]),
        (
            "[other]\nbaseurl=u\ngpgcheck=0\n",
            ["top.yaml:3:9 repo-unknown: no .repo file defines fedora (defined: other)"],
        ),
        ("[fedora\n", None),
    ],
)
def test_repositories(found: Lint, repo: str, expected: list[str] | None) -> None:
    rows = found(GOOD, repo=repo)
    assert rows == expected if expected is not None else rows[0].startswith("fedora.repo:1:1 repo-unknown")


def test_releasever_that_nothing_sets(found: Lint) -> None:
    assert found(GOOD.replace("releasever: 43\n", "")) == [
        "fedora.repo:2:1 releasever-unset: baseurl of fedora uses $releasever"
    ]


def test_an_empty_list_of_repositories_counts_as_none(found: Lint) -> None:
    rows = found(GOOD.replace("[fedora]", "[]"), repo="[fedora]\nbaseurl=x\ngpgcheck=0\n")
    assert rows == ["fedora.repo:1:1 repo-without-gpgcheck: packages of fedora are accepted with any signature or none"]


def test_the_release_of_another_root(tmp_path: Path) -> None:
    for name, text in (("top.yaml", "ref: x\nrepos: [fedora]\n"), ("root/etc/yum.repos.d/fedora.repo", GOOD_REPO)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def rules() -> list[str]:
        rows = lint(str(tmp_path / "top.yaml"), basearch="x86_64", source_root=str(tmp_path / "root"))
        return [each.rule for each in rows]

    assert rules() == ["releasever-unset"]
    (tmp_path / "root/etc/os-release").write_text("VERSION_ID=43\n")
    assert rules() == []


def test_comments_of_json(found: Lint) -> None:
    top = json.dumps({"packages": ["bash"], "repos": ["fedora"], "releasever": "1", "comment": "x", "packags": []})
    rows = found(top, name="top.json")
    assert [row.split(": ")[1] for row in rows] == ["comment", "packags"]
    assert 'or "packages"?' in rows[1]


def test_comments_of_json_with_any_name(found: Lint) -> None:
    text = '{"releasever": 43, "repos": ["fedora"], "packages": ["bash"],\n "a: packages-remove": 1, "b\\nc": 2}'
    assert found(text, name="top.json") == [
        'top.json:2:2 json-comment: a: packages-remove: unknown key, ignored as a comment (or "packages-remove"?)',
        "top.json:2:27 json-comment: b\nc: unknown key, ignored as a comment",
    ]


def test_every_rule_is_tested_here() -> None:
    text = Path(__file__).read_text()
    for rule in RULES:
        assert f" {rule}: " in text, rule


def test_sarif(tmp_path: Path) -> None:
    """The parts of SARIF 2.1.0's schema that code hosts insist on."""
    (tmp_path / "top.yaml").write_text(GOOD + "exclude-packages: [bash]\ngpg_key: x\n")
    (tmp_path / "fedora.repo").write_text(GOOD_REPO)
    findings = lint(str(tmp_path / "top.yaml"), basearch="x86_64")
    report = json.loads(to_sarif(RULES, [_result(each) for each in findings], version="1"))
    result = {
        "type": "object",
        "required": ["ruleId", "level", "message", "locations"],
        "properties": {"level": {"enum": ["none", "note", "warning", "error"]}},
    }
    jsonschema.validate(
        report,
        {
            "type": "object",
            "required": ["version", "runs"],
            "properties": {
                "version": {"const": "2.1.0"},
                "runs": {"items": {"required": ["tool", "results"], "properties": {"results": {"items": result}}}},
            },
        },
    )
    (run,) = report["runs"]
    assert [each["ruleId"] for each in run["results"]] == ["excluded-package", "deprecated-spelling"]
    assert [each["level"] for each in run["results"]] == [Level.ERROR, Level.WARNING]
    for each in run["results"]:
        assert run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
    region = run["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 4, "startColumn": 12}


def test_sarif_of_a_file_whose_name_is_not_utf_8() -> None:
    (rule, *_) = RULES
    report = json.loads(to_sarif(RULES, [Result(rule=rule, message="", path="a\udcff.yaml")], version="1"))
    location = report["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "a%FF.yaml"


def test_the_architectures_are_those_of_libdnf5() -> None:
    import libdnf5

    known = {libdnf5.rpm.get_base_arch(each) for each in libdnf5.rpm.get_supported_arches()}
    assert known <= BASE_ARCHES

"""fmt and migrate: comments stay, meaning stays, and what cannot be done safely is not done."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import TreefileError
from compose.treefile.load import load_treefile
from compose.treefile.rewrite import OLD_DEFAULTS, format_text, migrate_text

UNTIDY = """\


# About the file.
packages:   
- bash   # the shell
# a comment in the list
- zsh


- 'foo >= 1'
# about the script
postprocess:
    - |
      #!/bin/bash
      echo trailing   


      echo two empty lines above
    - "quoted  \\
       over lines"
units: [a.service,
  b.service]  
ref: x\r

"""  # noqa: W291

TIDY = """\
# About the file.
packages:
  - bash   # the shell
  # a comment in the list
  - zsh

  - 'foo >= 1'
# about the script
postprocess:
  - |
    #!/bin/bash
    echo trailing   


    echo two empty lines above
  - "quoted  \\
     over lines"
units: [a.service,
  b.service]
ref: x
"""  # noqa: W291


def test_fmt() -> None:
    assert format_text(UNTIDY, "x.yaml") == TIDY
    assert format_text(TIDY, "x.yaml") == TIDY


@pytest.mark.parametrize(
    "text",
    [
        "postprocess:\n- |2\n    two of four are content\n",
        "packages:\n- bash\n  # deep\n- zsh\n",
        "include: x.yaml\n",
        "repo-packages:\n- repo: a\n  packages:\n  - x\n",
        "packages: &p\n    - a\nunits: *p\n",
        "{packages: [a]}\n",
    ],
)
def test_fmt_never_changes_the_meaning(text: str) -> None:
    found = format_text(text, "x.yaml")
    assert yaml.safe_load(found) == yaml.safe_load(text)
    assert format_text(found, "x.yaml") == found


@pytest.mark.parametrize(("path", "text"), [("x.json", "{}"), ("x.yaml", "a: ["), ("x.yaml", "")])
def test_what_is_no_treefile_in_yaml(path: str, text: str) -> None:
    with pytest.raises(TreefileError):
        format_text(text, path)


lines = st.lists(
    st.sampled_from(
        [
            "packages:",
            "- a",
            "  - b  ",
            "# c",
            "",
            "   ",
            "ref: x",
            "units: [u]",
            "postprocess:",
            "  - |",
            "    s  ",
            "\r",
        ]
    ),
    max_size=12,
)


@given(lines)
def test_any_text_is_tidied_or_refused(rows: list[str]) -> None:
    text = "\n".join(rows)
    try:
        found = format_text(text, "x.yaml")
    except TreefileError:
        return
    assert yaml.safe_load(found) == yaml.safe_load(text.replace("\r\n", "\n").replace("\r", "\n"))
    assert format_text(found, "x.yaml") == found


OLD = """\
# About the file.

# The branch.
ref: x
boot_location: modules  # where
"automatic_version_prefix": "1"
bootstrap-packages:
  - bash
"""


def test_migrate() -> None:
    text, undone = migrate_text(OLD, "x.yaml", effective=OLD_DEFAULTS)
    assert text == OLD.replace("boot_location", "boot-location").replace(
        "automatic_version", "automatic-version"
    ).replace("version_prefix", "version-prefix").replace("bootstrap-packages", "packages").replace(
        "# The branch.\n", 'edition: "2024"\ntmp-is-dir: false\n# The branch.\n'
    )
    assert undone == ()
    assert migrate_text(text, "x.yaml", effective=OLD_DEFAULTS) == (text, ())


def test_migrate_joins_nothing() -> None:
    text, undone = migrate_text("packages: [a]\nbootstrap-packages: [b]\n", "x.yaml")
    assert text == "packages: [a]\nbootstrap-packages: [b]\n"
    assert undone == ("x.yaml:2:1: bootstrap-packages: packages is also given; merge them by hand",)


@pytest.mark.parametrize("text", [OLD, 'edition: "2014"\npackages: [a]\n', "packages: [a]\ntmp-is-dir: true\n"])
def test_a_migrated_treefile_means_the_same(text: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(text)
    new.write_text(migrate_text(text, str(old), effective=OLD_DEFAULTS)[0])
    before, after = (load_treefile(str(path), basearch="x86_64").treefile for path in (old, new))
    for name in ("boot_location", "tmp_is_dir", "automatic_version_prefix", "ref"):
        assert getattr(before, name) == getattr(after, name)
    assert [spec.text for spec in before.packages] == [spec.text for spec in after.packages]


def test_what_an_include_says_is_not_undone_by_the_edition() -> None:
    text, _ = migrate_text("packages: [a]\n", "x.yaml", effective={"boot-location": "modules", "tmp-is-dir": False})
    assert text == 'edition: "2024"\ntmp-is-dir: false\npackages: [a]\n'


def test_a_comment_about_the_edition_stays() -> None:
    text, _ = migrate_text('edition: "2014"  # since 2014\n', "x.yaml", effective={})
    assert text == 'edition: "2024"  # since 2014\n'


def test_lines_that_only_yaml_breaks() -> None:
    for text in ("\r\rref: x\n", "ref: x\u2028units: [u]\n", "# a\x85ref: x\n"):
        with pytest.raises(TreefileError, match="line breaks other than"):
            migrate_text(text, "x.yaml", effective=OLD_DEFAULTS)
    assert format_text("# a\rref: x\r", "x.yaml") == "# a\nref: x\n"
    assert migrate_text("gpg_key: x\r\nref: y\r\n", "x.yaml")[0] == "gpg-key: x\r\nref: y\r\n"

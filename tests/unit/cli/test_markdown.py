"""What comes from packages stays text."""

from __future__ import annotations

import pytest

from compose.cli import markdown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bash", "`bash`"),
        ("", ""),
        ("a|b", "`a\\|b`"),
        ("a\n# b", "`a # b`"),
        ("a`b", "`` a`b ``"),
        ("<img src=x>", "`<img src=x>`"),
    ],
)
def test_code(text, expected):
    assert markdown.code(text) == expected


def test_a_fence_is_longer_than_what_it_holds():
    assert markdown.fenced(["x", "````", "</details>"], "diff") == ["`````diff", "x", "````", "</details>", "`````"]
    assert markdown.fenced([]) == ["```", "```"]


def test_a_summary_is_escaped():
    assert markdown.folded("a <b> & c", ["x"])[0] == "<details><summary>a &lt;b&gt; &amp; c</summary>"

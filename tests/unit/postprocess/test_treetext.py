"""The fixture language itself."""

from __future__ import annotations

from tests.support.treetext import MemoryStore, changes, dump, parse

TEXT = """\
d / 0755
l bin usr/bin
d usr 0755
d usr/bin 0755
f usr/bin/ping 0755 "" xattr=security.capability=0100
d usr/share 2775 owner=0:8
f "usr/share/a b" 0644 "one\\ntwo\\n"
"""


def test_text_to_tree_and_back() -> None:
    store = MemoryStore()
    assert dump(parse(TEXT, store), store) == TEXT


def test_changes_name_what_went_what_came_and_who_did_it() -> None:
    store = MemoryStore()
    before = parse(TEXT, store)
    editor = before.edit()
    editor.remove("bin")
    editor.replace("usr/share", gid=9, writer="step:test")
    editor.replace("usr/bin", mtime=7)
    assert changes(before, editor.build(), store) == [
        "- l bin usr/bin",
        "- d usr/share 2775 owner=0:8",
        "+ d usr/share 2775 owner=0:9 @step:test",
    ]

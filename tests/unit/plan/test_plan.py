"""What a plan tells of scriptlets and accounts, from manifests and a commit's ids."""

from __future__ import annotations

from compose.assemble.ids import IdLock
from compose.plan import account_changes, script_changes
from compose.rpm.database import InstalledPackage
from compose.rpm.manifest import ScriptKind, Scriptlet, Trigger, TriggerCondition, TriggerKind
from tests.support.manifests import file, package, shell
from tests.support.treetext import MemoryStore


def installed(*scriptlets, triggers=()):
    return InstalledPackage(
        nevra=package("p").nevra, size=0, source_rpm="", scriptlets=scriptlets, triggers=triggers, changelog=()
    )


def trigger(kind, *names):
    conditions = tuple(TriggerCondition(name=name, flags=0, version="") for name in names)
    return Trigger(kind=kind, conditions=conditions, script=shell("t"))


def told(before, after, ignored=None):
    return [
        (each.phase, each.before is None, each.after is None) for each in script_changes(before, after, ignored or {})
    ]


def test_scriptlets_that_are_new_changed_or_gone():
    before = installed(
        Scriptlet(kind=ScriptKind.PRE, script=shell("same")),
        Scriptlet(kind=ScriptKind.POST, script=shell("old")),
        Scriptlet(kind=ScriptKind.PRETRANS, script=shell("gone")),
    )
    after = package("p", scripts={"pre": shell("same"), "post": shell("new"), "posttrans": shell("more")})
    assert told(before, after) == [("%post", False, False), ("%posttrans", True, False), ("%pretrans", False, True)]
    assert told(None, after) == [("%post", True, False), ("%posttrans", True, False), ("%pre", True, False)]


def test_what_never_runs_in_a_compose_is_not_told():
    after = package("p", scripts={"preun": shell("x"), "postun": shell("x")}, triggers=(trigger(TriggerKind.UN, "q"),))
    assert told(None, after) == []


def test_triggers_are_told_by_what_they_watch():
    before = installed(triggers=(trigger(TriggerKind.FILE_IN, "/usr/lib"),))
    after = package("p", triggers=(trigger(TriggerKind.FILE_IN, "/usr/lib", "/lib"), trigger(TriggerKind.IN, "bash")))
    assert told(before, after) == [
        ("%filetriggerin -- /usr/lib", False, True),
        ("%filetriggerin -- /usr/lib, /lib", True, False),
        ("%triggerin -- bash", True, False),
    ]


def test_a_scriptlet_that_is_skipped_says_why():
    (change,) = script_changes(None, package("p", scripts={"post": shell("x")}), {("p", "post"): "because"})
    assert change.skipped == "because"


def accounts(sysusers, *, users=None, groups=None, lock=None):
    store = MemoryStore()
    store.add_bytes(sysusers.encode())
    found = account_changes(
        [package("p", file("usr/lib/sysusers.d/p.conf", sysusers))],
        store,
        users=users or {},
        groups=groups or {},
        lock=lock,
    )
    return [(each.kind, each.name, each.before, each.after, each.locked) for each in found]


def test_accounts_that_are_new():
    assert accounts("u a 5\nu b -\ng c 7\nu root 0\nm b c\nu! d 9:a\n", users={"a": 5}, groups={"a": 5}) == [
        ("user", "b", None, None, None),
        ("user", "d", None, 9, None),
        ("group", "b", None, None, None),
        ("group", "c", None, 7, None),
    ]


def test_an_id_that_moves():
    assert accounts("g a 6\n", groups={"a": 5}) == [("group", "a", 5, 6, None)]


def test_the_lock_decides():
    lock = IdLock(path="ids.yaml", users={"a": 5, "x": 3, "gone": 4}, groups={"a": 8})
    assert accounts("u a 6\nu n -\n", users={"x": 2}, groups={"a": 8}, lock=lock) == [
        ("user", "a", None, 5, True),
        ("user", "n", None, None, False),
        ("user", "x", 2, 3, True),
        ("group", "n", None, None, False),
    ]

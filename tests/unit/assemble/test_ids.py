"""Locked ids: dynamic ids are moved, new ones are reported, and none is allocated twice."""

from __future__ import annotations

import pytest

from compose.assemble.ids import IdLock, Pinned, pin_ids
from compose.errors import PolicyError
from tests.support.treetext import MemoryStore, parse

TREE = r"""
f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\nchrony:x:998:996::/:/bin/false\nsshd:x:74:74::/:/bin/false\n"
f etc/group 0644 "root:x:0:\nchrony:x:996:sshd\nsshd:x:74:\n"
f usr/lib/sysusers.d/x.conf 0644 "u sshd 74 - -\nu chrony - - -\ng odd 33\n# c\n"
d var/lib/chrony 0750 owner=998:996
f var/lib/chrony/drift 0640 "1" owner=998:996
f usr/bin/ssh-keysign 4755 "" owner=0:74
"""
LOCKED = IdLock(path="ids.yaml", users={"chrony": 998, "sshd": 74}, groups={"chrony": 996, "sshd": 74})


def pin(lock: IdLock = LOCKED, text: str = TREE, *, accept_new: bool = False) -> tuple[Pinned, MemoryStore]:
    store = MemoryStore()
    return pin_ids(parse(text, store), store, lock, accept_new=accept_new), store


def faults(lock: IdLock, text: str = TREE, *, accept_new: bool = False) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        pin(lock, text, accept_new=accept_new)
    return list(caught.value.details) or [caught.value.message]


def read(found: Pinned, store: MemoryStore, path: str) -> str:
    blob = found.tree[path].blob
    assert blob is not None
    return store.read(blob).decode()


def test_what_is_locked_stays() -> None:
    store = MemoryStore()
    tree = parse(TREE, store)
    found = pin_ids(tree, store, LOCKED, accept_new=False)
    assert found.tree is tree
    assert found.lock is LOCKED
    assert found.new == ()


def test_what_floated_away_is_moved_back() -> None:
    lock = IdLock(path="ids.yaml", users={"chrony": 990, "sshd": 74}, groups={"chrony": 980, "sshd": 74})
    found, store = pin(lock)
    assert (found.tree["var/lib/chrony"].uid, found.tree["var/lib/chrony/drift"].gid) == (990, 980)
    assert found.tree["usr/bin/ssh-keysign"].gid == 74
    assert "chrony:x:990:980:" in read(found, store, "etc/passwd")
    assert "chrony:x:980:sshd" in read(found, store, "etc/group")
    assert found.tree["etc/passwd"].writer == "step:id-lock"


def test_two_that_changed_places_are_told_apart() -> None:
    text = TREE.replace("sshd:x:74:74", "sshd:x:997:74").replace("u sshd 74", "u sshd -")
    text += 'f srv/ssh 0600 "" owner=997:0\n'
    lock = IdLock(path="ids.yaml", users={"chrony": 997, "sshd": 998}, groups=LOCKED.groups)
    found, _ = pin(lock, text)
    assert (found.tree["var/lib/chrony"].uid, found.tree["srv/ssh"].uid) == (997, 998)


def test_a_new_name_is_told_and_locked_when_accepted() -> None:
    lock = IdLock(path="ids.yaml", users={"sshd": 74}, groups={"sshd": 74, "chrony": 996})
    assert faults(lock) == ["ids.yaml: user chrony (998) is not locked"]
    found, _ = pin(lock, accept_new=True)
    assert found.new == ("user chrony 998",)
    assert found.lock.users == {"sshd": 74, "chrony": 998}


def test_an_id_of_one_that_is_gone_is_not_given_out_again() -> None:
    lock = IdLock(path="ids.yaml", users={"sshd": 74, "gone": 998}, groups=LOCKED.groups)
    found, _ = pin(lock, accept_new=True)
    assert found.new == ("user chrony 999",)
    assert found.lock.users == {"sshd": 74, "gone": 998, "chrony": 999}
    assert found.tree["var/lib/chrony"].uid == 999


def test_a_fixed_id_that_changed_needs_a_decision() -> None:
    lock = IdLock(path="ids.yaml", users={"chrony": 998, "sshd": 75}, groups=LOCKED.groups)
    for accept_new in (False, True):
        assert faults(lock, accept_new=accept_new) == [
            "ids.yaml: user sshd is locked to 75, but its package now fixes it to 74"
        ]
    lock = IdLock(path="ids.yaml", users={"chrony": 998, "gone": 74}, groups=LOCKED.groups)
    assert faults(lock, accept_new=True) == [
        "ids.yaml: user sshd is fixed to 74 by its package, but 74 belongs to gone"
    ]


def test_two_new_names_with_one_fixed_id() -> None:
    text = TREE.replace("sshd:x:74:74::/:/bin/false\\n", "sshd:x:74:74::/:/bin/false\\nother:x:74:74::/:/bin/false\\n")
    text += 'f usr/lib/sysusers.d/y.conf 0644 "u other 74:sshd - -\\n"\n'
    lock = IdLock(path="ids.yaml", users={"chrony": 998}, groups=LOCKED.groups)
    assert faults(lock, text, accept_new=True) == [
        "ids.yaml: user other is fixed to 74 by its package, but 74 belongs to sshd"
    ]


def test_all_faults_are_told_together() -> None:
    assert len(faults(IdLock(path="ids.yaml", users={}, groups={}))) == 4


def test_numbers_that_are_no_ids_are_passed_over() -> None:
    odd = (
        r'f etc/passwd 0644 "a:x:'
        + "9" * 5000
        + r':0:::\nb:x:²:0:::\n"'
        + '\nf usr/lib/sysusers.d/o.conf 0644 "u c ² - -"'
    )
    assert pin(text=odd)[0].new == ()


def test_bytes_that_are_not_utf8_survive() -> None:
    text = TREE.replace("chrony:x:998:996::", r"chrony:x:998:996:\udcfc:")
    found, store = pin(IdLock(path="ids.yaml", users={"chrony": 990, "sshd": 74}, groups=LOCKED.groups), text)
    blob = found.tree["etc/passwd"].blob
    assert blob is not None
    assert b"chrony:x:990:996:\xfc:/:" in store.read(blob)


def test_names_that_share_an_id_cannot_part() -> None:
    text = TREE.replace("sshd:x:74:74", "sshd:x:998:74").replace("u sshd 74", "u sshd -")
    assert "shares the id 998 with another" in faults(LOCKED, text)[0]

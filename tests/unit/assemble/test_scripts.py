"""Which programs run, in which order, with which arguments."""

from __future__ import annotations

import dataclasses

import pytest
import rpm

from compose.assemble.scripts import LUA, default_ignored, plan
from compose.assemble.triggers import matches
from compose.rpm.manifest import Script, TriggerCondition
from tests.support.manifests import file, package, shell, trigger


def test_phases_are_in_order_and_packages_within_them() -> None:
    kinds = ("pretrans", "pre", "post", "posttrans", "preun", "postun", "verifyscript")
    packages = [package(name, scripts={kind: shell("true") for kind in kinds}) for name in ("one", "two")]
    found = plan(packages, ignored=default_ignored(), epoch=1)
    assert [(each.phase, each.owner[10:13]) for each in found.before + found.after] == [
        (f"%{kind}", name) for kind in ("pretrans", "pre", "post", "posttrans") for name in ("one", "two")
    ]


def test_pretrans_in_lua_waits_for_no_file() -> None:
    one = package("one", scripts={"pretrans": Script(interpreter=(LUA,), body="x"), "pre": shell("x")})
    other = package("other", scripts={"pretrans": shell("x")})
    found = plan([one, other], ignored={}, epoch=0)
    assert [each.owner for each in found.first] == ["scriptlet:one-1-1.x86_64"]
    assert [each.phase for each in found.before] == ["%pretrans", "%pre"]


def test_arguments_are_librpm_s() -> None:
    scripts = {
        "pre": Script(interpreter=("/bin/sh", "-e"), body="x"),
        "post": Script(interpreter=("/sbin/ldconfig",), body=""),
        "posttrans": Script(interpreter=(LUA,), body="x"),
    }
    found = plan([package("one", scripts=scripts)], ignored=default_ignored(), epoch=1, macros=(("a", "b"),))
    argv = {each.phase: each.argv for each in found.before + found.after}
    assert argv == {
        "%pre": ("/bin/sh", "-e", "{script}", "1"),
        "%post": ("/sbin/ldconfig",),
        "%posttrans": (LUA, "1"),
    }
    assert found.after[1].lua
    assert found.after[1].macros == (("a", "b"),)


def test_a_trigger_that_is_a_program_gets_arguments() -> None:
    whole = dataclasses.replace(trigger("triggerin", "other"), script=Script(interpreter=("/sbin/ldconfig",), body=""))
    (program,) = plan([package("one", triggers=(whole,)), package("other")], ignored={}, epoch=0).after
    assert program.argv == ("/sbin/ldconfig", "{script}", "1", "1")


def test_scripts_of_a_relocatable_package_learn_where_it_is() -> None:
    header = rpm.hdr()
    header[rpm.RPMTAG_PREFIXES] = ["/opt", "/usr/share/x"]
    one = dataclasses.replace(package("one", scripts={"post": shell("true")}), header=header.unload())
    (program,) = plan([one], ignored={}, epoch=0).after
    assert dict(program.environment) == {
        "SOURCE_DATE_EPOCH": "0",
        "RPM_INSTALL_PREFIX": "/opt",
        "RPM_INSTALL_PREFIX0": "/opt",
        "RPM_INSTALL_PREFIX1": "/usr/share/x",
    }


@pytest.mark.parametrize(("built", "epoch", "seen"), [(5, 9, "5"), (9, 5, "5")])
def test_what_a_script_dates_is_as_old_as_its_package(built: int, epoch: int, seen: str) -> None:
    one = dataclasses.replace(package("one", scripts={"post": shell("true")}), build_time=built)
    (program,) = plan([one], ignored={}, epoch=epoch).after
    assert program.environment == (("SOURCE_DATE_EPOCH", seen),)


def test_transaction_file_triggers_get_the_paths_they_watch() -> None:
    one = package("one", file("usr/lib/a"), file("usr/lib64/b"), file("etc/c"))
    triggers = (
        trigger("transfiletriggerin", "/usr/lib", priority=1),
        trigger("transfiletriggerin", "/etc/", "/usr/lib64/", priority=2),
        trigger("transfiletriggerin", "/nowhere", priority=3),
        # no directory begins with it, and the database is searched by directory
        trigger("transfiletriggerin", "/etc/c", priority=4),
        trigger("transfiletriggerpostun", "/usr"),
    )
    found = plan([package("two", triggers=triggers), one], ignored=default_ignored(), epoch=1).after
    # a prefix is a prefix of the text
    assert [each.stdin for each in found] == [b"/etc/c\n/usr/lib64/b\n", b"/usr/lib/a\n/usr/lib64/b\n"]
    assert all(each.argv == ("/bin/sh", "{script}", "1") for each in found)


def test_triggers_are_around_the_scriptlets_of_the_package_that_sets_them_off() -> None:
    """tests/compat/assemble compares all kinds and orders with rpm itself."""
    watcher = package(
        "watcher",
        triggers=(
            trigger("triggerprein", "other"),
            trigger("triggerin", "other"),
            trigger("filetriggerin", "/usr"),
            trigger("filetriggerin", "/usr", priority=9_999),
        ),
    )
    other = package("other", file("usr/x"), scripts={"pre": shell("pre"), "post": shell("post")})
    found = plan([watcher, other], ignored=default_ignored(), epoch=1)
    assert [(each.phase, each.argv[2:]) for each in found.before] == [("%triggerprein", ("1", "0")), ("%pre", ("1",))]
    assert [(each.phase, each.argv[2:], each.stdin) for each in found.after] == [
        ("%filetriggerin", ("1", "1"), b"/usr/x\n"),
        ("%post", ("1",), b""),
        ("%triggerin", ("1", "1"), b""),
        ("%filetriggerin", ("1", "1"), b"/usr/x\n"),
    ]


# RPMSENSE_LESS, _GREATER, _EQUAL
@pytest.mark.parametrize(
    ("flags", "version", "expected"),
    [
        (0, "", True),
        (8, "1", True),
        (8, "1-2", False),
        (8, "1-1", True),
        (10, "1-1", True),
        (2, "1-1", False),
        (2, "1:0", True),
        (4, "0.9", True),
        (12, "2", False),
        (8, "0:1", True),
        # of a macro that is not defined; in another encoding
        (2, "-1", False),
        (4, "1:", False),
        (4, "\udcff0", True),
    ],
)
def test_versions_of_triggers(flags: int, version: str, expected: bool) -> None:
    condition = TriggerCondition(name="other", flags=flags, version=version)
    assert matches(condition, package("other").nevra) is expected
    assert not matches(condition, package("another").nevra)


def test_flags_that_change_the_text_go_with_the_program() -> None:
    scripts = {"pre": shell("x", expand=True), "post": shell("x", qformat=True)}
    one = package("one", scripts=scripts)
    found = plan([one], ignored=default_ignored(), epoch=1)
    assert [(each.expand, each.header) for each in (*found.before, *found.after)] == [(True, b""), (False, one.header)]


def test_the_kernel_s_own_installation_is_left_out_unless_asked_for() -> None:
    kernel = package("kernel-core", scripts={"posttrans": shell("kernel-install"), "post": shell("true")})
    found = plan([kernel], ignored=default_ignored(), epoch=1)
    assert [each.phase for each in found.after] == ["%post"]
    assert [(name, phase) for name, phase, _ in found.skipped] == [("kernel-core-1-1.x86_64", "%posttrans")]
    assert len(plan([kernel], ignored={}, epoch=1).after) == 2

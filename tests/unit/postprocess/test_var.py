"""/var and /run as lines of tmpfiles.d."""

from __future__ import annotations

from compose.postprocess import var
from compose.postprocess.options import Dropped, OptUsrLocal
from compose.tree import Tree
from tests.support.treetext import MemoryStore, changes, expect, parse

ACCOUNTS = r"""
f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\nman:x:6:12::/:/bin/false\n"
f etc/group 0644 "root:x:0:\nmail:x:8:\nman:x:12:\n"
"""


def autovar(text: str) -> list[str]:
    """The lines made for a tree, without the comment."""
    store = MemoryStore()
    entry = var.add_tmpfiles(parse(text, store), store).get(var.AUTOVAR)
    if entry is None:
        return []
    assert entry.blob is not None
    return store.read(entry.blob).decode().splitlines()[1:]


def test_directories_and_links_with_names_modes_and_in_order() -> None:
    assert autovar(
        ACCOUNTS
        + """
        d var/spool/mail 2775 owner=0:8
        d var/cache/man 0755 owner=6:12
        d var/lib/odd 0700 owner=77:78
        l var/run ../run
        f var/lib/empty/stamp 0600 ""
        f var/lib/full/data 0600 "x"
        f var/cache/empty 0600 ""
        d run/sudo 0711
        """
    ) == expect(
        """
        d /run/sudo 0711 root root - -
        d /var/cache 0755 root root - -
        d /var/cache/man 0755 man man - -
        d /var/lib 0755 root root - -
        d /var/lib/empty 0755 root root - -
        f /var/lib/empty/stamp 0600 root root - -
        d /var/lib/full 0755 root root - -
        d /var/lib/odd 0700 77 78 - -
        L /var/run - - - - ../run
        d /var/spool 0755 root root - -
        d /var/spool/mail 2775 root mail - -
        """
    )


def test_what_the_image_makes_already_gets_no_line() -> None:
    assert (
        autovar(
            r"""
            f usr/lib/tmpfiles.d/var.conf 0644 "d /var 0755\nd /var/log 0755\nL /var/run - - - - ../run\nd /usr/local/bin\n"
            f usr/lib/tmpfiles.d/readme.txt 0644 "d /var/opt 0755\n"
            l usr/local ../var/usrlocal
            d var/log 0755
            l var/run ../run
            d var/opt 0755
            d var/usrlocal/bin 0755
            """
        )
        == expect("d /var/opt 0755 root root - -\nd /var/usrlocal 0755 root root - -")
    )  # fmt: skip


def test_scratch_gets_no_line() -> None:
    assert autovar("d var/lib/rpm-state/x 0755\nd var/tmp/y 0755\nd run/lock/subsys 0755") == expect(
        "d /var/lib 0755 root root - -\nd /var/tmp 0755 root root - -"
    )


def test_a_second_run_adds_what_is_new_and_keeps_what_a_script_edited() -> None:
    assert autovar(
        r"""
        f usr/lib/tmpfiles.d/rpm-ostree-autovar.conf 0644 "# c\nd /var/a 0700 root root - -\nd /var/z 0755 root root - -\n"
        d var/a 0755
        d var/m 0755
        """
    ) == expect(
        """
        d /var/a 0700 root root - -
        d /var/m 0755 root root - -
        d /var/z 0755 root root - -
        """
    )


def test_the_whole_change_of_making_lines() -> None:
    store = MemoryStore()
    before = parse("d var/a 0755", store)
    assert changes(before, var.add_tmpfiles(before, store), store) == [
        "+ d usr 0755 @step:var",
        "+ d usr/lib 0755 @step:var",
        "+ d usr/lib/rpm-ostree 0755 @step:var",
        "+ d usr/lib/rpm-ostree/tmpfiles.d 0755 @step:var",
        '+ f usr/lib/rpm-ostree/tmpfiles.d/test.conf 0644 "# What this package has in /var and /run, for '
        'rpm-ostree to make rpm-ostree-autovar.conf anew on clients.\\nd /var/a 0755 root root - -\\n" @step:var',
        "+ d usr/lib/tmpfiles.d 0755 @step:var",
        '+ f usr/lib/tmpfiles.d/rpm-ostree-autovar.conf 0644 "# Directories and links that packages have in /var and /run. '
        'Made by the compose; sorted by path.\\nd /var/a 0755 root root - -\\n" @step:var',
    ]


def staged(tree: Tree, store: MemoryStore) -> dict[str, list[str]]:
    """The lines of each package's file, without the comment."""
    blobs = {name: tree[f"{var.STAGED}/{name}"].blob for name in tree.children(var.STAGED)}
    return {name: store.read(blob).decode().splitlines()[1:] for name, blob in blobs.items() if blob is not None}


def test_each_package_s_lines_are_in_a_file_of_its_own_for_clients_that_layer_packages() -> None:
    """rpm-ostree removes the file of a package that is removed, and makes autovar.conf of all that remain."""
    store = MemoryStore()
    editor = parse('f usr/lib/tmpfiles.d/a.conf 0644 "d /var/lib/a 0700\\n"', store).edit()
    for path, writer in {
        "var/lib": "package:filesystem-3.18-1.fc43.x86_64",
        "var/lib/a": "package:a-b-2:1.0-1.noarch",
        "var/lib/a/cache": "scriptlet:a-b-2:1.0-1.noarch:%post",
        "var/lib/own": "treefile:postprocess[0]",
        "var/home": "step:rootfs",
    }.items():
        editor.add_dir(path, writer=writer)
    tree = var.add_tmpfiles(editor.build(), store)
    expected = {
        "@compose.conf": ["d /var/home 0755 root root - -", "d /var/lib/own 0755 root root - -"],
        # also what a file of the image makes already, since a client may remove the package that has that file
        "a-b.conf": ["d /var/lib/a 0755 root root - -", "d /var/lib/a/cache 0755 root root - -"],
        "filesystem.conf": ["d /var/lib 0755 root root - -"],
    }
    assert staged(tree, store) == expected
    assert var.add_tmpfiles(tree, store) == tree
    more = tree.edit()
    more.add_dir("var/lib/a/later", writer="treefile:postprocess[1]")
    expected["@compose.conf"].insert(1, "d /var/lib/a/later 0755 root root - -")
    assert staged(var.add_tmpfiles(more.build(), store), store) == expected


def test_nothing_in_var_changes_nothing() -> None:
    store = MemoryStore()
    before = parse("d var 0755\nd run 0755", store)
    assert var.add_tmpfiles(before, store) is before


def test_emptying_lists_what_no_line_makes_again() -> None:
    store = MemoryStore()
    before = parse(
        """
        d var 0755
        f var/lib/app/data 0644 "x"
        f var/lib/app/stamp 0644 ""
        f var/log/install.log 0644 "x"
        f var/cache/ldconfig/aux-cache 0600 "x"
        f var/lib/systemd/catalog/database 0644 "x"
        l var/run ../run
        f run/pid 0644 "1"
        f usr/keep 0644 ""
        """,
        store,
    )
    after, dropped = var.empty(before)
    assert [path for path, _ in after.walk()] == ["", "run", "usr", "usr/keep", "var"]
    reason = "/var belongs to the machine; only directories and links can be kept"
    assert dropped == (Dropped(path="var/lib/app/data", reason=reason),)


def test_alternatives_go_to_usr_and_run_and_lock_are_links() -> None:
    store = MemoryStore()
    before = parse(
        """
        d usr/lib 0755
        f var/lib/alternatives/vi 0644 "auto"
        d var/run/app 0700
        l var/lock ../run/lock
        """,
        store,
    )
    assert changes(before, var.relocate_data(before), store) == expect(
        """
        + d run 0755 @step:var
        + d run/app 0700 @package:test
        + d usr/lib/alternatives 0755 @step:var
        + f usr/lib/alternatives/vi 0644 "auto" @package:test
        - d var/lib/alternatives 0755
        + l var/lib/alternatives ../../usr/lib/alternatives @step:var
        - f var/lib/alternatives/vi 0644 "auto"
        - d var/run 0755
        + l var/run ../run @step:var
        - d var/run/app 0700
        """
    )


def test_integration_files_by_opt_usrlocal() -> None:
    store = MemoryStore()
    before = parse("d usr/lib/tmpfiles.d 0755", store)
    for choice, count in ((OptUsrLocal.VAR, 2), (OptUsrLocal.STATE_OVERLAY, 2), (OptUsrLocal.ROOT, 1)):
        after = var.add_integration(before, store, opt_usrlocal=choice)
        texts = [store.read(entry.blob).decode() for _, entry in after.walk("usr/lib/tmpfiles.d") if entry.blob]
        assert len(texts) == count
        assert ("d /var/opt 0755 root root - -\n" in "".join(texts)) == (choice is OptUsrLocal.VAR)
        assert "d /var/roothome 0700 root root - -\n" in "".join(texts)
        # for what knows the old places
        links = {"L /var/opt - - - - ../usr/lib/opt", "L /var/usrlocal - - - - ../usr/local"}
        assert (links <= {*"".join(texts).splitlines()}) == (choice is OptUsrLocal.STATE_OVERLAY)


def test_a_merged_sbin_of_usr_local_stays_a_link() -> None:
    """Fedora's filesystem package has this symlink; a directory in its place would hide the content of bin."""
    trees = {
        OptUsrLocal.VAR: "l usr/local ../var/usrlocal\nd var/usrlocal/bin 0755\nl var/usrlocal/sbin bin",
        OptUsrLocal.STATE_OVERLAY: "d usr/local/bin 0755\nl usr/local/sbin bin",
    }
    for choice, text in trees.items():
        store = MemoryStore()
        tree = var.add_integration(parse(text, store), store, opt_usrlocal=choice)
        tree = var.add_tmpfiles(tree, store)
        lines = "".join(store.read(entry.blob).decode() for _, entry in tree.walk("usr/lib/tmpfiles.d") if entry.blob)
        assert "d /usr/local/bin 0755 root root - -\n" in lines
        assert "d /usr/local/sbin " not in lines
        assert ("L /var/usrlocal/sbin - - - - bin\n" in lines) == (choice is OptUsrLocal.VAR)

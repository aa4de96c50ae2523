"""The whole stage, actually running its programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import PostprocessError, ScriptError
from compose.events import Reporter
from compose.postprocess.options import BootLocation, Postprocessed, PostprocessOptions, Script
from compose.postprocess.stage import apply_treefile, postprocess
from compose.tree import Tree
from tests.support.treetext import changes

pytestmark = pytest.mark.root

PLAIN = PostprocessOptions(no_initramfs=True, boot_location=BootLocation.MODULES, time=1700000000)
# A stand-in with dracut's command line; tests of real packages run the real one.
DRACUT = b"""#!/bin/sh
set -eu
test "$DRACUT_NO_MKNOD" = 1
test ! -e /sys/class
for last; do :; done
grep -q chrony /etc/passwd
echo "image of $*" > $last
"""


def run(tree: Tree, store: BlobStore, tmp_path: Path, options: PostprocessOptions) -> Postprocessed:
    result = postprocess(tree, options, store, str(tmp_path), Reporter())
    assert list(tmp_path.iterdir()) == []
    return result


def scripts(*bodies: bytes, last: bytes | None = None) -> PostprocessOptions:
    return dataclasses.replace(
        PLAIN,
        postprocess=tuple(Script(name=f"postprocess[{index}]", body=body) for index, body in enumerate(bodies)),
        postprocess_script=None if last is None else Script(name="finish.sh", body=last),
    )


def content(result: Postprocessed, store: BlobStore, path: str) -> str:
    blob = result.tree[path].blob
    assert blob is not None
    return store.read(blob).decode()


def test_nothing_to_run_runs_nothing(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    result = run(small, store, tmp_path, PLAIN)
    assert (result.records, result.kernel) == ((), "6.1")


def test_scripts_run_in_order_and_see_etc_and_each_other(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    options = scripts(
        b"set -eu\ntest -d /etc -a ! -L /etc\nmkdir /etc/conf.d\ncat /etc/passwd > /etc/conf.d/a\n",
        b"#!/usr/bin/env bash\nset -eu\n[[ -e /etc/conf.d/a ]]; touch /etc/conf.d/b /tmp/x /run/x; touch ~/.x\n",
        last=b"#!/bin/sh\ntest -e /etc/conf.d/b && test ! -e /tmp/x && echo told && touch /usr/lib/last\n",
    )
    result = run(small, store, tmp_path, options)
    assert [record.program.phase for record in result.records] == ["postprocess[0]", "postprocess[1]", "finish.sh"]
    assert result.records[2].output == "told\n"
    assert "chrony" in content(result, store, "usr/etc/conf.d/a")
    assert result.tree["usr/etc/conf.d/b"].writer == "treefile:postprocess[1]"
    assert result.tree["usr/lib/last"].writer == "treefile:finish.sh"
    assert "x" not in "".join(result.tree.children("tmp") + result.tree.children("run") + result.tree.children("var"))


def test_scripts_written_for_usr_etc_work_as_in_rpm_ostree(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    result = run(
        small, store, tmp_path, scripts(b"set -e; rm /usr/etc/nsswitch.conf; echo a > /usr/etc/a; test -f /etc/a")
    )
    assert "usr/etc/nsswitch.conf" not in result.tree
    assert content(result, store, "usr/etc/a") == "a\n"
    with pytest.raises(PostprocessError, match=r"Tree contains both /etc and /usr/etc \(a\)"):
        run(small, store, tmp_path, scripts(b"set -e; rm /usr/etc; mkdir /usr/etc; touch /usr/etc/a"))


def test_a_package_s_link_in_usr_etc_to_its_file_in_etc_is_no_loss(
    small: Tree, store: BlobStore, tmp_path: Path
) -> None:
    editor = small.edit()
    editor.add_symlink("usr/etc/nsswitch.conf", "/etc/nsswitch.conf", writer="package:test-1-1.noarch")
    for each in (postprocess, apply_treefile):
        assert each(editor.build(), PLAIN, store, str(tmp_path), Reporter()).dropped == ()


def test_what_scripts_leave_in_var_and_at_the_top(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    result = run(
        small,
        store,
        tmp_path,
        scripts(b"mkdir -p /var/lib/new /opt/app /data; echo 1 > /var/lib/new/f; echo 1 > /data/f"),
    )
    lines = content(result, store, "usr/lib/tmpfiles.d/rpm-ostree-autovar.conf").splitlines()
    assert "d /var/lib/new 0755 root root - -" in lines
    assert "d /var/opt/app 0755 root root - -" in lines
    assert "d /var/lib/chrony 0750 chrony chrony - -" in lines
    assert [each.path for each in result.dropped] == ["data", "data/f", "var/lib/new/f"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"echo first; echo told >&2; exit 3", r"postprocess\[0\] \(treefile\) failed with status 3"),
        (b"#!/usr/bin/perl\n", "failed with status 127"),
        (b"kill -9 $$", "was killed by SIGKILL"),
    ],
)
def test_a_script_that_fails(small: Tree, store: BlobStore, tmp_path: Path, body: bytes, message: str) -> None:
    with pytest.raises(ScriptError, match=message) as caught:
        run(small, store, tmp_path, scripts(body))
    if b"told" in body:
        assert caught.value.details == ("first", "told")
    assert list(tmp_path.iterdir()) == []


def with_dracut(tree: Tree, store: BlobStore, script: bytes = DRACUT) -> Tree:
    editor = tree.edit()
    editor.add_file("usr/bin/dracut", store.add_bytes(script, 0o755), 0o755, writer="package:dracut")
    return editor.build()


def test_an_initramfs_is_made_and_copied(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    options = PostprocessOptions(initramfs_args=("--no-hostonly", "--add", "iscsi"), time=1700000000)
    result = run(with_dracut(small, store), store, tmp_path, options)
    image = content(result, store, "usr/lib/modules/6.1/initramfs.img")
    assert image.startswith("image of --reproducible --add ostree")
    assert "--no-hostonly --add iscsi --kver 6.1 /usr/lib/modules/6.1/initramfs.img\n" in image
    assert "070701" in image
    assert result.tree["usr/lib/modules/6.1/initramfs.img"].permissions == 0o644
    names = result.tree.children("usr/lib/ostree-boot")
    assert [name.rpartition("-")[0] for name in names] == ["initramfs-6.1.img", "vmlinuz-6.1"]
    assert result.tree[f"usr/lib/ostree-boot/{names[0]}"].blob == result.tree["usr/lib/modules/6.1/initramfs.img"].blob
    # but for times, which no commit holds
    assert changes(result.tree, run(with_dracut(small, store), store, tmp_path, options).tree, store) == []


def test_dracut_sees_the_same_with_and_without_scripts(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    """Its module nfs puts files of /usr/etc into the initramfs, where the link for scripts must not be."""
    tree = with_dracut(small, store, DRACUT + b"ls /usr >> $last\n")
    options = PostprocessOptions(time=1700000000)
    plain = run(tree, store, tmp_path, options)
    script = Script(name="postprocess[0]", body=b"set -e; test -L /usr/etc; : > /usr/etc/a")
    scripted = run(tree, store, tmp_path, dataclasses.replace(options, postprocess=(script,)))
    image = "usr/lib/modules/6.1/initramfs.img"
    assert content(scripted, store, image) == content(plain, store, image)
    assert content(scripted, store, "usr/etc/a") == ""


def test_dracut_that_fails_or_is_missing(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    options = PostprocessOptions(time=1700000000)
    with pytest.raises(PostprocessError, match="no /usr/bin/dracut"):
        run(small, store, tmp_path, options)
    with pytest.raises(ScriptError, match=r"dracut \(step:initramfs\) failed with status 7"):
        run(with_dracut(small, store, b"#!/bin/sh\nexit 7\n"), store, tmp_path, options)


def test_a_module_added_by_a_script_needs_depmod(small: Tree, store: BlobStore, tmp_path: Path) -> None:
    editor = small.edit()
    body = b"#!/bin/sh\necho depmod $*\n"
    editor.add_file("usr/bin/depmod", store.add_bytes(body, 0o755), 0o755, writer="package:kmod")
    editor.add_symlink("usr/sbin", "bin", writer="package:test")
    tree = editor.build()
    script = b"mkdir /usr/lib/modules/6.1/extra; touch /usr/lib/modules/6.1/extra/x.ko"
    result = run(tree, store, tmp_path, scripts(script))
    assert [record.output for record in result.records] == ["", "depmod -a 6.1\n"]

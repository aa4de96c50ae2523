"""cliwrap: programs replaced by wrappers that call rpm-ostree."""

from __future__ import annotations

import pytest

from compose.errors import PostprocessError
from compose.postprocess.cliwrap import wrap
from compose.treefile.keys import WRAPPABLE
from tests.support.treetext import MemoryStore, parse

TREE = 'f usr/bin/rpm-ostree 0755 ""\nf usr/bin/rpm 0755 "rpm"\nf usr/sbin/grubby 0755 "grubby"\n'
WRAPPED = "usr/libexec/rpm-ostree/wrapped"


def test_programs_are_moved_away_and_yum_and_dnf_are_made() -> None:
    store = MemoryStore()
    tree = wrap(parse(TREE, store), store, WRAPPABLE)
    assert tree.children(WRAPPED) == ["grubby", "rpm"]
    assert store.read(tree[f"{WRAPPED}/rpm"].blob) == b"rpm"  # type: ignore[arg-type]
    for path in ("usr/bin/rpm", "usr/sbin/grubby", "usr/bin/yum", "usr/bin/dnf"):
        assert tree[path].permissions == 0o755
        assert b'exec /usr/bin/rpm-ostree cliwrap $0 "$@"' in store.read(tree[path].blob)  # type: ignore[arg-type]
    assert "usr/bin/dracut" not in tree


@pytest.mark.parametrize(
    ("files", "is_wrapped"),
    [
        ("", True),
        ('f usr/lib/kernel/install.conf 0644 "# ours\\nlayout=ostree\\n"', False),
        ('f usr/lib/kernel/install.conf 0644 "#layout=ostree\\nlayout=ostrees\\n"', True),
        # as bootc's base images have it, out of the way of updates of systemd-udev
        ('f usr/lib/kernel/install.conf.d/00-layout.conf 0644 " layout = ostree "', False),
        (
            'f usr/lib/kernel/install.conf 0644 "layout=bls"\nf usr/lib/kernel/install.conf.d/0.conf 0644 "layout=ostree"',
            False,
        ),
        ('f usr/lib/kernel/install.conf 0644 "layout=bls"\nf etc/kernel/install.conf 0644 "layout=ostree"', False),
        ('f usr/lib/kernel/install.conf 0644 "layout=ostree"\nf etc/kernel/install.conf 0644 ""', True),
        (
            'f usr/lib/kernel/install.conf.d/a.conf 0644 "layout=ostree"\nl etc/kernel/install.conf.d/a.conf /dev/null',
            True,
        ),
        (
            'f etc/kernel/install.conf.d/a.conf 0644 "layout=ostree"\nf usr/lib/kernel/install.conf.d/b.conf 0644 "layout=bls"',
            True,
        ),
        ('f usr/lib/kernel/install.conf.d/README 0644 "layout=ostree"', True),
    ],
)
def test_kernel_install_that_knows_ostree_stays(files: str, is_wrapped: bool) -> None:
    store = MemoryStore()
    tree = wrap(parse(f'{TREE}f usr/bin/kernel-install 0755 "k"\n{files}', store), store, ("kernel-install",))
    assert (f"{WRAPPED}/kernel-install" in tree) is is_wrapped


def test_nothing_asked_nothing_done() -> None:
    store = MemoryStore()
    tree = parse(TREE, store)
    assert wrap(tree, store, ()) is tree


def test_without_rpm_ostree_nothing_could_take_the_calls() -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match="the tree has no /usr/bin/rpm-ostree"):
        wrap(parse('f usr/bin/rpm 0755 ""', store), store, ("rpm",))


def test_what_is_wrapped_is_not_wrapped_again() -> None:
    """A base treefile and the one that includes it may both name a program; a root may have been wrapped before."""
    store = MemoryStore()
    tree = wrap(parse(TREE, store), store, ("rpm", "rpm"))
    assert store.read(tree[f"{WRAPPED}/rpm"].blob) == b"rpm"  # type: ignore[arg-type]
    assert wrap(tree, store, ("rpm",)) == tree

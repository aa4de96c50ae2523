"""The rules of the policy in a tree, applied by libselinux.

They are read as text (file_contexts and its companions, never the compiled .bin, which has another machine's regular
expressions) and need no SELinux on this machine. /usr/etc is looked up as /etc, which it becomes on the client.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import selinux

from compose.errors import LabelError, StorageError
from compose.events import Reporter
from compose.fs import storage_errors
from compose.label.memo import LabelMemo
from compose.rpm import child
from compose.tree import BlobRef, Tree, TreeLookupError

_CONFIG = "usr/etc/selinux/config"
# file_contexts is needed; a policy without the others has no such rules.
_SUFFIXES = ("", ".homedirs", ".local", ".subs", ".subs_dist")
# Paths for which another process is worth while: it starts in as long as it takes to look up 5,000.
_MANY = 20_000


class Contents(Protocol):
    """What is needed of a blob store."""

    def read(self, ref: BlobRef) -> bytes: ...


class Rules:
    """The rules of one policy. policy: its name."""

    def __init__(
        self, policy: str, rules: Mapping[str, bytes], memo: LabelMemo, workdir: str, stack: ExitStack
    ) -> None:
        """rules: by suffix of file_contexts. workdir: for a private copy of them. stack: closes what is opened."""
        self.policy = policy
        self._rules = rules
        self._memo = memo
        self._workdir = workdir
        self._stack = stack
        self._handle: Any = None

    def learn(self, paths: Iterable[tuple[str, int]], jobs: int, reporter: Reporter) -> None:
        """Look up what is not known of paths (with the mode of each), in `jobs` processes. Raises LabelError."""
        unknown = [(path, mode) for path, mode in paths if path not in self._memo.of(stat.S_IFMT(mode))]
        if jobs < 2 or len(unknown) < _MANY:
            return
        shares = [tuple(unknown[number::jobs]) for number in range(1, jobs)]
        with ThreadPoolExecutor(len(shares)) as others:
            questions = [
                Question(policy=self.policy, rules=self._rules, paths=share, workdir=self._workdir) for share in shares
            ]
            answers = [others.submit(child.call, look_up, each, reporter, crash=crashed) for each in questions]
            for path, mode in unknown[::jobs]:
                self.context(path, mode)
        for share, answer in zip(shares, answers, strict=True):
            for (path, mode), context in zip(share, answer.result(), strict=True):
                self._memo.of(stat.S_IFMT(mode))[path] = context

    def context(self, path: str, mode: int) -> str | None:
        """Context of a path, None for <<none>> and for what no rule matches. mode: st_mode. Raises LabelError."""
        found = self._memo.of(stat.S_IFMT(mode))
        if path not in found:
            found[path] = self._look_up(path, mode)
        return found[path]

    def _look_up(self, path: str, mode: int) -> str | None:
        # opened when first needed: where all is remembered that is never
        if self._handle is None:
            self._handle = self._open()
        looked_up = path.removeprefix("usr/") if path == "usr/etc" or path.startswith("usr/etc/") else path
        try:
            _, context = selinux.selabel_lookup_raw(self._handle, f"/{looked_up}", mode)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LabelError(f"the policy's rules cannot be applied to /{path}: {error.strerror}") from error
        return str(context)

    def _open(self) -> Any:
        with storage_errors(self._workdir):
            directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="policy-", dir=self._workdir))
            copy = os.path.join(directory, "file_contexts")
            for suffix, rules in self._rules.items():
                with open(copy + suffix, "wb") as file:
                    file.write(rules)
        option = selinux.selinux_opt()
        option.type = selinux.SELABEL_OPT_PATH
        option.value = copy
        # a failure is None, not an exception; libselinux says on standard error which line it is
        handle = selinux.selabel_open(selinux.SELABEL_CTX_FILE, option, 1)
        if handle is None:
            raise LabelError(f"libselinux cannot read the file_contexts of the policy {self.policy}")
        self._stack.callback(selinux.selabel_close, handle)
        return handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What look_up() is asked. rules: by suffix of file_contexts. paths: with the mode of each. workdir: for a private copy of
    the rules."""

    policy: str
    rules: Mapping[str, bytes]
    paths: tuple[tuple[str, int], ...]
    workdir: str


def look_up(question: Question, reporter: Reporter) -> list[str | None]:
    """The context of each path, None for <<none>>; to be called in a process of its own."""
    del reporter
    with ExitStack() as stack:
        rules = Rules(question.policy, question.rules, LabelMemo(), question.workdir, stack)
        contexts = [rules.context(path, mode) for path, mode in question.paths]
    # one object for all that are equal is sent once
    return [None if each is None else sys.intern(each) for each in contexts]


def crashed(how: str, output: tuple[str, ...]) -> LabelError:
    """What the end of that process means."""
    return LabelError(f"libselinux died while labels were looked up: {how}", details=output)


@contextmanager
def rules_of(tree: Tree, store: Contents, workdir: str, memo: str | None, reporter: Reporter) -> Iterator[Rules]:
    """The rules of the policy in a tree. memo: directory where it is remembered what they said, None for nowhere.

    Raises LabelError when the tree has no policy, or one that cannot be read.
    """
    policy = policy_of(tree, store)
    rules = read_rules(tree, store, policy)
    known = LabelMemo() if memo is None else LabelMemo.open(memo, rules)
    with ExitStack() as stack:
        yield Rules(policy, rules, known, workdir, stack)
    if memo is not None:
        try:
            known.save(len(tree))
        except StorageError as error:
            reporter.warn(f"labels are not remembered, and the next compose looks them up again: {error}")


def read_rules(tree: Tree, store: Contents, policy: str) -> dict[str, bytes]:
    """A policy's rules, by suffix of file_contexts. Raises LabelError when it has none."""
    base = f"usr/etc/selinux/{policy}/contexts/files/file_contexts"
    rules = {suffix: data for suffix in _SUFFIXES if (data := _read(tree, store, base + suffix)) is not None}
    if "" not in rules:
        raise LabelError(f"the policy {policy} has no /{base}")
    return rules


def policy_of(tree: Tree, store: Contents) -> str:
    """Name of the policy that the tree's /etc/selinux/config chooses, "targeted". Raises LabelError when there is none."""
    text = (_read(tree, store, _CONFIG) or b"").decode("utf-8", "replace")
    chosen = re.findall(r"(?m)^[ \t]*SELINUXTYPE[ \t]*=[ \t]*([^\s#/]+)", text)
    if not chosen:
        raise LabelError(
            f"SELinux enabled, but no policy found in tree (/{_CONFIG} names none)",
            hint="add a policy to `packages` (selinux-policy-targeted), or set `selinux: false`",
        )
    policy = str(chosen[-1])
    if f"usr/etc/selinux/{policy}" not in tree:
        raise LabelError(
            f"SELinux enabled, but no policy found in tree: /{_CONFIG} names {policy}, and there is no "
            f"/usr/etc/selinux/{policy}",
            hint="add the policy's package to `packages`, or set `selinux: false`",
        )
    return policy


def _read(tree: Tree, store: Contents, path: str) -> bytes | None:
    """A file of the tree, symlinks followed inside it, those to /etc in /usr/etc."""
    try:
        place = tree.resolve(path)
    except TreeLookupError as error:
        raise LabelError(f"the policy cannot be read: {error}") from error
    if place.startswith("etc/"):
        place = f"usr/{place}"
    entry = tree.get(place)
    return None if entry is None or entry.blob is None else store.read(entry.blob)

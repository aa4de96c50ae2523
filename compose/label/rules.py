"""Looks up labels in the rules of a tree's policy, through libselinux.

The rules are read as text (file_contexts and its companions, never the .bin files, whose regular expressions are compiled for
another machine). This machine need not have SELinux. /usr/etc is looked up as /etc, which it becomes on the client.
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
# file_contexts itself is required, the others are optional.
_SUFFIXES = ("", ".homedirs", ".local", ".subs", ".subs_dist")
# From this many paths on more processes pay off: starting one takes as long as 5,000 look-ups.
_MANY = 20_000


class Contents(Protocol):
    """The part of a blob store that labelling needs."""

    def read(self, ref: BlobRef) -> bytes: ...


class Rules:
    """The rules of one policy. policy: its name."""

    def __init__(
        self, policy: str, rules: Mapping[str, bytes], memo: LabelMemo, workdir: str, stack: ExitStack
    ) -> None:
        """rules: by suffix of file_contexts. workdir: for a private copy of them. stack: closes the copy and libselinux's
        handle."""
        self.policy = policy
        self._rules = rules
        self._memo = memo
        self._workdir = workdir
        self._stack = stack
        self._handle: Any = None

    def learn(self, paths: Iterable[tuple[str, int]], jobs: int, reporter: Reporter) -> None:
        """Look up paths that are not in the memo, in up to `jobs` processes. paths: (path, st_mode). Raises LabelError."""
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
        """The context of a path, None for <<none>> or if no rule matches. mode: st_mode. Raises LabelError."""
        found = self._memo.of(stat.S_IFMT(mode))
        if path not in found:
            found[path] = self._look_up(path, mode)
        return found[path]

    def _look_up(self, path: str, mode: int) -> str | None:
        # opened only when needed, which is never if the memo has all paths
        if self._handle is None:
            self._handle = self._open()
        client_path = path.removeprefix("usr/") if path == "usr/etc" or path.startswith("usr/etc/") else path
        try:
            _, context = selinux.selabel_lookup_raw(self._handle, f"/{client_path}", mode)
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
        # fails with None instead of an exception; libselinux prints the line at fault to standard error
        handle = selinux.selabel_open(selinux.SELABEL_CTX_FILE, option, 1)
        if handle is None:
            raise LabelError(f"libselinux cannot read the file_contexts of the policy {self.policy}")
        self._stack.callback(selinux.selabel_close, handle)
        return handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The input of look_up(). rules: by suffix of file_contexts. paths: (path, st_mode). workdir: for a private copy of the
    rules."""

    policy: str
    rules: Mapping[str, bytes]
    paths: tuple[tuple[str, int], ...]
    workdir: str


def look_up(question: Question, reporter: Reporter) -> list[str | None]:
    """The context of each path, None for <<none>> or if no rule matches. To be called in a separate process."""
    del reporter
    with ExitStack() as stack:
        rules = Rules(question.policy, question.rules, LabelMemo(), question.workdir, stack)
        contexts = [rules.context(path, mode) for path, mode in question.paths]
    # equal contexts become one object, which is sent only once
    return [None if context is None else sys.intern(context) for context in contexts]


def crashed(reason: str, output: tuple[str, ...]) -> LabelError:
    """The error to raise when the process of look_up() dies."""
    return LabelError(f"libselinux crashed while looking up labels: {reason}", details=output)


@contextmanager
def rules_of(tree: Tree, store: Contents, workdir: str, memo: str | None, reporter: Reporter) -> Iterator[Rules]:
    """The rules of a tree's policy. memo: directory that caches look-ups, None for no cache.

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
            reporter.warn(f"cannot cache labels, so the next compose looks them up again: {error}")


def read_rules(tree: Tree, store: Contents, policy: str) -> dict[str, bytes]:
    """A policy's rules, by suffix of file_contexts. Raises LabelError when there is no file_contexts."""
    base = f"usr/etc/selinux/{policy}/contexts/files/file_contexts"
    rules = {suffix: data for suffix in _SUFFIXES if (data := _read(tree, store, base + suffix)) is not None}
    if "" not in rules:
        raise LabelError(f"the policy {policy} has no /{base}")
    return rules


def policy_of(tree: Tree, store: Contents) -> str:
    """The policy that the tree's /etc/selinux/config names, such as "targeted". Raises LabelError when the tree has none."""
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
    """The content of a file, following symlinks in the tree, with /usr/etc in place of /etc; None if there is none."""
    try:
        resolved = tree.resolve(path)
    except TreeLookupError as error:
        raise LabelError(f"the policy cannot be read: {error}") from error
    if resolved.startswith("etc/"):
        resolved = f"usr/{resolved}"
    entry = tree.get(resolved)
    return None if entry is None or entry.blob is None else store.read(entry.blob)

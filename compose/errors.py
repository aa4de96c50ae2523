"""All errors that this tool raises on purpose, with their exit codes.

    ComposeError            1   the compose failed
    ├── UsageError          2   a wrong flag, a missing argument, a missing library of the host
    ├── TreefileError       2   the treefile or a file it names is wrong (details: all faults)
    ├── SolveError          3   no package set satisfies the treefile
    ├── FetchError          4   a download failed or has a wrong checksum; a bundle is damaged
    ├── TrustError          5   a signature is missing, or not made by a key of the repository
    ├── PackageError        5   an RPM is damaged or malicious
    ├── ScriptError         6   a scriptlet, trigger or program of the compose failed
    ├── PolicyError         7   the result breaks a rule: a lint rule, an id that is not locked, an account whose id changed
    ├── AssembleError       1   the packages cannot be combined (file conflict, unknown owner)
    ├── TreeError           1   a path has no place in the tree, because of what is there already
    ├── PostprocessError    1   the tree cannot be given the OSTree layout (no kernel, ...)
    ├── LabelError          1   the SELinux policy is missing or not readable
    ├── SandboxError        1   this machine refuses something that a workroot needs
    ├── MismatchError       8   composing a commit again gives a different one
    ├── RepositoryError     1   the OSTree repository is missing, damaged, locked or not writable
    │   └── RefMovedError   1   another process moved a ref while a commit was made for it; composing again follows it there
    ├── ImageError          1   a container image or its registry, archive or directory is missing, damaged or not writable
    └── StorageError        1   disk full, I/O error, or not writable
        └── DamagedError    1   a file of the cache was damaged; it has been removed, and the next compose creates it again

Only the CLI turns an error into an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self


class ComposeError(Exception):
    """Base class.

    message: one sentence with the place (file:line, package, path) and the fault.
    hint: the remedy in one sentence, or None if the message suffices.
    details: more lines to show below (the end of a script's output, the solver's explanation).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)

    @classmethod
    def of(cls, faults: Sequence[str], several: str, *, hint: str | None = None, most: int | None = None) -> Self:
        """Return one error for all faults, of which there is at least one.

        faults: one sentence each; the message if there is only one, else the details. several: the message for more than one.
        most: how many of them are listed, None for all.
        """
        if len(faults) == 1:
            return cls(faults[0], hint=hint)
        rest = 0 if most is None else len(faults) - most
        return cls(several, hint=hint, details=[*faults[:most], *([f"and {rest} more"] if rest > 0 else [])])


class UsageError(ComposeError):
    """The command line is wrong, or the host lacks something that the command needs."""

    exit_code = 2


class TreefileError(ComposeError):
    """One or more faults in the treefile; details holds one line per fault."""

    exit_code = 2


class SolveError(ComposeError):
    """The packages asked for cannot be installed together."""

    exit_code = 3


class FetchError(ComposeError):
    """Repository metadata, a package or a bundle could not be obtained intact."""

    exit_code = 4


class TrustError(ComposeError):
    """A package is not signed by a key that its repository names."""

    exit_code = 5


class PackageError(ComposeError):
    """An RPM is damaged, or its payload tries to reach outside its root."""

    exit_code = 5


class ScriptError(ComposeError):
    """A program run in the workroot failed."""

    exit_code = 6


class PolicyError(ComposeError):
    """The result breaks a rule of the user's, or one that clients rely on, and is not published."""

    exit_code = 7


class AssembleError(ComposeError):
    """The packages cannot be combined into a tree."""


class TreeError(ComposeError):
    """A path has no place in the tree, because of what is there already."""


class PostprocessError(ComposeError):
    """The tree cannot be given the OSTree layout."""


class LabelError(ComposeError):
    """SELinux labels cannot be computed."""


class SandboxError(ComposeError):
    """The machine refuses a namespace, mount or overlay that is needed."""


class MismatchError(ComposeError):
    """Composing a commit again gave a different one."""

    exit_code = 8


class RepositoryError(ComposeError):
    """The OSTree repository, or an object of it, cannot be used."""


class RefMovedError(RepositoryError):
    """Another process moved a ref while a commit was made for it."""


class ImageError(ComposeError):
    """A container image cannot be read or written."""


class StorageError(ComposeError):
    """The disk refused a write: full, read-only, or failing."""


class DamagedError(StorageError):
    """A file of the cache was damaged. Whoever raises this has removed it."""

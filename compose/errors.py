"""Every error this tool raises on purpose.

    ComposeError            1   something in the compose failed
    ├── UsageError          2   wrong flag, missing argument, missing host library
    ├── TreefileError       2   the treefile or a file it names is wrong (carries all faults found)
    ├── SolveError          3   no package set satisfies the treefile
    ├── FetchError          4   network, mirror, checksum of something downloaded
    ├── TrustError          5   signature missing or not by a key of the repository
    ├── PackageError        5   an RPM that is damaged or tries to harm (hostile payload)
    ├── ScriptError         6   a scriptlet, trigger or program of the compose failed
    ├── PolicyError         7   a gate refuses what was composed: a lint rule, an id that is not locked, an account that moved
    ├── AssembleError       1   packages do not fit together (file conflict, unknown owner)
    ├── PostprocessError    1   the tree cannot be made into an OSTree layout (no kernel, ...)
    ├── LabelError          1   SELinux policy missing or not readable
    ├── SandboxError        1   this machine refuses what a workroot needs
    ├── MismatchError       8   a commit is not what its record, or a treefile, makes
    ├── RepositoryError     1   the OSTree repository is missing, damaged, locked or not writable
    ├── ImageError          1   a container image, or what holds it, is missing or damaged, or refuses what it is given
    └── StorageError        1   disk full, I/O error, read-only place
        └── DamagedError    1   something in the cache is not what it was; it is gone from there, the next try makes it anew

Errors are raised, never exited: only the CLI turns one into an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ComposeError(Exception):
    """Root of the hierarchy.

    message: one sentence naming the place (file:line, package, path) and the fault.
    hint: what to do about it, one sentence, or None when the message says it all.
    details: further lines to show below (a script's last output, a solver's chain).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(ComposeError):
    """The command line or the host is not what the command needs."""

    exit_code = 2


class TreefileError(ComposeError):
    """One or more faults in the treefile; details holds one line per fault."""

    exit_code = 2


class SolveError(ComposeError):
    """The packages asked for cannot be installed together."""

    exit_code = 3


class FetchError(ComposeError):
    """Repository metadata or a package could not be brought here intact."""

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
    """What was composed breaks a rule that somebody set, or that clients rely on; it goes no further."""

    exit_code = 7


class AssembleError(ComposeError):
    """The packages do not make one tree."""


class PostprocessError(ComposeError):
    """The tree cannot be given the OSTree layout."""


class LabelError(ComposeError):
    """SELinux labels cannot be computed."""


class SandboxError(ComposeError):
    """The machine refuses a namespace, mount or overlay that is needed."""


class MismatchError(ComposeError):
    """A commit was made again, and another one came out."""

    exit_code = 8


class RepositoryError(ComposeError):
    """The OSTree repository cannot be used as asked."""


class ImageError(ComposeError):
    """A container image cannot be read, or cannot be put where it should go."""


class StorageError(ComposeError):
    """The disk refused a write: full, read-only, or failing."""


class DamagedError(StorageError):
    """Something in the cache was not what its name says. Who raises it has removed it."""

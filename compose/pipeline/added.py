"""Metadata of a commit that the treefile and the command line add."""

# apart from settings.py, since an unchanged compose looks at it too, and should not wait for the imports of the stages

from __future__ import annotations

from compose import metadata
from compose.errors import UsageError
from compose.ostree.gvariant import Variant
from compose.pipeline.options import ComposeOptions
from compose.treefile.model import Treefile


def user_metadata(options: ComposeOptions, treefile: Treefile) -> dict[str, Variant]:
    """Metadata that the treefile and the command line add; the command line takes precedence. Raises UsageError."""
    found = {
        key: metadata.from_json(value, f"add-commit-metadata.{key}") for key, value in treefile.add_commit_metadata
    }
    for path in options.metadata_files:
        found |= {
            key: metadata.from_json(value, f"{path}: {key}") for key, value in metadata.read_json_file(path).items()
        }
    found |= {key: Variant("s", value) for key, value in options.metadata_strings}
    version = found.get(metadata.VERSION)
    if version is not None and version.type != "s":
        raise UsageError("the version in the commit metadata must be text", hint='quote it: version: "43.1"')
    return found


def given_version(options: ComposeOptions, treefile: Treefile) -> str | None:
    """The version in that metadata. Raises UsageError."""
    given = user_metadata(options, treefile).get(metadata.VERSION)
    return str(given.value) if given is not None else None

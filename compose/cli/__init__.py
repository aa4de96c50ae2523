"""The command line: the only part that sees argv, the environment, stdout and exit codes."""

from compose.cli.app import main

__all__ = ["main"]

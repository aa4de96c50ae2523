"""Run compose by `python3 -m compose`."""

import sys

from compose.cli import program

if __name__ == "__main__":
    sys.exit(program())

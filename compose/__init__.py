"""Server-side compose toolchain for operating systems: treefile in, OSTree commit out."""

__version__ = "2026.4"

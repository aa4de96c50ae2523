"""A universe of real RPMs: Debian's own packages, converted, signed and indexed as an RPM repository.

The tests and the demonstration compose from it: the content, scripts, dependencies and accounts of a real distribution,
made in a minute from the archive this machine's apt already uses, and cached.
"""

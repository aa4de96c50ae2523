"""Lockfiles: the exact builds that a treefile's packages resolved to, kept in git next to it."""

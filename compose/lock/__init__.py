"""Lockfiles: the exact builds that a treefile's packages came to, kept in git beside it."""

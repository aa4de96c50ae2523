"""Isolation of one program: namespaces, a root of its own, fewer capabilities, nothing inherited."""

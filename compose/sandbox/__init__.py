"""Isolates one program: its own namespaces and root directory, few capabilities, nothing inherited."""

"""File access beneath a directory descriptor, atomic writes, copying, locks."""

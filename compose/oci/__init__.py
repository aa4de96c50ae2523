"""Commits as container images."""

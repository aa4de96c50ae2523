"""From the repository that composes write to the one that clients pull: copy, sign, move refs, prune."""

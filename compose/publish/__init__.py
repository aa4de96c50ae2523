"""Publishing: copy commits to the repository that clients pull, sign them, move refs, prune."""

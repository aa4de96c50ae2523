"""Static deltas: what a client needs to go from one commit to another, in a few files."""

"""What clients rely on in a tree and in its commit, as rules; run at the end of every compose, and by `compose lint`."""

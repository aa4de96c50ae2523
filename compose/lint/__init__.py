"""Rules for what clients rely on in a tree and its commit; checked at the end of every compose, and by `compose lint`."""

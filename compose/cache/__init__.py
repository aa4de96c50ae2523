"""Looking after a cachedir: what is in it, what may go, what is damaged. Only `compose cache` needs this."""

"""Maintenance of a cachedir: taking stock, removing, verifying. Only `compose cache` and the repair of damage need it."""

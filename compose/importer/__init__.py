"""Import stage: turns RPMs into manifests and blobs, straight from their payloads, on all cores, once per RPM.

A manifest holds the raw facts of one RPM. Nothing is decided here: filters, owners' ids, labels and conflicts come
later, so a cached manifest stays valid whatever the treefile says.

stage.py     the stage: hands RPMs that are not cached yet to the worker processes
cache.py     manifests, by the sha256 of their RPM
pool.py      the worker processes, which take one RPM at a time
unpack.py    the import of one RPM
"""

"""Import stage: RPMs into manifests and blobs, straight from their payloads, on all cores, once per RPM.

A manifest holds the raw facts of one RPM. Nothing is decided here: filters, owners' ids, labels and conflicts come
later, so a manifest in the cache stays right whatever the treefile says.

stage.py     the stage: what is not in the cache yet goes to the processes
cache.py     manifests by the sha256 of their RPM
pool.py      the processes, each takes one RPM at a time
unpack.py    one RPM
"""

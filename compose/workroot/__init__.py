"""A directory that shows a tree, in which programs run; what they changed goes back into the tree.

Workroot            the caller's side (workroot.py): asks, and owns the directory
server              a process of its own: mount namespace, overlay, sandbox (server.py)
materialise         a tree onto disk, by hard links to blobs (materialise.py)
upper               the overlay's upper layer as changes (upper.py)
"""

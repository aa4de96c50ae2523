"""A directory that shows a tree, in which programs run; what they changed goes back into the tree.

Workroot            the caller's side: asks, and owns the directory (workroot.py)
Server              a process of its own: mount namespace, overlay, sandbox (server.py)
materialise, scan   a tree onto disk, by hard links to blobs; a directory as a tree (materialise.py, scan.py)
Layer, merge        what programs changed, read from the disk; put into the tree (layer.py, merge.py)
"""

"""A directory that shows a tree, in which programs run; what they changed goes back into the tree.

Workroot            the tree as programs make it; runs them, or does what they did before (workroot.py)
ProgramMemory, Sight what programs did, and what they saw that made them do it (memory.py, sight.py)
LiveRoot            the directory, made when a program must run, and the caller's side of its server (live.py)
Server              a process of its own: mount namespace, overlay, sandbox (server.py)
materialise, scan   a tree onto disk, by hard links to blobs; a directory as a tree (materialise.py, scan.py)
Layer, merge        what programs changed, read from the disk; put into the tree (layer.py, merge.py)
"""

"""Runs programs in a directory that shows a tree, and takes their changes back into the tree.

Workroot             a tree that programs change; runs them, or replays what they did before (workroot.py)
ProgramMemory, Sight results of earlier runs, and what of the tree they depended on (memory.py, sight.py)
LiveRoot             the directory on disk, created once a program must run, and the client of its server (live.py)
Server               a separate process: mount namespace, overlay, sandbox (server.py)
materialise          writes a tree to disk as hard links to blobs (materialise.py)
Layer, merge         read changes from the disk; apply them to the tree (layer.py, merge.py)
"""

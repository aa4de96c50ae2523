"""Content-addressed store of file contents, below the cachedir.

    CACHEDIR/blobs/
        ab/cdef...64.755.1700000000    one inode: digest, permission bits, mtime; content never changes
        tmp/                           files being written; removed when found older than the running boot allows

The mode and mtime are part of the name because a workroot hard-links these inodes, and programs look at both
(font caches, .pyc files, dracut). A blob appears under its name by link or rename, complete, or not at all.
"""

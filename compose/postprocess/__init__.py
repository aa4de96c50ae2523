"""Postprocess: the assembled tree is given the OSTree layout.

    pure layout (layout.py)            what the tree is, rearranged; /etc is still in place
    programs of the compose            treefile scripts, semodule, depmod, dracut, in a workroot (programs.py)
    pure finish (finish.py)            what needs all programs done: initramfs, accounts, /var emptied, /etc to /usr/etc

`stage.postprocess()` runs the three. Every step is `step(tree, ..., store) -> Tree`, changes nothing when there is nothing
to do, and names itself as the writer of what it changed ("step:NAME").
"""

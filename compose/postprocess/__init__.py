"""Postprocessing: turns the assembled tree into one with the OSTree layout.

    pure layout (layout.py)            rearranges the tree; /etc is still in place
    programs of the compose            treefile scripts, semodule, depmod, dracut, in a workroot (programs.py)
    pure finish (finish.py)            what must follow all programs: initramfs, accounts, emptying /var, /etc to /usr/etc

`stage.postprocess()` runs the three. Every step is `step(tree, ..., store) -> Tree`, changes nothing when there is nothing
to do, and records itself as the writer of what it changed ("step:NAME").
"""

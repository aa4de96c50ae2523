"""The whole compose: `run.compose_tree()` decides whether there is anything to do, and `stages.make_commit()` runs the stages,
all on one screen. Only this package knows all of them.

options.py    options and result of a compose
inputs.py     from the treefile to the exact packages
previous.py   the previous commit
contents.py   from the exact packages to their contents
settings.py   from the treefile to the options of each stage
results.py    the files that report the result to callers
"""

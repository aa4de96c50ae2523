"""The whole compose: `run.compose_tree()` decides whether there is anything to do, `stages.make_commit()` goes through the
stages on one screen. Only this package knows them all.

options.py    what a compose is asked and what came of it
inputs.py     from the treefile to the exact packages
previous.py   the commit it follows
contents.py   from the exact packages to their contents
settings.py   the treefile, as the options of each stage
results.py    the files that tell callers what came of it
"""

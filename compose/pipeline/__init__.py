"""The whole compose: `run.compose_tree()` goes through all stages on one screen, and only this package knows them all.

options.py    what a compose is asked and what came of it
previous.py   the commit it follows
settings.py   the treefile, as the options of each stage
results.py    the files that tell callers what came of it
"""

"""Assemble: manifests become one tree, and the packages' own programs run in it.

merge.py       whose file is at which path (pure)
accounts.py    owner names to ids (pure)
sysusers.py    what makes the users and groups that packages declare
scripts.py     which scriptlets and triggers run, in which order (pure)
early.py       what runs before there are files, and what it leaves
stage.py       the stage: workroot, sysusers, scripts, rpm database
"""

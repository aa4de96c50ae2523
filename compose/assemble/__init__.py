"""Assembles packages: merges their manifests into one tree and runs their scriptlets in it.

options.py     input and output of the stage
merge.py       which package's file is at which path (pure)
layers.py      ostree-layers on top of the packages
accounts.py    owner names to ids (pure)
ids.py         pins ids to a lock
sysusers.py    creates the users and groups that packages declare
scripts.py     which scriptlets and triggers run, and in which order (pure)
triggers.py    which triggers fire (pure)
early.py       scriptlets that run before rpm unpacks files, and what they leave
relinked.py    directories that a scriptlet replaced by symlinks
stage.py       the stage: workroot, sysusers, scriptlets, rpm database
"""

"""vSphere: who we are there, what there is, where machines go. The only room that knows pyvmomi.

Settings, trust, errors and the finding of names are pure and work without pyvmomi; `connection` and
what stands on it load it, so they are to be imported when a verb needs them.
"""

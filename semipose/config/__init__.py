"""Settings of a run, and the parsing of their values from flags, yaml files and Python.

Takes text or typed values, returns `Settings`, or one UsageError that lists all problems. Uses only `errors` and the
names of the networks; no torch.
"""

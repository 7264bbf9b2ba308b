"""Data sets in memory: `People` in `Images`, their boxes and outlines, and splits of them.

Readers in `formats` build these; crops, checks and metrics take them. Of files this package opens only splits and the
headers of images; `paths` keeps names from outside within their folder. May use `pose`, `system` and `errors`.
"""

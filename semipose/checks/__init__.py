"""Check data before training: takes the `Data` of `formats.load`, returns findings with remedies.

`checks.check` runs all checks; each file holds the checks of one kind. May use `formats`, `data`, `pose` and below.
"""

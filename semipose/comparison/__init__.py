"""Compare methods under one protocol (`semipose compare`).

In: labels, methods, amounts of labels and seeds. Out: a folder of runs, and their scores as comparison.json,
comparison.md and comparison.html. `plan` makes jobs, `launch` runs them in parallel as processes of `job`, `rows`
scores finished runs, and `table` writes the tables. May use every package but `cli`.
"""

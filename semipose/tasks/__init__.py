"""The verbs of semipose, a file each: train and resume, evaluate, predict, export, check, split, demo.

Each takes files or objects, and returns a run, a score or the path it wrote to. Uses report, runs, engine, inference
and what stands below these; only the command line and comparison stand above.
"""

"""Run folders: their files (`records`), their content (`Run`), and the plan, phases and scores of a training.

In: data and settings before training, checkpoints after it. Out: run.json, updates.json and metrics.json, and models
read from them. May use `engine`, `inference`, `methods` and all packages below them.
"""

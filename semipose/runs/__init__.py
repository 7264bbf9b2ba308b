"""A run folder: what it holds (plan, phases, checkpoints, metrics), and how its data and models are opened again.

Also the supervised baselines of a run, and learned scores (rescoring). Uses engine, inference, formats and what stands
below these; tasks and reports use it.
"""

"""Stores of crops and settings in, a trained method and its run folder out.

`setup` makes a `Trainer`; the trainer runs the loop of batches, updates, evaluations and checkpoints. Uses methods,
inference, views, config and what stands below these. Which method is trained, and on which files, it does not know.
"""

"""Services of the machine: files and locks, checkpoints, memory, CPU threads, devices, processes of a run.

Takes paths, tensors and numbers. Knows nothing of poses or training; uses only `errors` and, in some files, torch.
"""

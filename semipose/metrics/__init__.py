"""Scores of predicted poses: OKS-AP, PCK and pixel error with 95 % intervals, and paired differences of two scores.

Takes `Poses` and a `Skeleton`, returns `Score` and `Difference`. Uses `pose`, NumPy and faster-coco-eval; no torch.
"""

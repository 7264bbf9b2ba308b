"""Rendered pictures of synthetic people with exact keypoints, for demos, tests and benchmarks.

Takes a seed and an index, returns a picture with its people, or writes COCO json and images. Uses `pose`, `system`,
NumPy and OpenCV; no torch.
"""

"""Skeletons of named keypoints, and arrays of people's poses.

Takes COCO categories and keypoint names, returns `Skeleton` and `Poses`; also CrowdPose's index of an image.
Uses NumPy and `errors`; no files, no torch.
"""

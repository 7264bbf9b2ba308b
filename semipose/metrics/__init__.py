"""Poses in, honest numbers out: OKS-AP, PCK and pixel error with intervals, and paired differences. NumPy
only.
"""

"""People or whole images in, canonical uint8 crops of them out.

Each image is decoded once, and its crops are kept on the device, in memory or in a file on disk. Uses data, pose, scene
and system; networks, views and training come later.
"""

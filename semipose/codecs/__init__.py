"""Labeled people in, training targets out; network outputs in, detected poses out.

`HeatmapCodec` is for one person in a crop. Scene codecs are for all people in an image, one for each kind of
detector-free network, with its published losses. `choose.scene_codec` picks the one that fits a network's fields.
Uses losses, scene, fields, geometry and pose.
"""

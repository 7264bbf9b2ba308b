"""Views: random augmentations of a batch of crops, computed on the device.

Crops and a `RandomKey` go in; views (images with the affine map from their crop) come out. `view.py` makes weak and
strong views; the other files change their pixels: colors, cutouts, mixed images, exchanged tiles.
Views may use codecs, geometry, scene and errors; methods use them. They know no networks and no losses.
"""

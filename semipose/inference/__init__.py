"""A trained network and people or whole images in, poses in image pixels and their scores out.

`kind_of` returns the object that knows what differs between networks for one person in a crop and networks for whole
images. `Model` is a network read from a checkpoint. Uses views, config, codecs, networks, crops, formats, metrics and
what stands below these.
"""

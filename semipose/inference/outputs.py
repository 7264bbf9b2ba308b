"""The outputs of a network for the rows of a store, and poses made of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from semipose.crops.store import CropStore
from semipose.fields import Fields, mirrored_mean
from semipose.geometry import Affine
from semipose.pose.poses import Poses
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Crops


def outputs_of(
    network: nn.Module, store: CropStore, batch_size: int, flip_test: bool, sizes: Sequence[tuple[int, int]]
) -> Iterator[tuple[NDArray[np.int64], list[Fields], Affine]]:
    """Apply `network` in eval mode to the rows of `store`, a batch at a time.

    Yields the rows (B,) and the fields of their unaugmented views in each of `sizes` (H, W). With them comes the map
    from views of the store's size to image pixels.
    """
    training = network.training
    network.eval()
    try:
        for rows in np.array_split(np.arange(len(store)), max(1, -(-len(store) // batch_size))):
            view = crops_of(store, rows).canonical()
            to_image = (view.affine @ Affine(store.affines[rows].double().numpy())).inverse()
            yield rows, [_output(network, _resized(view.image, size), flip_test) for size in sizes], to_image
    finally:
        network.train(training)


def crops_of(store: CropStore, rows: NDArray[np.int64]) -> Crops:
    """Return the crops of `rows` for views without augmentation."""
    key = RandomKey(0, 0, "predict", len(rows), len(rows), device=store.device)
    return Crops(store.get(rows), store.size, store.zoom, Augmentation(), key)


def posed(store: CropStore, keypoints: Tensor, scores: Tensor) -> Poses:
    """Return the people of `store` with predicted `keypoints` (N, K, 2) in image pixels and `scores` (N, K)."""
    truth = store.people.poses
    return Poses(
        keypoints=keypoints.numpy(),
        scores=scores.numpy(),
        visible=np.full(scores.shape, 2, np.uint8),
        boxes=truth.boxes,
        image_ids=truth.image_ids,
        ids=truth.ids,
        areas=truth.areas,
        crowd=truth.crowd,
        box_scores=truth.box_scores,
    )


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize views (B, 3, H, W) edge to edge, with anti-aliasing."""
    return image if image.shape[-2:] == size else F.interpolate(image, size, mode="bilinear", antialias=True)


def _output(network: nn.Module, image: Tensor, flip_test: bool) -> Fields:
    """Return the fields of `image`; with the flip test the mean with those of the mirrored image."""
    if not flip_test:
        fields: Fields = network(image)
        return fields
    # One doubled batch is faster than two passes.
    straight, mirrored = network(torch.cat([image, image.flip(-1)])).split(len(image))
    return mirrored_mean(straight, mirrored, image.shape[-1])

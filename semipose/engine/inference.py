"""A network and people in, poses in image pixels out."""

import numpy as np
import torch
from torch import nn

from semipose.codecs.heatmap import Decoding, HeatmapCodec
from semipose.data.loader import CropStore
from semipose.data.people import People
from semipose.fields import Fields, mirrored_mean
from semipose.geometry import Affine
from semipose.networks.network import PoseNetwork
from semipose.poses import Poses
from semipose.skeleton import Skeleton
from semipose.views.draw import Draw
from semipose.views.view import Augmentation, Crops


def predict_people(
    network: PoseNetwork,
    people: People | CropStore,
    *,
    size: tuple[int, int],
    skeleton: Skeleton,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    flip_test: bool = False,
    decode: Decoding = "dark",
    strict: bool = True,
) -> Poses:
    """Predict every person's keypoints (N, K, 2) in image pixels, with peak heights as scores.

    `size` (H, W) of the input. With `strict` an unreadable image is an error; else its people are left out. A
    `CropStore` is used as it is, so that repeated evaluation decodes nothing.
    """
    device = torch.device(device)
    store = people if isinstance(people, CropStore) else CropStore(people, size, "none", device, strict=strict)
    codec = HeatmapCodec.for_size(size, skeleton.flip, network.stride)
    keypoints, scores = [], []
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(store)), max(1, -(-len(store) // batch_size))):
                view = crops_of(store, rows).plain()
                fields = _answer(network, view.image, flip_test)
                found, score = codec.decode(fields, decode)
                to_image = (view.affine @ Affine(store.affines[rows].to(device))).inverse()
                keypoints.append(to_image.points(found).cpu())
                scores.append(score.cpu())
    finally:
        network.train(training)
    return posed(store, torch.cat(keypoints), torch.cat(scores))


def posed(store: CropStore, keypoints: torch.Tensor, scores: torch.Tensor) -> Poses:
    """The people of `store` with found `keypoints` (N, K, 2) in image pixels and their `scores` (N, K)."""
    truth = store.people.poses
    return Poses(
        keypoints=keypoints.numpy(), scores=scores.numpy(), visible=np.full(scores.shape, 2, np.uint8),
        boxes=truth.boxes, image_ids=truth.image_ids, ids=truth.ids, areas=truth.areas, crowd=truth.crowd,
        box_scores=truth.box_scores,
    )  # fmt: skip


def crops_of(store: CropStore, rows: np.ndarray) -> Crops:
    """Crops of `rows` for views without augmentation."""
    draw = Draw(0, 0, "predict", len(rows), len(rows), device=store.device)
    return Crops(store.get(rows), store.size, store.zoom, Augmentation(), draw)


def _answer(network: nn.Module, image: torch.Tensor, flip_test: bool) -> Fields:
    """Fields of `image`; with the flip test the mean with the mirrored image's, in one doubled batch."""
    if not flip_test:
        answer: Fields = network(image)
        return answer
    straight, mirrored = network(torch.cat([image, image.flip(-1)])).split(len(image))
    return mirrored_mean(straight, mirrored, image.shape[-1])

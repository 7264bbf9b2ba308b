"""Builders of small generated inputs for tests: no files, no downloads."""

import numpy as np
import torch

from semipose.geometry import Affine
from semipose.methods.method import Build
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import PRESETS, Skeleton
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Batch, Crops

SKELETON = PRESETS["lsp_14"]
SIZE = (64, 64)
CROP = (96, 96)


def crops(count: int = 4, *, labeled: bool, update: int = 0, stream: str | None = None, seed: int = 0) -> Crops:
    """Noise images with random keypoints inside the middle of the crop."""
    stream = stream or ("labeled" if labeled else "unlabeled")
    generator = torch.Generator().manual_seed(seed + 10 * update + labeled)
    images = torch.randint(0, 256, (count, *CROP, 3), dtype=torch.uint8, generator=generator)
    keypoints = 24 + 48 * torch.rand(count, len(SKELETON), 2, generator=generator)
    visible = torch.full((count, len(SKELETON)), 2, dtype=torch.uint8)
    draw = RandomKey(seed, update, stream, count, count)
    if not labeled:
        return Crops(images, SIZE, 1.0, Augmentation(), draw)
    return Crops(images, SIZE, 1.0, Augmentation(), draw, keypoints, visible)


def batch(update: int = 0, count: int = 4) -> Batch:
    """A labeled and an unlabeled stream of noise."""
    return Batch(crops(count, labeled=True, update=update), crops(count, labeled=False, update=update))


def builder(seed: int = 0, skeleton: Skeleton = SKELETON) -> Build:
    """A method's `build`: a small network, another one for each role."""

    def build(role: str, *, network: str | None = None, weights: str | None = None) -> PoseNetwork:
        built = build_network(
            network or "mobilenet_v1", skeleton, width=0.25, head_channels=16, seed=seed + sum(role.encode())
        )
        # Answers as high as trained ones: some methods do not listen to lower ones.
        torch.nn.init.constant_(built.head.final_layer.bias, 0.2)
        return built

    return build


def random_affine(count: int, seed: int = 0) -> Affine:
    """Turned, scaled and some of them mirrored."""
    rng = np.random.default_rng(seed)
    angle = torch.tensor(rng.uniform(-3, 3, count), dtype=torch.float32)
    scale = torch.tensor(rng.uniform(0.8, 1.2, count), dtype=torch.float32)
    return Affine.about(angle, scale, torch.arange(count) % 2 == 0, (31.5, 31.5), (31.5, 31.5))

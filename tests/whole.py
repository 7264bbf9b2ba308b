"""Builders of small generated inputs for methods that train detector-free networks: no files, no downloads."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from semipose import methods
from semipose.methods.method import Build
from semipose.networks import DETECTOR_FREE
from semipose.networks.build import build_network
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.scene import Labels
from semipose.views.random_key import RandomKey
from semipose.views.view import Augmentation, Batch, SceneCrops
from tests import people
from tests.people import SIZE, SKELETON

SEATS = 3


def kinds() -> list[str]:
    """NAME of each method for one person in a crop, and NAME@NETWORK of methods for detector-free networks: the one
    that uses all of them with each, the others with one."""
    whole = [(name, "higher_hrnet") for name in methods.methods_for("higher_hrnet") if methods.describe(name).top_down]
    whole += [("instance_pseudo_label", network) for network in DETECTOR_FREE]
    return [*methods.methods_for("resnet18"), *(f"{name}@{network}" for name, network in whole)]


def builder_of(kind: str, seed: int = 0, skeleton: Skeleton = SKELETON) -> Build:
    """A method's `build` for a kind NAME or NAME@NETWORK."""
    name = kind.partition("@")[2]
    return people.builder(seed, skeleton) if not name else _builder(name, seed, skeleton)


def batch_of(kind: str, update: int = 0, count: int = 4) -> Batch:
    """Labeled and unlabeled noise for a kind NAME or NAME@NETWORK."""
    if "@" not in kind:
        return people.batch(update, count)
    return Batch(*(scenes(count // 2, labeled=labeled, update=update) for labeled in (True, False)))


def scenes(count: int = 4, *, labeled: bool, update: int = 0, seed: int = 0) -> SceneCrops:
    """Noise with people of random keypoints in it; of those in every second image one is padding."""
    generator = torch.Generator().manual_seed(seed + 10 * update + labeled)
    images = torch.randint(0, 256, (count, 72, 72, 3), dtype=torch.uint8, generator=generator)
    middle = 20 + 32 * torch.rand(count, SEATS, 1, 2, generator=generator)
    keypoints = middle + 24 * torch.rand(count, SEATS, len(SKELETON), 2, generator=generator) - 12
    visible = torch.ones(count, SEATS, len(SKELETON))
    visible[::2, -1] = 0
    draw = RandomKey(seed, update, "labeled" if labeled else "unlabeled", count, count)
    valid = torch.ones(count, 1, 18, 18)
    crops = SceneCrops(images, SIZE, 72 / 64, Augmentation(shift=0.1), draw, valid=valid)
    if not labeled:
        return crops
    box_size = np.full((count, SEATS, 2), 24.0, np.float32)
    return replace(crops, people=Labels(keypoints.numpy(), visible.numpy() > 0, box_size))


def _builder(name: str, seed: int, skeleton: Skeleton) -> Build:
    def build(role: str, *, network: str | None = None, weights: str | None = None) -> PoseNetwork:
        built = build_network(
            name, skeleton, backbone="mobilenet_v1", width=0.25, head_channels=16, seed=seed + sum(role.encode())
        )
        find_somebody(built)
        return built

    return build


def find_somebody(network: PoseNetwork) -> None:
    """Let a random network see people: high maps, and keypoints that are not all in one place."""
    generator = torch.Generator().manual_seed(1)
    high = {
        "final_layers.0": 0.6,
        "final_layers.1": 0.6,
        "head_heatmap.1": 0.6,
        "iia.keypoint_center_conv": 0.5,
        "gfd.heatmap_conv": 0.5,
    }
    for name, part in network.head.named_modules():
        if name in high and isinstance(part, nn.Conv2d):
            nn.init.constant_(part.get_parameter("bias"), high[name])
        elif name == "offset_final_layer":
            part.get_parameter("bias").data = 6 * torch.rand(2 * len(network.flip), generator=generator) - 3
    if "final_layers.0.bias" in dict(network.head.named_parameters()):
        # The second half of them are tags: those of a person must not be apart.
        network.head.get_parameter("final_layers.0.bias").data[len(network.flip) :] = 0

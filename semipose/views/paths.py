"""Paths of MultiAugs (2024): named augmentations, and chains of them, that make a strong view harder.

`multi_augs` uses joco and jccm by default; the others are the paper's ablations, for `--method.paths`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from semipose.errors import UsageError, suggestion
from semipose.views.cut_occlude import cut_occlude
from semipose.views.mix import cutmix, mixup
from semipose.views.occlude import cutout, joint_cutout
from semipose.views.policies import Policy, augment
from semipose.views.random_key import RandomKey

Path = Callable[[Tensor, Tensor, RandomKey, str], Tensor]


def yoco(image: Tensor, random: RandomKey, name: str, policy: Policy = "randaugment") -> Tensor:
    """Join two differently colored copies of `image` (B, 3, H, W) at the middle (You Only Cut Once, ICML 2022).

    The lower or the right half, with even chances for each image, comes from the second copy.
    """
    height, width = image.shape[-2:]
    halves = np.zeros((2, 1, height, width), bool)
    halves[0, :, height // 2 :], halves[1, :, :, width // 2 :] = True, True
    second = random.to_device(halves[(random.uniform(f"{name}/half") < 0.5).astype(int)])
    one, other = (augment(image, random, f"{name}/{copy}", policy) for copy in ("first", "second"))
    return torch.where(second, other, one)


def joco(image: Tensor, keypoints: Tensor, random: RandomKey, name: str) -> Tensor:
    """Apply Joint Cut-Occlude, then Cutout anywhere."""
    return cutout(cut_occlude(image, keypoints, random, f"{name}/occlude"), random, f"{name}/cutout")


def jccm(image: Tensor, keypoints: Tensor, random: RandomKey, name: str) -> Tensor:
    """Apply Joint Cutout, then CutMix anywhere; targets are not mixed."""
    return cutmix(joint_cutout(image, keypoints, random, f"{name}/cutout"), random, f"{name}/mix")[0]


# Each path takes images (B, 3, H, W), keypoints (B, K, 2) in their pixels, a random key and a name for its draws.
PATHS: dict[str, Path] = {
    "mixup": lambda image, keypoints, random, name: mixup(image, random, name)[0],
    "cutout": lambda image, keypoints, random, name: cutout(image, random, name),
    "cutmix": lambda image, keypoints, random, name: cutmix(image, random, name)[0],
    "randaugment": lambda image, keypoints, random, name: augment(image, random, name, "randaugment"),
    "trivialaugment": lambda image, keypoints, random, name: augment(image, random, name, "trivialaugment"),
    "yoco": lambda image, keypoints, random, name: yoco(image, random, name),
    "joint_cutout": joint_cutout,
    "joint_cut_occlude": cut_occlude,
    "joco": joco,
    "jccm": jccm,
}


def read_paths(text: str) -> list[str]:
    """Parse the comma-separated path names of `--method.paths`. Raises UsageError for an unknown name."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PATHS:
            raise UsageError(
                f"--method.paths {text}: there is no path {name!r}{suggestion(name, PATHS)}; known: {', '.join(PATHS)}."
            )
    return names

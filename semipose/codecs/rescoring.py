"""Predict the OKS of a detected pose from its shape and its keypoints' scores (DEKR, Geng et al., 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.geometry import constant
from semipose.pose.skeleton import Skeleton

_HIDDEN, _BATCH, _EPOCHS, _RATE = 256, 1024, 20, 1e-3


def pose_features(keypoints: Tensor, scores: Tensor, skeleton: Skeleton) -> Tensor:
    """Features (N, 3 * bones + K) of poses with `keypoints` (N, K, 2) in pixels and `scores` (N, K).

    They are each bone's x, y and length in units of the trunk's length, and the scores: 74 for COCO's 19 bones and 17
    keypoints. The unit is the mean distance from shoulder to hip on both sides, at least a pixel. Without such names it
    is the mean length of all bones. Differs from the public code: for CrowdPose it takes two bones of a leg by mistake.
    """
    ends = constant(skeleton.bones, keypoints.device, torch.int64)
    bones = keypoints[:, ends[:, 1]] - keypoints[:, ends[:, 0]]
    length = unit = bones.norm(dim=-1)
    if skeleton.torso:
        (left, right_hip), (right, left_hip) = skeleton.torso
        sides = constant(((left, right), (left_hip, right_hip)), keypoints.device, torch.int64)
        unit = (keypoints[:, sides[0]] - keypoints[:, sides[1]]).norm(dim=-1)
    scale = unit.mean(1, keepdim=True).clamp_min(1)
    return torch.cat([(bones / scale[..., None]).flatten(1), length / scale, scores], 1)


class Rescorer(nn.Module):
    """Predict a pose's OKS with the labeled person; trained on poses detected in labeled images.

    keypoints (N, K, 2) in pixels, scores (N, K) -> (N,).
    """

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        inputs = 3 * len(skeleton.bones) + len(skeleton)
        self.layers = nn.Sequential(
            nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)
        )

    def forward(self, keypoints: Tensor, scores: Tensor) -> Tensor:
        return self.layers(pose_features(keypoints, scores, self.skeleton)).squeeze(1)

    def fit(self, keypoints: Tensor, scores: Tensor, oks: Tensor, seed: int = 0) -> None:
        """Fit to `oks` (N,), each pose's highest OKS among the people of its image.

        The recipe is the published one: Adam 1e-3, batches of 1,024, 20 epochs, squared error.
        """
        features = pose_features(keypoints, scores, self.skeleton)
        optimizer = torch.optim.Adam(self.parameters(), _RATE)
        random = torch.Generator().manual_seed(seed)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(oks), generator=random).to(oks.device).split(_BATCH):
                optimizer.zero_grad()
                F.mse_loss(self.layers(features[rows]).squeeze(1), oks[rows]).backward()
                optimizer.step()

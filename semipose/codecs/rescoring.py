"""How good a found pose is, told by its shape and its keypoints' scores: DEKR's rescoring (Geng et al., 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semipose.geometry import constant
from semipose.pose.skeleton import Skeleton

_HIDDEN, _BATCH, _EPOCHS, _RATE = 256, 1024, 20, 1e-3


def pose_features(keypoints: Tensor, scores: Tensor, skeleton: Skeleton) -> Tensor:
    """(N, 3 * bones + K) of poses `keypoints` (N, K, 2) in pixels with `scores` (N, K): each bone's way in x and y and
    its length, in units of the trunk's, and the scores. 74 numbers for COCO's 19 bones and 17 keypoints.

    The unit is the mean of both sides from shoulder to hip, at least a pixel, or of all bones where the names tell of
    no trunk. Differs from the public code: for CrowdPose it takes two bones of a leg by mistake.
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
    """Tells a pose's OKS with the person who stands there; trained on poses found in labeled images.

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
        """Learn `oks` (N,), each pose's best among the people of its image, by the published recipe: Adam 1e-3,
        batches of 1,024, 20 epochs, squared error."""
        features = pose_features(keypoints, scores, self.skeleton)
        optimizer = torch.optim.Adam(self.parameters(), _RATE)
        random = torch.Generator().manual_seed(seed)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(oks), generator=random).to(oks.device).split(_BATCH):
                optimizer.zero_grad()
                F.mse_loss(self.layers(features[rows]).squeeze(1), oks[rows]).backward()
                optimizer.step()

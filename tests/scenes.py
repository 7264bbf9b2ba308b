"""A detector-free network that finds whom it is told to find, and crowds to train tiny ones on."""

from pathlib import Path

import torch
from torch import Tensor

from semipose.codecs.associative import AssociativeEmbedding
from semipose.config.settings import Settings
from semipose.fields import Field, Fields
from semipose.formats.load import Data, load
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.scene import Scene
from semipose.synthetic.crowd import write_crowds

SETTINGS = Settings.from_values(
    {
        "network": "higher_hrnet",
        "backbone": "mobilenet_v1",
        "width": 0.125,
        "head_channels": 8,
        "input_size": "64x64",
        "batch_size": 4,
        "duration": 4,
        "eval_every": 1000,
        "log_every": 1,
        "device": "cpu",
        "cache": "ram",
        "workers": 1,
    }
).validate()


class Told(PoseNetwork):
    """Answers to every image with the people at `keypoints` (M, K, 2), in pixels of the input; far apart ones."""

    def __init__(self, keypoints: Tensor, skeleton: Skeleton, size: tuple[int, int]) -> None:
        torch.nn.Module.__init__(self)
        self.detector_free, self.stride, self.config = True, 4, {"name": "higher_hrnet"}
        # Whether the second half of a batch is the mirrored first one, as in the flip test.
        self.mirrored = False
        people = len(keypoints)
        everywhere = torch.ones(1, 1, size[0] // 4, size[1] // 4)
        visible, weight = torch.ones(1, *keypoints.shape[:2]), torch.ones(1, people)
        scene = Scene(keypoints[None], visible, weight, torch.full((1, people, 2), 30.0), everywhere)
        codec = AssociativeEmbedding(size, skeleton, fine=False)
        self.heatmap = codec.targets(scene)[0]["heatmap"]
        # Everybody has a number, and a cell that of the nearest person.
        y, x = torch.meshgrid(*(torch.arange(side // 4) * 4 + 1.5 for side in size), indexing="ij")
        away = (torch.stack([x, y], -1) - keypoints.mean(1)[:, None, None]).norm(dim=-1)
        self.tags = (5.0 * away.argmin(0)).expand(1, keypoints.shape[1], -1, -1)
        self.flip = skeleton.flip

    def forward(self, image: Tensor) -> Fields:
        """The same for each image (B, 3, H, W)."""
        maps = [each.maps if isinstance(each, Field) else each for each in (self.heatmap, self.tags)]
        heatmap, tags = (each.expand(len(image), -1, -1, -1) for each in maps)
        if self.mirrored:
            half = len(image) // 2
            both = [torch.cat([each[:half], each[half:, list(self.flip)].flip(-1)]) for each in (heatmap, tags)]
            heatmap, tags = both
        return Fields(
            {
                "heatmap": Field(heatmap, "scalar", 4, self.flip),
                "tags": Field(tags, "embedding", 4, self.flip),
            }
        )


def crowds(folder: Path, count: int = 14) -> Data:
    """Crowds in `folder` as a run's data: 6 labeled images, 4 to validate on, all of them unlabeled."""
    labels = write_crowds(folder, count, seed=0, size=(64, 96), difficulty=0.1, people=(2, 4))
    data = load(labels, folder / "images", unlabeled=folder / "images", whole_images=True)
    data.labeled, data.val = data.labeled.within(slice(0, 6)), data.labeled.within(slice(10, 14))
    return data

"""Predictions come back to image pixels, also mirrored and from crops of any place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from semipose.codecs.heatmap import HeatmapCodec
from semipose.crops.store import CropStore
from semipose.fields import Fields
from semipose.inference.options import EvalOptions
from semipose.inference.top_down import predict_people
from tests import synthetic_people

SIZE = (96, 64)


class Oracle(nn.Module):
    """Draws the true heatmaps of the crops it is shown, knowing whose turn it is."""

    stride = 4

    def __init__(self, store: CropStore) -> None:
        super().__init__()
        self.codec = HeatmapCodec.for_size(SIZE, store.people.skeleton.flip)
        shift = (torch.tensor(store.frame.crop_size[::-1]) - 1) / 2
        center = (torch.tensor(SIZE[::-1]) - 1) / 2
        self.keypoints = (store.keypoints() - shift) / store.zoom + center
        self.seen = 0

    def forward(self, image: torch.Tensor) -> Fields:
        points = self.keypoints[self.seen : self.seen + len(image)]
        self.seen += len(points)
        if len(points) < len(image):  # the flip test's second half
            other = torch.stack([SIZE[1] - 1 - points[..., 0], points[..., 1]], -1)[:, list(self.codec.flip)]
            points = torch.cat([points, other])
        return self.codec.encode(points, torch.full(points.shape[:2], 2))[0]


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_perfect_network_gives_the_labels_back(tmp_path: Path, flip_test: bool) -> None:
    people = synthetic_people.people(tmp_path, 7)
    store = CropStore(people, SIZE)
    found = predict_people(Oracle(store), store, people.skeleton, EvalOptions(batch_size=7, flip_test=flip_test))
    seen = (people.poses.visible > 0) & (found.scores > 0.3)
    assert seen.mean() > 0.9
    assert np.abs(found.keypoints - people.poses.keypoints)[seen].max() < 0.1
    assert found.ids.tolist() == people.poses.ids.tolist()


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    people = synthetic_people.people(tmp_path, 5)
    store = CropStore(people, SIZE)
    one, all_ = (
        predict_people(Oracle(store), store, people.skeleton, EvalOptions(batch_size=size)) for size in (2, 64)
    )
    np.testing.assert_allclose(one.keypoints, all_.keypoints, atol=1e-4)

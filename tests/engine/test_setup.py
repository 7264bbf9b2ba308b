"""From settings to what they set."""

from types import SimpleNamespace
from typing import Any

import torch

from semipose.config.settings import Settings
from semipose.engine.setup import make_batches


class FourPeople:
    """What a stream asks of a crop store before its first batch."""

    def __len__(self) -> int:
        return 4

    def keypoints(self) -> torch.Tensor:
        return torch.zeros(4, 14, 2)


def test_both_streams_are_seen_in_the_views_that_were_asked_for() -> None:
    asked = {"rotation": 10.0, "scale": 0.1, "flip": 0.2, "color": "randaugment", "color_strength": 0.7}
    stores: Any = SimpleNamespace(labeled=FourPeople(), unlabeled=FourPeople())
    batches = make_batches(stores, Settings(batch_size=2, **asked), uses_unlabeled=True)  # type: ignore[arg-type]
    assert batches.unlabeled is not None
    for stream in (batches.labeled, batches.unlabeled):
        policy = stream.augmentation
        found = (policy.rotation, policy.scale, policy.flip, policy.color, policy.strength)
        assert found == tuple(asked.values())

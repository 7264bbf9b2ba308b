"""The features by which a pose is judged, and that what is learned of them tells good poses from bad ones."""

from dataclasses import replace

import pytest
import torch

from semipose.codecs.center_offset import CenterOffset
from semipose.codecs.rescoring import Rescorer, pose_features
from semipose.pose.skeleton import PRESETS
from tests.codecs.scenes import SIZE, SKELETON, perfect_output, scene

# The published list of CrowdPose has the shoulders' bone, which ours lacks.
CROWDPOSE = replace(PRESETS["crowdpose_14"], bones=(*PRESETS["crowdpose_14"].bones, (0, 1)))


@pytest.mark.parametrize(("skeleton", "count"), [(PRESETS["coco_17"], 74), (CROWDPOSE, 59)])
def test_there_are_as_many_features_as_published(skeleton: object, count: int) -> None:
    keypoints = 100 * torch.rand(3, len(skeleton), 2)  # type: ignore[arg-type]
    assert pose_features(keypoints, torch.rand(3, len(skeleton)), skeleton).shape == (3, count)  # type: ignore[arg-type]


def test_features_are_in_units_of_the_trunk_wherever_and_however_large_the_person_is() -> None:
    coco = PRESETS["coco_17"]
    keypoints, scores = 100 * torch.rand(2, 17, 2), torch.rand(2, 17)
    features = pose_features(keypoints, scores, coco)
    torch.testing.assert_close(pose_features(3 * keypoints + 20, scores, coco), features, atol=1e-4, rtol=1e-4)
    sides = [coco.bones.index(pair) for pair in ((5, 11), (6, 12))]
    torch.testing.assert_close(features[:, 38:57][:, sides].mean(1), torch.ones(2))
    torch.testing.assert_close(features[:, :38].view(2, 19, 2).norm(dim=-1), features[:, 38:57])
    assert torch.equal(features[:, 57:], scores)
    assert torch.isfinite(pose_features(torch.zeros(1, 17, 2), torch.zeros(1, 17), coco)).all()


def test_a_trained_rescorer_prefers_better_poses_and_orders_people_by_it() -> None:
    torch.manual_seed(0)
    pose = scene((1,), room=1).keypoints[0]
    off = 20 * torch.rand(1000, 1, 1)
    poses, scores = pose + off * torch.randn(1000, 5, 2), torch.full((1000, 5), 0.9)
    oks = torch.exp(-off.flatten() / 10)
    rescorer = Rescorer(SKELETON)
    rescorer.fit(poses, scores, oks)
    with torch.no_grad():
        told = torch.stack([rescorer(poses, scores), oks])
    assert torch.corrcoef(told)[0, 1] > 0.6
    here = scene((2,))
    codec = CenterOffset(SIZE, SKELETON)
    before, after = (
        each.decode(perfect_output(codec, here)).person[0] for each in (codec, replace(codec, rescorer=rescorer))
    )
    assert ((before > 0) == (after > 0)).all()
    assert not torch.allclose(before, after)

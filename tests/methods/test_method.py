"""What the methods share: labels in mirrored views, validity outside of the teacher's view, confidence, ramps."""

import pytest
import torch

from semipose.fields import Field, Fields
from semipose.geometry import Affine
from semipose.methods.mean_teacher import MeanTeacher
from semipose.methods.method import Progress, confidence_mask, peak_confidence
from semipose.views.view import Augmentation, View
from tests.people import SIZE, SKELETON, batch, builder, crops

K = len(SKELETON)
MIRROR = Affine.mirror(SIZE[1], 2)
IDENTITY = Affine.identity(2)


@pytest.fixture(scope="module")
def method() -> MeanTeacher:
    return MeanTeacher(builder(), SKELETON)


def heat(maps: torch.Tensor) -> Fields:
    return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)})


def view(affine: Affine) -> View:
    return View(torch.zeros(2, 3, *SIZE), affine)


def test_a_mirrored_view_takes_the_visibility_along_with_the_name(method: MeanTeacher) -> None:
    """Only the right ankle is labeled: in a mirrored view only the left one is."""
    from dataclasses import replace

    right, left = SKELETON.keypoints.index("right_ankle"), SKELETON.keypoints.index("left_ankle")
    only = torch.zeros(2, K, dtype=torch.uint8)
    only[:, right] = 2
    people = replace(crops(2, labeled=True), visible=only, augmentation=Augmentation(0, 0, 1.0))
    seen = people.weak()
    assert seen.affine.mirrored.all()
    maps = torch.zeros(2, K, 16, 16, requires_grad=True)
    loss = method.labeled_loss(heat(maps), people, seen)
    loss.backward()
    assert maps.grad is not None
    moved = maps.grad.abs().amax((0, 2, 3)) > 0
    assert moved.nonzero().flatten().tolist() == [left]


@pytest.mark.parametrize(("outside", "counted"), [("unknown", False), ("background", True)])
def test_outside_of_the_teachers_view_is_unknown_unless_asked_otherwise(
    method: MeanTeacher, outside: str, counted: bool
) -> None:
    shifted = Affine.about([0, 0], [1, 1], [False, False], (0, 0), (32, 0))
    predicted = torch.ones(2, K, 16, 16, requires_grad=True)
    loss = method.consistency_loss(
        heat(predicted), heat(torch.zeros(2, K, 16, 16)), view(IDENTITY), view(shifted), outside=outside
    )
    loss.backward()
    assert predicted.grad is not None
    left, right = predicted.grad[..., :7].abs().max(), predicted.grad[..., 9:].abs().min()
    assert (left > 0) == counted
    assert right > 0


def test_maps_that_are_not_confident_weigh_nothing_also_when_the_views_are_mirrored(method: MeanTeacher) -> None:
    confidence_mask = torch.ones(2, K)
    knee = SKELETON.keypoints.index("left_knee")
    confidence_mask[:, knee] = 0
    predicted = torch.ones(2, K, 16, 16, requires_grad=True)
    teacher_output = heat(torch.zeros(2, K, 16, 16))
    loss = method.consistency_loss(heat(predicted), teacher_output, view(IDENTITY), view(MIRROR), confidence_mask)
    loss.backward()
    assert predicted.grad is not None
    silent = (predicted.grad.abs().amax((0, 2, 3)) == 0).nonzero().flatten().tolist()
    assert silent == [SKELETON.flip[knee]]


def test_a_student_that_agrees_has_no_loss_and_no_gradient(method: MeanTeacher) -> None:
    maps = torch.rand(2, K, 16, 16, requires_grad=True)
    loss = method.consistency_loss(heat(maps), heat(maps.detach()), view(IDENTITY), view(IDENTITY))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-10)
    assert maps.grad is not None
    assert maps.grad.abs().max() < 1e-8


def test_the_consistency_loss_grows_from_nothing_over_the_ramp() -> None:
    method = MeanTeacher(builder(), SKELETON, ramp=0.1, weight=2.0)
    at = {update: method(batch(), Progress(update, 1000)).losses["consistency"].item() for update in (0, 50, 100, 900)}
    assert at[0] == 0
    assert at[50] == pytest.approx(at[100] / 2, rel=1e-4)
    assert at[900] == pytest.approx(at[100], rel=1e-4)


def test_thresholds_and_quantiles_choose_by_keypoint() -> None:
    confidence = torch.tensor([[0.9, 0.1], [0.5, 0.3], [0.2, 0.2], [0.7, 0.4]])
    assert confidence_mask(confidence).all()
    assert confidence_mask(confidence, threshold=0.3).tolist() == [[1, 0], [1, 1], [0, 0], [1, 1]]
    assert confidence_mask(confidence, quantile=0.5).tolist() == [[1, 0], [0, 1], [0, 0], [1, 1]]


def test_a_joined_batch_shares_its_statistics_and_its_gradient() -> None:
    apart, joined = MeanTeacher(builder(), SKELETON), MeanTeacher(builder(), SKELETON, joined=True)
    with torch.no_grad():
        for method in (apart, joined):
            method.eval()  # with running statistics the two are the same arithmetic
    first, second = (method(batch(), Progress(900, 1000)).losses for method in (apart, joined))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-7)
    apart.train()
    joined.train()
    first, second = (method(batch(), Progress(900, 1000)).losses for method in (apart, joined))
    assert not torch.allclose(first["labeled"], second["labeled"], rtol=1e-4, atol=0)


def test_the_decay_follows_the_length_of_the_run_unless_given() -> None:
    short, fixed = MeanTeacher(builder(), SKELETON), MeanTeacher(builder(), SKELETON, decay=0.99)
    for method in (short, fixed):
        method.prepare(2000)
    assert short.teacher.decay == pytest.approx(1 - 1 / 40)
    assert fixed.teacher.decay == 0.99


def test_a_peak_is_the_highest_value_of_its_map() -> None:
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 1, 2, 3] = 0.7
    assert peak_confidence(heat(maps)).tolist() == [[0.0, pytest.approx(0.7)]]

"""Pseudo-labels: two stages, periods, and labels that lie where the labeler sees the keypoints."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from semipose.fields import Field, Fields
from semipose.methods._tta import TTA_VIEWS
from semipose.methods.method import Progress
from semipose.methods.pseudo_label import PseudoLabel
from semipose.views.view import Batch
from tests.people import SIZE, SKELETON, batch, builder, crops


def method(**options: object) -> PseudoLabel:
    made = PseudoLabel(builder(), SKELETON, **options)  # type: ignore[arg-type]
    made.prepare(100)
    made.train()
    return made


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_stage_one_learns_labels_alone_and_stage_two_both() -> None:
    made = method(stage_one=0.4)
    assert set(made(batch(), Progress(39, 100)).losses) == {"labeled"}
    assert set(made(batch(), Progress(40, 100)).losses) == {"labeled", "pseudo_label"}


def test_the_labeler_is_the_average_at_the_start_of_every_period_and_frozen_between() -> None:
    made = method(stage_one=0.4, period=0.05, decay=0.5)
    renewed = []
    for update in range(60):
        with torch.no_grad():
            for value in made.raw.parameters():
                value.add_(1.0)
        made.after_update(Progress(update, 100, torch.ones(())))
        if same(made.labeler.network, made.ema.network):
            renewed.append(update)
    # The step after update 39 is the first of stage two.
    assert renewed == [39, 44, 49, 54, 59]


def test_a_loaded_baseline_labels_from_the_first_update() -> None:
    made = method(stage_one=0.0)
    assert same(made.labeler.network, made.raw)
    assert "pseudo_label" in made(batch(), Progress(0, 100)).losses


class Painted(nn.Module):
    """Answers with the image's own colors, pooled to stride 4: what it says of a place is what is there."""

    stride = 4

    def forward(self, image: Tensor) -> Fields:
        maps = nn.functional.avg_pool2d(image, 4)[:, :1].expand(-1, len(SKELETON), -1, -1)
        return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)})


class LeftOnly(Painted):
    """Channel k answers k where the image is not mirrored; a mirrored image has partners exchanged."""

    def forward(self, image: Tensor) -> Fields:
        order = torch.arange(len(SKELETON), dtype=torch.float32).expand(len(image), -1)
        brighter_left = image[..., : SIZE[1] // 2].mean((1, 2, 3)) > image[..., SIZE[1] // 2 :].mean((1, 2, 3))
        order = torch.where(brighter_left[:, None], order, order[:, list(SKELETON.flip)])
        maps = order[..., None, None].expand(-1, -1, SIZE[0] // 4, SIZE[1] // 4)
        return Fields({"heatmap": Field(maps, "scalar", 4, SKELETON.flip)})


def test_all_looks_agree_on_where_things_are() -> None:
    """A soft blob seen by four looks must come back to one place; a look moved wrongly would smear it."""
    made = method()
    made.labeler.network = Painted()  # type: ignore[assignment]
    unlabeled = crops(2, labeled=False)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = 255 * torch.exp(-((x - 56) ** 2 + (y - 38) ** 2) / (2 * 10.0**2))
    unlabeled = replace(unlabeled, images=blob[None, ..., None].expand(2, -1, -1, 3).to(torch.uint8))
    plain = unlabeled.canonical()
    label, _ = made.label(unlabeled, plain)
    alone = Painted()(plain.image)["heatmap"].maps
    assert len(TTA_VIEWS) == 4
    torch.testing.assert_close(label["heatmap"].maps, alone, atol=0.02, rtol=0)


def test_the_mirrored_look_exchanges_left_and_right() -> None:
    made = method()
    made.labeler.network = LeftOnly()  # type: ignore[assignment]
    unlabeled = crops(2, labeled=False)
    images = torch.zeros_like(unlabeled.images)
    images[:, :, :48] = 200
    unlabeled = replace(unlabeled, images=images)
    label, _ = made.label(unlabeled, unlabeled.canonical())
    middle = label["heatmap"].maps[:, :, 8, 8]
    torch.testing.assert_close(middle, torch.arange(float(len(SKELETON))).expand(2, -1), atol=1e-3, rtol=1e-3)


def test_hard_labels_are_full_peaks() -> None:
    made = method(hard=True)
    unlabeled = crops(2, labeled=False)
    label, confidence = made.label(unlabeled, unlabeled.canonical())
    assert label["heatmap"].maps.amax((-1, -2)).min() > 0.85
    assert confidence.max() < 0.85


@pytest.mark.parametrize("option", [{"threshold": 1e9}, {"weight": 0.0}])
def test_nothing_is_learned_from_labels_that_are_not_confident(option: dict[str, float]) -> None:
    step = method(stage_one=0.0, **option)(batch(), Progress(0, 100))
    assert step.losses["pseudo_label"].item() == 0


def test_the_strong_view_is_another_one() -> None:
    weak, strong = method(augmentation="weak"), method(augmentation="strong")
    both = batch()
    assert torch.equal(weak.view(both.unlabeled).image, both.unlabeled.weak().image)
    assert not torch.equal(strong.view(both.unlabeled).image, both.unlabeled.weak().image)
    assert isinstance(both, Batch)

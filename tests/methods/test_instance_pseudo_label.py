"""Pseudo people: who is believed, what is learned from them and what is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from semipose import methods
from semipose.codecs.choose import scene_codec
from semipose.errors import UsageError
from semipose.losses.heatmap import total
from semipose.methods._losses import uniform_numbers
from semipose.methods._people_threshold import MOMENTUM
from semipose.methods._pseudo_people import people_per_image, select_pseudo_people
from semipose.methods.instance_pseudo_label import InstancePseudoLabel
from semipose.methods.method import Progress
from semipose.methods.pseudo_label import PseudoLabel
from semipose.methods.supervised import Supervised
from semipose.networks import DETECTOR_FREE
from semipose.scene import Labels, Scene
from tests.people import SKELETON
from tests.whole import batch_of, builder_of

LATE = Progress(900, 1000)


def made(network: str, **options: object) -> InstancePseudoLabel:
    torch.manual_seed(0)
    method = InstancePseudoLabel(builder_of(f"x@{network}"), SKELETON, **options)  # type: ignore[arg-type]
    method.prepare(1000)
    return method.train()


def gradient(method: torch.nn.Module, losses: list[Tensor]) -> dict[str, Tensor]:
    torch.stack(losses).sum().backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("network", DETECTOR_FREE)
def test_people_that_are_surely_right_teach_what_labels_would(network: str) -> None:
    """An oracle for a teacher, and no movement between the views: the losses that tell people apart are equal."""
    method, batch = made(network, redrawn=0.0), batch_of(f"x@{network}")
    view = batch.labeled.weak()
    scene = batch.labeled.scene(view, SKELETON.flip)
    fields = method.student(view.image)
    codec = scene_codec(fields, view.size, SKELETON)
    supervised = codec.losses(fields, scene, uniform_numbers(scene, batch.labeled.random))
    torch.testing.assert_close(method.labeled_loss(fields, batch.labeled, view), total(supervised))
    learned = method.pseudo_label_losses(fields, scene, view, batch.labeled.random)
    assert any(loss > 0 for loss in learned.values())
    for name, loss in learned.items():
        torch.testing.assert_close(loss, supervised[name])


@pytest.mark.parametrize("network", DETECTOR_FREE)
def test_losses_on_pseudo_people_grow_with_their_weight(network: str) -> None:
    batch, names = batch_of(f"x@{network}"), {"labeled", "heatmaps"}
    once, twice = (
        made(network, instances=weight, rule="fixed", threshold=1e-6)(batch, LATE).losses for weight in (1.0, 2.0)
    )
    assert once.keys() - names
    for name, loss in once.items():
        torch.testing.assert_close(twice[name], loss if name in names else 2 * loss)


@pytest.mark.parametrize("network", DETECTOR_FREE)
def test_a_teacher_that_sees_nobody_teaches_nothing_about_people(network: str) -> None:
    method, batch = made(network), batch_of(f"x@{network}")
    with torch.no_grad():
        for name, parameter in method.teacher.network.head.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(-9.0)
            elif "final_layers" in name or "head_heatmap.1" in name or "conv" in name:
                parameter.zero_()
    step = method(batch, LATE)
    people = {name: loss for name, loss in step.losses.items() if name not in ("labeled", "heatmaps")}
    assert float(step.signals["pseudo_people"]) == 0
    assert all(float(loss.detach()) == 0 for loss in people.values())
    assert all(torch.isfinite(grad).all() for grad in gradient(method, list(step.losses.values())).values())


def test_holes_are_cut_at_pseudo_keypoints_and_nowhere_else() -> None:
    batch, images = batch_of("x@higher_hrnet"), []
    strong = batch.unlabeled.strong(batch.unlabeled.weak()).image
    for rule, options in (("everybody", {"threshold": 1e-6}), ("nobody", {"threshold": 1e6})):
        method = made("higher_hrnet", rule="fixed", **options)
        seen: list[Tensor] = []
        method.student.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        told = method(batch, LATE).signals
        assert (told["pseudo_people"] > 0) == (rule == "everybody")
        images.append(seen[1])
    assert torch.equal(images[1], strong)
    assert 0.02 < (images[0] != strong).any(1).float().mean() < 0.6


def test_the_threshold_is_told_how_many_people_labels_show() -> None:
    method, batch = made("dekr"), batch_of("x@dekr")
    method(batch, LATE)
    labels = batch.labeled.labeled_in(batch.labeled.weak(), SKELETON.flip)
    assert people_per_image(labels) > 0
    assert method.threshold.labeled.item() == pytest.approx(MOMENTUM * people_per_image(labels))


@pytest.mark.parametrize("network", DETECTOR_FREE)
def test_without_both_lessons_it_learns_as_supervised_does(network: str) -> None:
    batch = batch_of(f"x@{network}")
    ours = made(network, heatmaps=0.0, instances=0.0)
    plain = Supervised(builder_of(f"x@{network}"), SKELETON).train()
    mine = gradient(ours.student, [ours(batch, LATE).losses["labeled"]])
    theirs = gradient(plain.raw, [plain(batch, LATE).losses["labeled"]])
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_each_lesson_can_be_switched_off_and_waits_for_the_end_of_the_burn_in() -> None:
    batch = batch_of("x@higher_hrnet")
    terms = {"labeled", "heatmaps", "pull", "push", "redrawn"}
    assert set(made("higher_hrnet")(batch, LATE).losses) == terms
    assert set(made("higher_hrnet", instances=0.0)(batch, LATE).losses) == {"labeled", "heatmaps"}
    assert set(made("higher_hrnet", heatmaps=0.0)(batch, LATE).losses) == terms - {"heatmaps"}
    assert set(made("higher_hrnet", redrawn=0.0)(batch, LATE).losses) == terms - {"redrawn"}
    assert set(made("higher_hrnet", burn_in=0.95)(batch, LATE).losses) == {"labeled"}
    ramped = [made("higher_hrnet", burn_in=0.5, ramp=0.2)(batch, Progress(at, 1000)).losses for at in (550, 600, 900)]
    quarter, half, whole = (float(losses["heatmaps"].detach()) for losses in ramped)
    assert (quarter / whole, half / whole) == pytest.approx((0.25, 0.5), rel=1e-3)


def found(*scores: float) -> Scene:
    """People of 14 keypoints within 8 px squares 20 px apart."""
    count = len(scores)
    corner = torch.tensor([[8.0 + 20 * (n % 3), 8.0 + 20 * (n // 3)] for n in range(count)])
    spread = torch.rand(count, len(SKELETON), 2, generator=torch.Generator().manual_seed(0)) * 8
    keypoints = (corner[:, None] + spread)[None]
    visible = torch.full(keypoints.shape[:-1], 0.9)
    return Scene.detected(keypoints, visible, torch.tensor([scores]), torch.ones(1, 1, 16, 16))


YES = torch.tensor([[True]])


def test_the_sure_are_believed_the_doubtful_unknown_and_the_rest_nobody() -> None:
    scene = found(0.8, 0.3, 0.1)
    pseudo = select_pseudo_people(scene, YES, torch.tensor(0.5))
    assert pseudo.weight[0].tolist() == pytest.approx([0.8, 0, 0])
    assert (pseudo.visible[0] > 0).any(-1).tolist() == [True, False, False]
    row = (scene.centers[0, :, 1] / 4).long(), (scene.centers[0, :, 0] / 4).long()
    assert pseudo.valid[0, 0][row].tolist() == [1, 0, 1]
    # Three people in all: two cells of one of them must not hide the others.
    assert scene.extent is not None
    low, high = scene.extent
    hidden = (pseudo.valid[0, 0] == 0).nonzero() * 4 + 1.5
    room = 0.125 * scene.box_size[0, 1] + 4
    for cells, edge in ((hidden.amin(0), low[0, 1] - room), (hidden.amax(0), high[0, 1] + room)):
        assert (cells.flip(0) - edge).abs().max() <= 4


def test_keypoints_that_are_not_confident_belong_to_what_a_doubtful_person_hides() -> None:
    sure = found(0.3)
    keypoints, scores = sure.keypoints.clone(), torch.full_like(sure.visible, 0.9)
    keypoints[0, 0, 0], scores[0, 0, 0] = 44, 0.2
    sure = Scene.detected(keypoints, torch.ones_like(scores), sure.weight, sure.valid)
    unsure = Scene.detected(keypoints, scores, sure.weight, sure.valid, min_score=0.3)
    assert (unsure.hull < 10).all()
    assert (sure.hull > 30).all()
    hidden = [select_pseudo_people(scene, YES, torch.tensor(0.5)).valid for scene in (sure, unsure)]
    assert torch.equal(*hidden)


def test_too_few_keypoints_make_nobody() -> None:
    scene = found(0.8, 0.8)
    visible = scene.visible.clone()
    visible[0, 0, 3:] = 0
    visible[0, 1, 2:] = 0
    pseudo = select_pseudo_people(replace(scene, visible=visible), YES, torch.tensor(0.5))
    assert (pseudo.visible[0] > 0).sum(-1).tolist() == [3, 0]
    assert pseudo.weight[0].tolist() == pytest.approx([0.8, 0])
    numbers = [each.numpy() for each in (pseudo.keypoints, visible > 0, pseudo.box_size)]
    assert people_per_image(Labels(*numbers)) == 1
    assert people_per_image(Labels(*(np.concatenate([each, each, 0 * each]) for each in numbers))) == pytest.approx(
        2 / 3
    )


def test_people_whom_the_answer_describes_badly_are_not_believed() -> None:
    scene = found(0.8, 0.8)
    pseudo = select_pseudo_people(scene, torch.tensor([[True, False]]), torch.tensor(0.5))
    assert pseudo.weight[0].tolist() == pytest.approx([0.8, 0])
    assert 0 < (pseudo.valid == 0).sum() < 30


@pytest.mark.parametrize("network", DETECTOR_FREE)
def test_pseudo_label_learns_people_from_whole_images(network: str) -> None:
    torch.manual_seed(0)
    method = PseudoLabel(builder_of(f"x@{network}"), SKELETON).train()
    method.labeler.update(method.raw)
    batch = batch_of(f"x@{network}")
    assert set(method(batch, Progress(0, 1000)).losses) == {"labeled"}
    step = method(batch, LATE)
    assert float(step.losses["pseudo_label"].detach()) > 0
    assert step.signals
    assert not method(batch, replace(LATE, logged=False)).signals
    with pytest.raises(UsageError, match=r"--method\.quantile"):
        PseudoLabel(builder_of(f"x@{network}"), SKELETON, quantile=0.5)


def test_it_is_refused_for_one_person_in_a_crop_and_the_others_for_whole_images() -> None:
    with pytest.raises(UsageError, match=r"sees whole images.*cid, dekr, higher_hrnet"):
        methods.refuse_network("instance_pseudo_label", "resnet18")
    with pytest.raises(UsageError, match=r"instance_pseudo_label, mean_teacher, pseudo_label, supervised"):
        methods.refuse_network("sspcm", "dekr")
    assert "instance_pseudo_label" not in methods.methods_for("resnet18")

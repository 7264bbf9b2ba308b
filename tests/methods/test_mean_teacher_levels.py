"""Mean Teacher with levels: the teacher's views, the losses of each level, what is left after training."""

import pytest
import torch
from torch import Tensor

from semipose.errors import UsageError
from semipose.fields import mirrored_mean
from semipose.losses.heatmap import field_loss, heatmap_loss
from semipose.methods._tta import averaged_prediction
from semipose.methods.mean_teacher import MeanTeacher
from semipose.methods.mean_teacher_levels import MeanTeacherLevels
from semipose.methods.method import Progress
from tests.methods.test_pose_mum import loud
from tests.people import SIZE, SKELETON, batch, builder

LATE = Progress(900, 1000)


def made(**options: object) -> MeanTeacherLevels:
    """The method with heads loud enough for predictions to differ by more than rounding."""
    torch.manual_seed(0)
    method = MeanTeacherLevels(builder(), SKELETON, **options)  # type: ignore[arg-type]
    loud(method.student.network)
    loud(method.teacher.network)
    return method.train()


def test_the_teacher_predicts_on_upright_crops_as_evaluation_does_with_the_flip_test() -> None:
    method, crops = made(), batch().unlabeled
    plain = crops.canonical()
    prediction = averaged_prediction(method.teacher, crops, plain, method.tta)["heatmap"].maps
    network = method.teacher.network.eval()
    with torch.no_grad():
        alone, mirrored = network(plain.image), network(plain.image.flip(-1))
    want = mirrored_mean(alone, mirrored, SIZE[1])["heatmap"].maps
    # Cells of the border are missed by the mirrored view by a rounding error, and then hold the other's value.
    torch.testing.assert_close(prediction[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4)
    one = averaged_prediction(method.teacher, crops, plain, 1)["heatmap"].maps
    torch.testing.assert_close(one, alone["heatmap"].maps, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one, prediction, atol=1e-3)


def test_the_student_must_agree_in_the_strong_view_on_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    method, both = made(levels=(0.2, 0.5)), batch()
    views: list[Tensor] = []
    fields = []
    method.student.register_forward_hook(lambda _, inputs, out: (views.append(inputs[0]), fields.append(out))[0])
    losses = method(both, LATE).losses
    crops = both.unlabeled
    plain, strong = crops.canonical(), crops.strong(crops.weak())
    assert torch.equal(views[0], both.labeled.weak().image)
    assert torch.equal(views[1], strong.image)
    prediction = averaged_prediction(method.teacher, crops, plain, 2)
    target, weight = method.moved_target(prediction, plain, strong)
    want = field_loss(fields[1], target, weight)
    for name, share in (("level0", 0.2), ("level1", 0.5)):
        want = want + share * heatmap_loss(fields[1][name].maps, target["heatmap"].maps, weight)
    torch.testing.assert_close(losses["consistency"], want)
    assert made(levels=(0.0, 0.0))(both, LATE).losses["consistency"] < losses["consistency"]


def test_labels_are_learned_by_every_level() -> None:
    method = made()
    method(batch(), Progress(0, 10)).losses["labeled"].backward()
    for head in method.student.heads.values():
        assert all(value.grad is not None and value.grad.any() for value in head.parameters())


def test_without_levels_its_labeled_loss_is_mean_teachers() -> None:
    plain = MeanTeacher(builder(), SKELETON).train()
    torch.manual_seed(0)
    loud(plain.student)
    other = made(levels=(0.0, 0.0))
    assert not other.student.heads
    torch.testing.assert_close(other(batch(), LATE).losses["labeled"], plain(batch(), LATE).losses["labeled"])


def test_what_is_averaged_and_deployed_has_no_auxiliary_heads() -> None:
    method = made()
    networks = method.networks()
    assert list(networks) == ["teacher", "student"]
    names = [set(network.state_dict()) for network in networks.values()]
    assert names[0] == names[1] == set(builder()("student").state_dict())


def test_cutouts_hide_parts_of_the_strong_view() -> None:
    whole, cut = (made(cutouts=count)(batch(), LATE).losses["consistency"] for count in (0, 5))
    assert whole != cut


def test_the_weight_grows_from_nothing_over_the_ramp() -> None:
    method = made(ramp=0.5)
    assert method(batch(), Progress(0, 10)).losses["consistency"] == 0
    some, more = (method(batch(), Progress(at, 10)).losses["consistency"] for at in (2, 5))
    torch.testing.assert_close(some * 2.5, more)


@pytest.mark.parametrize("tta", [0, 5])
def test_there_are_four_test_time_augmentation_views(tta: int) -> None:
    with pytest.raises(UsageError, match=rf"--method.tta {tta}: expected 1 to 4"):
        made(tta=tta)

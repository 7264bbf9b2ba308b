"""Mean Teacher with paths: the teacher's flip test, a loss a path, less weight where the two looks differ."""

import pytest
import torch

from semipose.errors import UsageError
from semipose.fields import mirrored_mean
from semipose.methods.mean_teacher_paths import MeanTeacherPaths
from semipose.methods.method import Progress
from semipose.networks.build import build_network
from semipose.views.paths import PATHS
from tests.methods.test_pose_mum import loud
from tests.people import SIZE, SKELETON, batch, builder

LATE = Progress(900, 1000)


def made(**options: object) -> MeanTeacherPaths:
    """The method with heads loud enough for answers to differ by more than rounding."""
    torch.manual_seed(0)
    method = MeanTeacherPaths(builder(), SKELETON, **options)  # type: ignore[arg-type]
    loud(method.student)
    loud(method.teacher.network)
    return method


def test_the_teacher_answers_as_evaluation_does_with_the_flip_test() -> None:
    method, weak = made(), batch().unlabeled.weak()
    answer, trusted, _ = method._answer(weak)
    network = method.teacher.network.eval()
    with torch.no_grad():
        want = mirrored_mean(network(weak.image), network(weak.image.flip(-1)), SIZE[1])
    # Evaluation resamples the mirrored maps, the method turns them cell by cell.
    torch.testing.assert_close(answer["heatmap"].maps, want["heatmap"].maps, atol=1e-5, rtol=1e-5)
    assert trusted is None
    plain, _, _ = made(mirror=False)._answer(weak)
    assert not torch.allclose(plain["heatmap"].maps, answer["heatmap"].maps, atol=1e-5)


def test_an_answer_to_mirrored_images_comes_back_with_partners_exchanged() -> None:
    network = build_network("mobilenet_v1", SKELETON, width=0.25, head_channels=16).eval()
    with torch.no_grad():
        fields = network(torch.rand(2, 3, *SIZE))
    back = fields.unmirrored().unmirrored()["heatmap"].maps
    assert torch.equal(back, fields["heatmap"].maps)
    left, right = SKELETON.flip[0], 0
    assert left != right
    assert torch.equal(fields.unmirrored()["heatmap"].maps[:, right], fields["heatmap"].maps[:, left].flip(-1))


def test_reweighting_trusts_a_keypoint_less_the_further_the_looks_are_apart() -> None:
    method, weak = made(reweight=True), batch().unlabeled.weak()
    answer, trusted, signals = method._answer(weak)
    plain, _, _ = made()._answer(weak)
    torch.testing.assert_close(answer["heatmap"].maps, plain["heatmap"].maps)
    assert trusted is not None
    assert 0 <= trusted.min() < trusted.max() <= 1
    torch.testing.assert_close(signals["inconsistency"], 1 - trusted.mean())
    losses = [made(reweight=on)(batch(), LATE).losses for on in (False, True)]
    assert losses[1]["joco"] < losses[0]["joco"]
    torch.testing.assert_close(losses[1]["labeled"], losses[0]["labeled"])


def test_every_path_has_a_loss_that_reaches_the_student_alone() -> None:
    method = made(paths="joco, jccm,cutout")
    losses = method(batch(), LATE).losses
    assert list(losses) == ["labeled", "joco", "jccm", "cutout"]
    for path in ("joco", "jccm", "cutout"):
        method.zero_grad()
        losses[path].backward()
        assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
        assert all(p.grad is None for p in method.teacher.parameters())


def test_paths_get_the_strong_view_and_the_teachers_keypoints_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, black = [], torch.zeros(4, 3, *SIZE)

    def blackened(image: torch.Tensor, keypoints: torch.Tensor, draw: object, name: str) -> torch.Tensor:
        asked.append((image, keypoints, name))
        return black

    monkeypatch.setitem(PATHS, "cutout", blackened)
    method, both = made(paths="cutout,cutout"), batch()
    seen: list[torch.Tensor] = []
    method.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    losses = method(both, LATE).losses
    (image, there, name), (_, _, other) = asked
    weak = both.unlabeled.weak()
    strong = both.unlabeled.strong(weak)
    assert torch.equal(image, strong.image)
    answer, _, _ = method._answer(weak)
    want, _ = method.codec(weak, answer).decode(answer, "quarter")
    torch.testing.assert_close(
        there, strong.affine.keypoints(weak.affine.inverse().keypoints(want, SKELETON.flip), SKELETON.flip)
    )
    assert name != other
    assert all(each is black for each in seen[1:])
    monkeypatch.setitem(PATHS, "mixup", blackened)
    torch.testing.assert_close(losses["cutout"], 2 * made(paths="mixup")(both, LATE).losses["mixup"])


def test_the_weight_grows_from_nothing_over_the_ramp() -> None:
    method = made(ramp=0.5)
    assert method(batch(), Progress(0, 10)).losses["joco"] == 0
    assert method(batch(), Progress(3, 10)).losses["joco"] > 0


@pytest.mark.parametrize(("options", "told"), [
    ({"paths": "jccm,joko"}, r"no path 'joko'.*joco.*yoco"),
    ({"mirror": False, "reweight": True}, r"--method.reweight.*--method.mirror false"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        MeanTeacherPaths(builder(), SKELETON, **options)  # type: ignore[arg-type]

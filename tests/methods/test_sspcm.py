"""SSPCM: teachers teach each other, their copies correct what the student learns (T11, T12 and T13 of the spec)."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from semipose.config.settings import Settings
from semipose.engine.setup import make_method
from semipose.fields import Field, Fields
from semipose.methods.method import Progress
from semipose.methods.sspcm import Sspcm
from semipose.networks.build import build_network
from semipose.system.tensor_file import save
from tests.people import SKELETON, batch, builder

NAMES = ("student", "first", "second")
LATE = Progress(500, 1000)


class Constant(nn.Module):
    """Answers `value` everywhere and a little more at one cell, and keeps the images it was shown."""

    stride = 4

    def __init__(self, value: float, cell: tuple[int, int] = (8, 8)) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.cell = cell
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Fields:
        self.seen.append(image.detach())
        maps = torch.zeros(len(image), len(SKELETON), 16, 16)
        maps[..., self.cell[1], self.cell[0]] = 1e-3
        return Fields({"heatmap": Field(maps + self.value, "scalar", 4, SKELETON.flip)})


def trio(values: Sequence[float], cells: Sequence[tuple[int, int]] = ((8, 8),) * 3, **options: object) -> Sspcm:
    """Student, first and second teacher; a ramp of 0 unless told."""
    networks = dict(zip(("student", "teacher", "second teacher"), map(Constant, values, cells), strict=True))
    return Sspcm(lambda role, **_: networks[role], SKELETON, **{"ramp": 0.0, **options})  # type: ignore[arg-type, return-value]


def past(method: Sspcm, first: float, second: float, cells: Sequence[tuple[int, int]] = ((8, 8),) * 2) -> None:
    """Give the copies answers of their own."""
    for copy, value, cell in zip((method.first_before, method.second_before), (first, second), cells, strict=True):
        copy.network.value.data.fill_(value)
        copy.network.cell = cell


def pull(method: Sspcm, progress: Progress = LATE) -> dict[str, float]:
    """Where descending the consistency losses would move each network's value."""
    losses = method(batch(), progress).losses
    torch.stack([losses[f"consistency_{name}"] for name in NAMES]).sum().backward()
    return {name: -getattr(method, name).value.grad.item() for name in NAMES}


def test_teachers_are_pulled_toward_each_other_and_the_student_toward_their_mean() -> None:
    found = pull(trio((0.3, 0.2, 0.6)), Progress(0, 1000))
    assert found["first"] > 0 > found["second"]
    assert found["student"] > 0  # toward 0.4
    assert pull(trio((0.5, 0.2, 0.6)), Progress(0, 1000))["student"] < 0


def test_losses_are_half_of_each_labeled_one_and_all_of_each_consistency() -> None:
    """T11: 0.5 (0.4 + 0.2 + 0.6) + (0.1 + 0.3 + 0.2) = 1.2."""
    method, told = trio((0.3, 0.2, 0.6)), iter([0.4, 0.2, 0.6])
    method.labeled_loss = lambda *_: torch.tensor(next(told))  # type: ignore[method-assign]
    taught = iter([0.2, 0.1, 0.3])
    method.consistency_loss = lambda *_: torch.tensor(next(taught))  # type: ignore[method-assign]
    losses = method(batch(), LATE).losses
    assert torch.stack(list(losses.values())).sum().item() == pytest.approx(1.2)
    assert set(losses) == {"labeled", *(f"consistency_{name}" for name in NAMES)}


def test_the_consistency_weight_ramps_up() -> None:
    method = trio((0.3, 0.2, 0.6), ramp=0.5)
    losses = [method(batch(), Progress(update, 1000)).losses["consistency_student"].item() for update in (0, 25, 49)]
    assert losses[0] == 0
    assert losses[2] == pytest.approx(losses[1] * 49 / 25, rel=1e-4)


def test_the_student_learns_from_the_pair_that_lies_nearest_also_from_the_past() -> None:
    method = trio((0.5, 0.2, 0.6), cells=((8, 8), (2, 2), (12, 12)))
    # Of the copies the first's lies beside the second teacher's peak: the pair is worth (0.9 + 0.6) / 2.
    past(method, 0.9, 0.1, ((11, 12), (0, 15)))
    step = method(batch(), LATE)
    step.losses["consistency_student"].backward()
    assert method.student.value.grad.item() < 0
    shares = [step.signals[f"pair/{name}"].item() for name in ("now_now", "before_now", "now_before", "before_before")]
    assert shares == [0, 1, 0, 0]


def test_the_teachers_learn_from_each_others_present_and_not_from_the_past() -> None:
    method = trio((0.5, 0.4, 0.4))
    past(method, 0.9, 0.9)
    losses = method(batch(), LATE).losses
    assert losses["consistency_first"] < 1e-4
    assert losses["consistency_second"] < 1e-4


def test_before_the_first_period_is_over_copies_are_not_asked() -> None:
    method = trio((0.3, 0.2, 0.6), period=0.1)
    past(method, 9.0, 9.0)
    asked = []
    for update in (0, 99, 100):
        step = method(batch(), Progress(update, 1000))
        asked.append(len(method.first_before.network.seen))
        assert all(torch.isfinite(loss) for loss in step.losses.values())
        assert update >= 100 or step.signals["pair/now_now"] == 1
    assert asked == [0, 0, 1]


def test_copies_are_made_at_the_end_of_every_period_and_stay_in_between() -> None:
    method = Sspcm(builder(), SKELETON, period=0.01)
    method.train()
    pairs = ((method.first, method.first_before), (method.second, method.second_before))
    for update in range(25):
        with torch.no_grad():
            for number, (teacher, _) in enumerate(pairs):
                for value in (*teacher.parameters(), *teacher.buffers()):
                    value.fill_(update + 1 + 100 * number)
        method.after_update(Progress(update, 1000, torch.ones(())))
        made = 10 * ((update + 1) // 10)
        for number, (_, copy) in enumerate(pairs):
            assert not copy.network.training
            values = torch.cat([value.flatten().float() for value in copy.network.state_dict().values()])
            assert not made or (values == made + 100 * number).all()


def test_at_the_end_of_a_run_the_copies_are_still_a_period_old() -> None:
    """New ones would be the teachers themselves, and there would be no correction to report."""
    method = Sspcm(builder(), SKELETON, period=0.5)
    for update in range(10):
        method.after_update(Progress(update, 10, torch.ones(())))
        assert method.first_before.updates == method.second_before.updates == (update >= 4)


def test_no_gradient_goes_from_the_student_to_a_teacher_or_back() -> None:
    """T13: what the teachers learn is the same without the student."""
    method = Sspcm(builder(), SKELETON)
    losses = method(batch(), LATE).losses
    losses["consistency_student"].backward(retain_graph=True)
    touched = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert touched == {"student"}
    (losses["consistency_first"] + losses["consistency_second"]).backward()
    touched = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    assert touched == {"student", "first", "second"}


def test_keypoints_below_the_threshold_teach_nobody() -> None:
    low, high = (trio((0.5, value, 0.15))(batch(), LATE) for value in (0.04, 0.06))
    assert low.signals["dropped"] == 1
    assert high.signals["dropped"] == 0
    for name in NAMES:
        assert low.losses[f"consistency_{name}"] == 0
        assert high.losses[f"consistency_{name}"] > 0


# Peaks 6 cells apart on a map whose diagonal is 16 sqrt(2).
APART, SHARE = ((8, 8), (2, 8), (8, 8)), 6 / (16 * 2**0.5)


@pytest.mark.parametrize(("limit", "dropped"), [(1.0, 0), (SHARE + 0.01, 0), (SHARE - 0.01, 1)])
def test_keypoints_that_teachers_place_too_far_apart_are_dropped(limit: float, dropped: int) -> None:
    step = trio((0.5, 0.2, 0.6), cells=APART, inconsistency=limit)(batch(), Progress(0, 1000))
    assert step.signals["dropped"] == dropped
    for name in SKELETON.keypoints:
        assert step.signals[f"inconsistency/{name}"].item() == pytest.approx(SHARE, rel=1e-4)


def test_reweighting_lowers_the_weight_by_the_distance() -> None:
    plain, weighed = (trio((0.5, 0.2, 0.6), cells=APART, reweight=on)(batch(), LATE).losses for on in (False, True))
    for name in NAMES:  # a weight acts squared, see heatmap_loss
        ratio = weighed[f"consistency_{name}"] / plain[f"consistency_{name}"]
        assert ratio.item() == pytest.approx((1 - SHARE) ** 2, rel=1e-3)


def test_each_view_is_occluded_at_the_keypoints_it_is_to_learn() -> None:
    """The first teacher's at the second's, the second's at the first's, the student's at the corrected ones."""
    # The corrected pair is (first's copy, second): nearest, with its higher peak at the copy's cell.
    method = trio((0.5, 0.2, 0.6), cells=((8, 8), (4, 11), (11, 5)))
    past(method, 0.2, 0.2, ((11, 4), (0, 15)))
    both = batch()
    method(both, LATE)
    weak = both.unlabeled.weak()
    strong = both.unlabeled.strong(weak)
    for name, cell in (("first", (11, 5)), ("second", (4, 11)), ("student", (11, 4.5))):
        point = torch.tensor([4 * value + 1.5 for value in cell])
        there = weak.to(strong).points(point.expand(4, 1, 2))[:, 0]
        changed = (getattr(method, name).seen[-1] - strong.image).abs().sum(1) > 1e-6
        found = 0
        for mask, at in zip(changed, there, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            if len(rows) and ((at > 12) & (at < 52)).all():
                center = torch.stack([columns.float().mean(), rows.float().mean()])
                # Two patches, each off by three pixels of jitter on this input.
                assert (center - at).norm() < 9
                found += 1
        assert found


def test_pseudo_labels_are_shown_before_and_after() -> None:
    method = trio((0.5, 0.2, 0.6), cells=((8, 8), (2, 2), (12, 12)))
    past(method, 0.9, 0.1, ((11, 12), (0, 15)))
    image = batch().unlabeled.canonical().image
    before, after = method.pseudo_labels(image)
    # There are copies in truth only once they were made.
    assert torch.equal(before["heatmap"].maps, after["heatmap"].maps)
    method.first_before.updates.fill_(1)
    before, after = method.pseudo_labels(image)
    torch.testing.assert_close(before["heatmap"].maps[0, 0, 0, 0], torch.tensor(0.4))
    torch.testing.assert_close(after["heatmap"].maps[0, 0, 0, 0], torch.tensor(0.75))


def test_teachers_can_be_of_another_size_than_the_student() -> None:
    settings = Settings.from_values({"method": "sspcm", "network": "mobilenet_v1", "width": 0.125, "head_channels": 8})
    method = make_method(settings, {"teacher": "resnet18"}, SKELETON, torch.device("cpu"))
    names = {name: network.config["name"] for name, network in method.networks().items()}
    assert names == {"student": "mobilenet_v1", "first": "resnet18", "second": "resnet18"}
    first, second = (next(iter(method.networks()[name].parameters())) for name in ("first", "second"))
    assert not torch.equal(first, second)
    step = method(batch(), LATE)
    assert all(torch.isfinite(loss) for loss in step.losses.values())


def test_equal_teachers_differ_in_their_start_also_where_one_file_starts_them(tmp_path: Path) -> None:
    values = {"network": "mobilenet_v1", "width": 0.125, "head_channels": 8}
    shared, own = (build_network("mobilenet_v1", SKELETON, width=0.125, head_channels=16, seed=seed) for seed in (8, 9))
    for name, network in (("shared", shared), ("own", own)):
        record = {"network": network.config, "skeleton": SKELETON.to_dict()}
        save(tmp_path / f"{name}.safetensors", network.state_dict(), record)
    settings = Settings.from_values({"method": "sspcm", **values, "weights": str(tmp_path / "shared.safetensors")})
    made = make_method(settings, {}, SKELETON, torch.device("cpu")).networks()
    start = {name: next(network.backbone.parameters()) for name, network in made.items()}
    assert all(torch.equal(start[name], next(shared.backbone.parameters())) for name in NAMES)
    heads = [network.head.state_dict()["final_layer.weight"] for network in made.values()]
    assert not torch.equal(heads[1], heads[2])
    options = {"teacher_weights": str(tmp_path / "own.safetensors")}
    other = make_method(settings, options, SKELETON, torch.device("cpu")).networks()
    assert torch.equal(next(other["first"].backbone.parameters()), next(own.backbone.parameters()))
    assert torch.equal(next(other["student"].backbone.parameters()), next(shared.backbone.parameters()))
    # Weights of the student's kind do not fit teachers of another: those start from random ones.
    third = make_method(settings, {"teacher": "resnet18"}, SKELETON, torch.device("cpu")).networks()
    assert third["first"].config["name"] == "resnet18"

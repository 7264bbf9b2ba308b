"""Teacher-Reviewer-Student: who learns what from whom, each part switched off, T-R1 to T-R4 within the method."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semipose import methods
from semipose.engine.setup import Stores, make_trainer
from semipose.engine.trainer import Trainer
from semipose.errors import UsageError
from semipose.formats.labels import load_labels
from semipose.formats.load import Data
from semipose.inference.model import Model
from semipose.methods.method import Progress
from semipose.methods.teacher_reviewer_student import TeacherReviewerStudent
from semipose.metrics.score import Score
from semipose.networks.build import build_network
from semipose.networks.ema import Ema
from semipose.networks.network import PoseNetwork
from semipose.system import processes
from semipose.system.tensor_file import load
from tests import ranks, synthetic_people, training
from tests.people import SKELETON, batch, builder

NAME = "teacher_reviewer_student"
LATE = Progress(900, 1000)
OFF: dict[str, Any] = {"reviewer": "none", "levels": (0.0, 0.0), "mixes": 0}


def make(**options: Any) -> TeacherReviewerStudent:
    method = TeacherReviewerStudent(builder(), SKELETON, **options)
    method.prepare(1000)
    method.train()
    return method


def flat(network: PoseNetwork, value: float) -> None:
    """Let `network` answer `value` everywhere."""
    nn.init.zeros_(network.head.final_layer.weight)
    nn.init.constant_(network.head.final_layer.bias, value)  # type: ignore[arg-type]


def constant(student: float, teacher: float, **options: Any) -> TeacherReviewerStudent:
    """A method whose networks answer constants, and whose reviewer, if any, is a copy of what it reviews."""
    method = make(**options)
    for name, value in (("student", student), ("teacher", teacher)):
        flat(method.networks()[name], value)
    if method.reviewer is not None:
        method.reviewer.update(method.networks()[method.reviewed])
    return method


@pytest.mark.parametrize(
    ("on", "losses", "networks"),
    [
        ({}, {"labeled", "teacher", "teacher_consistency"}, {"student", "teacher", "average"}),
        (
            {"reviewer": "average"},
            {"labeled", "teacher", "reviewer", "teacher_consistency"},
            {"student", "teacher", "reviewer", "average"},
        ),
        ({"levels": (0.1, 0.3)}, {"labeled", "teacher", "teacher_consistency"}, {"student", "teacher", "average"}),
        ({"mixes": 2}, {"labeled", "teacher", "teacher_consistency"}, {"student", "teacher", "average"}),
        ({"teacher": "average"}, {"labeled", "teacher"}, {"student", "teacher", "average"}),
        (
            {"reviewer": "average", "fusion": "agreed"},
            {"labeled", "agreed", "teacher_consistency"},
            {"student", "teacher", "reviewer", "average"},
        ),
        ({"teacher_consistency_weight": 0.0}, {"labeled", "teacher"}, {"student", "teacher", "average"}),
    ],
)
def test_each_part_is_switched_by_itself(on: dict[str, Any], losses: set[str], networks: set[str]) -> None:
    method = make(**OFF | on)
    assert set(method(batch(), LATE).losses) == losses
    assert set(method.networks()) == networks
    assert len(method.student.heads) == (2 if "levels" in on else 0)


def test_its_switches_are_flags() -> None:
    given = {"levels": ["0", "0"], "reviewer": "none", "mixes": "0"}
    assert OFF.items() <= methods.typed_options(NAME, given).items()


def test_the_student_is_pulled_toward_teacher_and_reviewer_and_neither_moves_by_it() -> None:
    method = constant(0.2, 0.6, teacher_consistency_weight=0.0)
    losses = method(batch(), LATE).losses
    assert losses["reviewer"].item() == pytest.approx(0.5 * losses["teacher"].item(), rel=1e-4)
    (losses["teacher"] + losses["reviewer"]).backward()
    assert method.student.network.head.final_layer.bias.grad.sum() < 0
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.reviewer.parameters())


def test_the_teacher_learns_the_mean_of_student_and_reviewer() -> None:
    """They say 0.2 and 0.6, so the teacher of 0.6 is 0.2 away from their mean, and 0.4 from the student alone."""
    alone = constant(0.2, 0.6, **OFF)(batch(), LATE).losses["teacher_consistency"].item()
    both = constant(0.2, 0.6)
    losses = both(batch(), LATE).losses
    assert losses["teacher_consistency"].item() == pytest.approx(alone / 4, rel=0.05)
    losses["teacher_consistency"].backward()
    assert both.networks()["teacher"].head.final_layer.bias.grad.sum() > 0
    assert all(p.grad is None for p in both.student.parameters())


def test_a_reviewer_that_has_not_followed_yet_says_nothing() -> None:
    method = constant(0.2, 0.6, reviewer="snapshot")
    alone = constant(0.2, 0.6, **OFF)(batch(), LATE).losses
    method.reviewer.updates.zero_()
    losses = method(batch(), LATE).losses
    assert losses["reviewer"] == 0
    assert losses["teacher_consistency"].item() == pytest.approx(alone["teacher_consistency"].item(), rel=1e-5)


def test_labeled_losses_of_a_trained_teacher_and_the_student_weigh_a_half_each() -> None:
    found = {
        (s, t): constant(s, t, **OFF)(batch(), LATE).losses["labeled"].item() for s in (0.0, 0.5) for t in (0.0, 0.5)
    }
    assert found[0.0, 0.5] == pytest.approx((found[0.0, 0.0] + found[0.5, 0.5]) / 2, rel=1e-4)
    assert found[0.5, 0.0] == pytest.approx(found[0.0, 0.5], rel=1e-4)
    averaged = make(**OFF, teacher="average")
    flat(averaged.networks()["student"], 0.5)
    assert averaged(batch(), LATE).losses["labeled"].item() == pytest.approx(found[0.5, 0.5], rel=1e-4)


def train(method: TeacherReviewerStudent, updates: int = 2) -> dict[str, Tensor]:
    """Its weights after some updates; student and teacher alone."""
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 1e-2)
    for update in range(updates):
        torch.stack(list(method(batch(update), LATE).losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(Progress(update, 1000, torch.ones(())))
    return {key: value for key, value in method.state_dict().items() if not key.startswith("reviewer")}


def test_tr1_a_reviewer_without_weight_leaves_student_and_teacher_as_they_are_without_one() -> None:
    without, weightless, reviewed = (
        train(make(**options)) for options in ({"reviewer": "none"}, {"review_weight": 0.0}, {})
    )
    assert without.keys() == weightless.keys()
    assert all(torch.equal(value, weightless[key]) for key, value in without.items())
    assert not all(torch.equal(value, reviewed[key]) for key, value in without.items())


def test_tr2_an_averaged_teacher_moves_before_its_reviewer() -> None:
    method = make(teacher="average", decay=0.5)
    for copy in (method.teacher, method.reviewer):
        assert isinstance(copy, Ema)
        copy.updates.fill_(10)
        flat(copy.network, 0.0)
    flat(method.student.network, 1.0)
    method.after_update(LATE)
    networks = method.networks()
    found = [networks[name].head.final_layer.bias.mean().item() for name in ("student", "teacher", "reviewer")]
    assert found == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("reviewed", ["teacher", "student"])
def test_tr3_a_snapshot_is_taken_of_the_one_reviewed_at_the_end_of_each_period(reviewed: Any) -> None:
    method, taken = make(reviewer="snapshot", reviewed=reviewed, period=0.003), []
    for update in range(7):
        flat(method.networks()[reviewed], float(update))
        method.after_update(Progress(update, 1000, torch.ones(())))
        taken.append(method.reviewer.network.head.final_layer.bias.mean().item())
    assert taken[2:] == [2, 2, 2, 5, 5]


def test_tr4_a_reviewer_that_is_the_teacher_says_the_same() -> None:
    method = make(teacher="average", reviewed="student", review_weight=1.0, teacher_consistency_weight=0.0)
    train(method, 1)
    losses = method(batch(), LATE).losses
    assert torch.equal(losses["teacher"], losses["reviewer"])
    fused = make(teacher="average", reviewed="student", review_weight=1.0, fusion="agreed")
    fused.load_state_dict(method.state_dict())
    torch.testing.assert_close(fused(batch(), LATE).losses["agreed"], 2 * losses["teacher"])


def test_the_weights_ramp_up() -> None:
    start, half, late = (make()(batch(), Progress(update, 1000)).losses for update in (0, 50, 900))
    for name in ("teacher", "reviewer", "teacher_consistency"):
        assert start[name] == 0
        torch.testing.assert_close(2 * half[name], late[name], rtol=1e-3, atol=0)
    torch.testing.assert_close(start["labeled"], late["labeled"], rtol=1e-3, atol=0)


def seen(**options: Any) -> dict[str, list[Tensor]]:
    """The images that each network is shown in a step, when all peaks are 0.4 high and far apart."""
    method, images = make(**options), {"student": [], "teacher": [], "reviewer": [], "own": []}
    places = 8 + 48 * torch.rand(4, len(SKELETON), 2, generator=torch.Generator().manual_seed(0))
    method._strong_keypoints = lambda *_: (places, torch.full((4, len(SKELETON)), 0.4))  # type: ignore[method-assign]
    for name, network in (
        ("student", method.student),
        ("teacher", method.teacher),
        ("reviewer", method.reviewer),
        ("own", method.student.network),
    ):
        network.register_forward_pre_hook(lambda _, inputs, name=name: images[name].append(inputs[0].clone()))
    method(batch(), LATE)
    return images


def test_keypoints_are_mixed_in_the_students_strong_view_alone() -> None:
    mixed, plain, low = seen(), seen(mixes=0), seen(mix_threshold=0.5)
    assert [len(images) for images in mixed.values()] == [2, 3, 1, 1]
    for name, images in mixed.items():
        same = [torch.equal(one, other) for one, other in zip(images, plain[name], strict=True)]
        assert same == ([True, False] if name == "student" else [True] * len(images))
    assert all(torch.equal(one, other) for name in low for one, other in zip(low[name], plain[name], strict=True))
    # Teacher, reviewer and student answer to one and the same weak view.
    assert torch.equal(mixed["teacher"][1], mixed["reviewer"][0])
    assert torch.equal(mixed["teacher"][1], mixed["own"][0])


def test_the_plain_student_is_what_is_evaluated_saved_and_deployed() -> None:
    method = make()
    student = method.networks()["student"]
    assert type(student) is PoseNetwork
    plain = build_network("mobilenet_v1", SKELETON, width=0.25, head_channels=16)
    plain.load_state_dict(student.state_dict())
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    assert sum(name.startswith("student.heads.") for name in trained) > 10


SETTINGS: dict[str, Any] = {"method": NAME, "duration": 6, "eval_every": 2}


def trainer(folder: Path, out: Path, val: bool = True, **options: Any) -> Trainer:
    """A trainer whose evaluations find the teacher best after the second and the last of six updates."""
    settings = training.SETTINGS.chosen("flag", "", **SETTINGS)
    people = load_labels(folder / "labels.json", folder / "images")
    held_out = people.select(np.arange(8, 12)) if val else None
    data = Data(people.select(np.arange(4)), synthetic_people.unlabeled(people), held_out, "given" if val else "none")
    stores = Stores.read(data, settings, training.CPU)
    made = make_trainer(settings, methods.typed_options(NAME, options), people.skeleton, stores, out)
    if made.evaluate is not None:
        made.evaluate = lambda network: Score({"pck@0.1": {2: 5.0, 4: 4.0, 6: 6.0}[made.update]}, {}, {}, {}, [], None)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.people(tmp_path_factory.mktemp("people"))


@pytest.mark.slow
def test_the_best_reviewer_is_the_teacher_of_the_best_checkpoint_also_after_a_kill(
    folder: Path, tmp_path: Path
) -> None:
    whole = trainer(folder, tmp_path / "whole", reviewer="best")
    whole.run()
    best, record = load(tmp_path / "whole/checkpoints/best-teacher.safetensors")
    assert record["update"] == 6
    assert same(whole.method.reviewer.network.state_dict(), best)
    killed = trainer(folder, tmp_path / "killed", reviewer="best")
    step, after_two = killed.step, {}

    def dies(one: Any) -> Any:
        if killed.update == 3:
            after_two.update({k: v.clone() for k, v in killed.method.reviewer.network.state_dict().items()})
            raise KeyboardInterrupt
        return step(one)

    killed.step = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    best, record = load(tmp_path / "killed/checkpoints/best-teacher.safetensors")
    assert record["update"] == 2
    assert same(after_two, best)
    resumed = trainer(folder, tmp_path / "killed", reviewer="best")
    resumed.run()
    assert same(resumed.method.state_dict(), whole.method.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_auxiliary_heads_are_in_no_checkpoint_of_a_network(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path / "run").run()
    for which in ("best", "last"):
        file = tmp_path / f"run/checkpoints/{which}-student.safetensors"
        assert not any("heads" in name for name in load(file)[0])
        assert type(Model.load(file).network) is PoseNetwork
    assert any(".heads." in name for name in load(tmp_path / "run/checkpoints/last.safetensors")[0])


def test_the_best_one_needs_people_to_validate_on(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path, val=False)
    with pytest.raises(UsageError, match=r"--method\.reviewer best needs people to validate on"):
        trainer(folder, tmp_path, val=False, reviewer="best")


def reviewing(folder: Path, out: Path) -> dict[str, str]:
    with processes.group(training.CPU):
        made = trainer(folder, out, reviewer="best")
        made.run()
        return training.digests(made)


@pytest.mark.slow
def test_two_processes_keep_the_same_best_reviewer(folder: Path, tmp_path: Path) -> None:
    """Only the first evaluates."""
    first, second = ranks.together(reviewing, folder, tmp_path / "run")
    assert isinstance(first, dict), first
    assert first == second

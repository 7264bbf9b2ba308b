"""Pose-MUM: mixed at the input and before any stage, un-mixed exactly, and otherwise a mean teacher (M3, M10, M11).

M1 to M9 of tiles are in tests/views/test_tiles.py, E1 to E6 of the teacher in tests/networks/test_ema.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semipose.engine.batches import split
from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.methods.mean_teacher import MeanTeacher
from semipose.methods.method import Build, Method, Progress
from semipose.methods.pose_cons import PoseCons
from semipose.methods.pose_mum import PoseMum
from semipose.networks.backbone import Backbone
from semipose.networks.build import build_network
from semipose.networks.heads import DeconvHead, MultiScaleHead
from semipose.networks.hooks import changing
from semipose.networks.network import PoseNetwork
from semipose.pose.skeleton import Skeleton
from semipose.system import processes
from semipose.views.random_key import RandomKey
from semipose.views.tiles import Tiles
from tests import ranks, training
from tests.networks.named import needs_timm, small
from tests.people import SIZE, SKELETON, batch, builder, crops

LATE = Progress(900, 1000)
PLACES = ["encoder", "deconv1", "deconv2", "heatmap"]


class Patches(Backbone):
    """Every cell of its maps sees one patch of the image: nothing leaks over the border of a tile."""

    channels = (8, 8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 2, 2) for _ in range(3))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [self.stem(image).relu()]
        for layer in self.layers:
            maps.append(layer(maps[-1]).relu())
        return maps

    def stages(self) -> list[nn.Module]:
        return [*self.layers]


def loud(network: PoseNetwork) -> PoseNetwork:
    """Heads start so small that every difference would be one of rounding."""
    for part in network.head.modules():
        if isinstance(part, nn.ConvTranspose2d | nn.Conv2d):
            nn.init.normal_(part.weight, std=0.1)
    return network


def of_patches(role: str) -> PoseNetwork:
    torch.manual_seed(0)
    head = DeconvHead(8, len(SKELETON), (8, 8, 8))
    return loud(PoseNetwork(Patches(), head, mean=(0.5,) * 3, std=(0.5,) * 3, flip=SKELETON.flip, config={}))


def made(**options: Any) -> PoseMum:
    return PoseMum(builder(), SKELETON, **options)


def tiles(name: str, grid: tuple[int, int] = (2, 2), count: int = 4) -> Tiles:
    return Tiles.sampled(RandomKey(0, 0, "unlabeled", count, count), name, grid, count)


def what_goes_into(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """The map that `module` is called with in the end, while `run` runs."""
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, answer: seen.append(inputs[0]))
    with torch.no_grad():
        run()
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize("stages", [[], [0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("at_input", [True, False])
def test_what_is_mixed_anywhere_is_unmixed_exactly_when_nothing_leaks(stages: list[int], at_input: bool) -> None:
    method = PoseMum(of_patches, SKELETON).eval()
    image, modules = torch.rand(4, 3, 128, 96), method.student.backbone.stages()
    places = [None] * at_input + [modules[stage] for stage in stages]
    mixings = {place: tiles(str(number), (4, 3)) for number, place in enumerate(places)}
    with torch.no_grad():
        plain, mixed = method.student(image)["heatmap"].maps, method._mixed_forward(image, mixings)["heatmap"].maps
    torch.testing.assert_close(mixed, plain)
    # It was mixed where it should be, and as the exchanges up to there together say.
    last = modules[-1]
    into_last = what_goes_into(last, lambda: method._mixed_forward(image, mixings))
    expected = what_goes_into(last, lambda: method.student(image))
    for exchange in mixings.values():
        expected = exchange.mix(expected)
    torch.testing.assert_close(into_last, expected)


def of_patches_at_all_scales(role: str) -> PoseNetwork:
    torch.manual_seed(0)
    backbone = Patches()
    head = MultiScaleHead(backbone, len(SKELETON), 8)
    return loud(PoseNetwork(backbone, head, mean=(0.5,) * 3, std=(0.5,) * 3, flip=SKELETON.flip, config={}))


@pytest.mark.parametrize("stages", [[], [0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("at_input", [True, False])
def test_every_scale_is_unmixed_from_what_it_was_mixed_with(stages: list[int], at_input: bool) -> None:
    """A feature in front of a mixed stage keeps its tiles: one exchange for all features would mix them."""
    method = PoseMum(of_patches_at_all_scales, SKELETON).eval()
    image, modules = torch.rand(4, 3, 128, 96), method.student.backbone.stages()
    places = [None] * at_input + [modules[stage] for stage in stages]
    mixings = {place: tiles(str(number), (4, 3)) for number, place in enumerate(places)}
    with torch.no_grad():
        plain, mixed = method.student(image)["heatmap"].maps, method._mixed_forward(image, mixings)["heatmap"].maps
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v1", pytest.param("timm:mobilenetv3_small_050", marks=needs_timm)]
)
def test_a_stage_is_named_with_the_first_feature_that_it_changes(name: str) -> None:
    network = small(name).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain = network.features(image)
        for stage in network.backbone.stages():
            with changing({stage: lambda value: value.flip(0)}):
                found = network.features(image)
            same = [torch.equal(one, other) for one, other in zip(found, plain, strict=True)]
            assert same.index(False) == network.backbone.first_feature(stage)


@pytest.mark.parametrize("unmix", PLACES[1:])
def test_layers_that_the_multi_scale_head_does_not_have_are_refused(unmix: Any) -> None:
    method = PoseMum(of_patches_at_all_scales, SKELETON, unmix=unmix)
    with pytest.raises(UsageError, match=f"the multi-scale head has no layer {unmix} .*--method.unmix encoder"):
        method.check((128, 96), 4)
    PoseMum(of_patches_at_all_scales, SKELETON).check((128, 96), 4)


@pytest.mark.parametrize("unmix", PLACES)
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v1", "hrnet_w32", pytest.param("timm:mobilenetv3_small_050", marks=needs_timm)]
)
def test_m3_one_tile_or_equal_people_make_no_difference_for_any_network_and_place(name: str, unmix: Any) -> None:
    if name.startswith("hrnet") and unmix.startswith("deconv"):
        return
    method = PoseMum(lambda role: loud(small(name)), SKELETON, unmix=unmix).eval()
    image = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    places = [None, *method.student.backbone.stages()]

    def difference(people: Tensor, grid: tuple[int, int]) -> float:
        mixings = {place: tiles(str(number), grid) for number, place in enumerate(places)}
        plain = method.student(people)["heatmap"].maps
        return float((method._mixed_forward(people, mixings)["heatmap"].maps - plain).abs().max() / plain.abs().max())

    with torch.no_grad():
        assert difference(image, (1, 1)) < 1e-4
        assert difference(image[:1].expand(4, -1, -1, -1), (2, 2)) < 1e-4
        assert difference(image, (2, 2)) > 1e-3


@pytest.mark.parametrize(("unmix", "layer"), [("encoder", 0), ("deconv1", 3), ("deconv2", 6), ("heatmap", None)])
def test_tiles_go_back_after_the_deconvolution_that_is_named(unmix: Any, layer: int | None) -> None:
    method, image = PoseMum(of_patches, SKELETON, unmix=unmix).eval(), torch.rand(4, 3, 128, 128)
    head, mixings = method.student.head, {None: tiles("t")}
    place = head.final_layer if layer is None else head.deconv_layers[layer]

    def corner(module: nn.Module, run: Callable[[], object]) -> Tensor:
        # Far from the borders of tiles, where nothing leaks.
        return what_goes_into(module, run)[..., :1, :1]

    for module in [*head.deconv_layers[::3], head.final_layer]:
        plain = corner(module, lambda: method.student(image))
        mixed = corner(module, lambda: method._mixed_forward(image, mixings))
        if module is place:
            torch.testing.assert_close(mixed, plain)
            break
        torch.testing.assert_close(mixed, plain[tiles("t").source[:, 0, 0]])
        assert not torch.allclose(mixed, plain)


def losses(method: Method, updates: int = 3) -> list[float]:
    """The losses of a short training, without ramp-up."""
    method.prepare(1000)
    method.train()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    found = []
    for update in range(updates):
        step = method(batch(update), Progress(update, 1000))
        total = torch.stack(list(step.losses.values())).sum()
        total.backward()
        found += [float(loss.detach()) for loss in step.losses.values()]
        optimizer.step()
        optimizer.zero_grad()
        method.after_update(Progress(update, 1000, torch.ones(())))
    return found


@pytest.mark.parametrize("joined", [False, True])
def test_m11_with_mixing_off_it_is_the_mean_teacher_bit_for_bit(joined: bool) -> None:
    plain = {"cutouts": 0, "ramp": 0.0, "joined": joined}
    expected = losses(MeanTeacher(builder(), SKELETON, **plain))
    assert losses(made(**plain, mix_input=0, mix_layers=0)) == expected
    for switch in ({"mix_input": 1, "mix_layers": 0}, {"mix_input": 0, "mix_layers": 1}):
        mixed = losses(made(**plain, **switch))
        assert mixed[0] == expected[0] or joined
        assert mixed[1] != expected[1]


def test_m11_in_the_first_update_it_is_pose_cons_bit_for_bit() -> None:
    def still(role: str) -> PoseNetwork:
        """PoseCons' labeled pass comes before its teacher's: its statistics must not tell."""
        network = builder()(role)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.0
        return network

    expected = losses(PoseCons(still, SKELETON, ramp=0.0), 1)
    assert losses(PoseMum(still, SKELETON, ramp=0.0, mix_input=0, mix_layers=0), 1) == expected


class Spy(PoseMum):
    """Notes what the student is shown, and where it is mixed."""

    def _mixed_forward(self, image: Tensor, mixings: Any) -> Any:
        self.shown, self.mixings = image, mixings
        return super()._mixed_forward(image, mixings)


@pytest.mark.parametrize("joined", [False, True])
def test_m10_views_and_targets_are_the_same_with_mixing_on_or_off(joined: bool, monkeypatch: Any) -> None:
    targets = []

    def note(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        targets.append((target, weight))
        return predicted.sum()

    monkeypatch.setattr("semipose.losses.heatmap.heatmap_loss", note)
    off, on = (Spy(builder(), SKELETON, mix_input=chance, mix_layers=chance, joined=joined) for chance in (0, 1))
    for method in (off, on):
        for part in method.student.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # settled at once: before, a teacher says the same of everybody
        method.student(batch().unlabeled.weak().image)
        method.teacher.update(method.student)
        method(batch(), LATE)
    assert targets[0][0].std(0).mean() > 0
    assert not off.mixings
    assert len(on.mixings) == 2
    assert torch.equal(off.shown, on.shown)
    half = len(targets) // 2
    for one, other in zip(targets[:half], targets[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("joined", [False, True])
def test_parts_of_a_batch_mix_as_the_whole_does_where_they_divide_into_groups(joined: bool) -> None:
    uniform_numbers = {"mix_input": 1, "mix_layers": 1}
    method = PoseMum(of_patches, SKELETON, group=2, joined=joined, **uniform_numbers).eval()  # type: ignore[arg-type]
    whole = batch(count=8)
    losses = [method(part, LATE).losses for part in (whole, *split(whole, 4))]
    for name, loss in losses[0].items():
        torch.testing.assert_close(torch.stack([part[name] for part in losses[1:]]).mean(), loss)


def test_in_a_joined_batch_labeled_people_keep_their_tiles() -> None:
    method = Spy(builder(), SKELETON, mix_input=1, mix_layers=1, joined=True)
    method(batch(), LATE)
    for exchange in method.mixings.values():
        assert (exchange.source[:4] == torch.arange(4).view(-1, 1, 1).numpy()).all()
        assert exchange.source[4:].min() == 4
        assert (exchange.source[4:] != torch.arange(4, 8).view(-1, 1, 1).numpy()).any()


def test_an_update_mixes_by_chance_at_the_input_and_before_one_stage() -> None:
    class Silent(Spy):
        def _mixed_forward(self, image: Tensor, mixings: Any) -> Any:
            self.mixings = mixings
            return Fields()

    method = Silent(of_patches, SKELETON, mix_input=0.5, mix_layers=0.8, joined=True)
    view = crops(labeled=False).canonical()
    places = [None, *method.student.backbone.stages()]
    drawn = []
    for update in range(600):
        method._student_outputs(view, view, RandomKey(0, update, "unlabeled", 4, 4))
        drawn.append([place in method.mixings for place in places])
    mixed = torch.tensor(drawn).float()
    assert mixed[:, 1:].sum(1).max() == 1
    torch.testing.assert_close(mixed.mean(0), torch.tensor([0.5, *[0.8 / 3] * 3]), atol=0.05, rtol=0)
    together = (mixed[:, 0] * mixed[:, 1:].sum(1)).mean()
    assert abs(together - 0.4) < 0.05


def test_without_eman_weights_are_averaged_alike_and_the_teacher_uses_its_batch() -> None:
    eman, own = made(mix_input=0, mix_layers=0), made(mix_input=0, mix_layers=0, eman=False)
    norm = own.teacher.network.backbone.stem.bn
    before = norm.running_mean.clone()
    assert losses(eman, 1)[0] == losses(own, 1)[0]
    # In the first update the teacher has become the student, but for rounding and the statistics of its own weak views.
    for name, weight in own.teacher.network.named_parameters():
        torch.testing.assert_close(weight, own.student.get_parameter(name), rtol=1e-6, atol=1e-7)
    student = own.student.backbone.stem.bn.running_mean
    assert not torch.equal(norm.running_mean, before)
    assert not torch.equal(norm.running_mean, student)
    assert torch.equal(eman.teacher.network.backbone.stem.bn.running_mean, eman.student.backbone.stem.bn.running_mean)
    assert not own.teacher.network.eval().training


@pytest.mark.parametrize(
    ("options", "size", "people", "said"),
    [
        ({"grid": "4x4"}, (256, 192), 8, "256x192 .*map of 8x6 cells does not divide into 4x4 tiles.*grid 4x3"),
        ({"grid": "5x3"}, (256, 192), 8, "map of 256x192 cells does not divide into 5x3 tiles"),
        ({"group": 4}, (64, 64), 6, "6 unlabeled people in a pass .* divided into groups of 4"),
        ({}, (64, 64), 5, "5 people cannot be divided into groups of 4, 3 or 2"),
    ],
)
def test_what_cannot_be_mixed_is_refused_before_training_in_one_error(
    options: Any, size: tuple[int, int], people: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        made(**options).check(size, people)
    made(**options, mix_input=0, mix_layers=0).check(size, people)


def test_networks_without_such_a_place_are_refused() -> None:
    hrnet = lambda role: build_network("hrnet_w32", SKELETON, width=0.125)  # noqa: E731
    with pytest.raises(UsageError, match=r"head has 0 deconvolutions, so no map after 2.*--method.unmix encoder"):
        PoseMum(hrnet, SKELETON, unmix="deconv2").check(SIZE, 4)

    def bare(role: str) -> PoseNetwork:
        network = of_patches(role)
        network.backbone.stages = lambda: []  # type: ignore[method-assign]
        return network

    with pytest.raises(UsageError, match=r"names no stages to mix before.*--method.mix-layers 0"):
        PoseMum(bare, SKELETON).check(SIZE, 4)
    PoseMum(bare, SKELETON, mix_layers=0).check(SIZE, 4)


@pytest.mark.parametrize("size", [(256, 192), (128, 96), (96, 96), (224, 160)])
def test_the_usual_grid_and_group_suit_any_size_and_every_stage(size: tuple[int, int]) -> None:
    method = made()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.check(size, 8)
    assert method.student.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_a_finer_grid_suits_maps_that_are_unmixed_where_they_are_fine() -> None:
    made(grid="8x8", mix_layers=0, unmix="deconv1").check((128, 128), 4)
    with pytest.raises(UsageError, match="map of 4x4 cells does not divide into 8x8 tiles"):
        made(grid="8x8", mix_layers=0).check((128, 128), 4)
    made(grid="16x16", mix_layers=0, unmix="heatmap").check((128, 128), 4)
    with pytest.raises(UsageError, match="map of 8x8 cells does not divide into 16x16 tiles"):
        made(grid="16x16", mix_input=0, unmix="heatmap").check((128, 128), 4)


def test_the_engine_asks_before_training_what_each_process_gets_in_each_part(tmp_path: Path) -> None:
    folder = training.people(tmp_path)
    training.trainer(folder, tmp_path / "out", method="pose_mum", unlabeled_batch_size=12, accumulate=2)
    with pytest.raises(UsageError, match="5 people cannot be divided into groups of 4, 3 or 2"):
        training.trainer(folder, tmp_path / "out", method="pose_mum", unlabeled_batch_size=10, accumulate=2)


class OwnStatistics(PoseMum):
    """The ablation, for the two processes below."""

    def __init__(self, build: Build, skeleton: Skeleton) -> None:
        super().__init__(build, skeleton, eman=False)


def train_without_eman(folder: Path) -> dict[str, str]:
    with processes.group(training.CPU):
        trainer = training.trainer(folder, folder / "out", method=f"{__name__}:OwnStatistics")
        training.steps(trainer, 3)
        return training.digests(trainer)


@pytest.mark.slow
def test_without_eman_two_processes_keep_equal_teachers(tmp_path: Path) -> None:
    first, second = ranks.together(train_without_eman, training.people(tmp_path))
    assert len(first) > 100
    assert first == second

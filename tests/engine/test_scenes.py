"""Training and prediction on whole images: what streams hand out, what is learned, and who is found where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose import methods
from semipose.codecs.choose import scene_codec
from semipose.config.settings import Settings
from semipose.crops.whole_images import WholeImageStore, one_row_per_image
from semipose.engine.batches import Stream
from semipose.engine.setup import Stores, make_batches, make_trainer, scorer
from semipose.errors import UsageError
from semipose.fields import Fields
from semipose.formats.load import Data
from semipose.inference.detector_free import DetectorFree, checked_scales, find_people
from semipose.inference.options import EvalOptions
from semipose.pose.skeleton import Skeleton
from semipose.views.view import Augmentation, SceneCrops
from tests.scenes import SETTINGS, Told, crowds
from tests.training import steps

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return crowds(tmp_path_factory.mktemp("crowds"))


@pytest.fixture(scope="module")
def stores(data: Data) -> Stores:
    return Stores.read(data, SETTINGS, CPU)


def test_streams_hand_out_whole_images_and_unlabeled_ones_without_people(stores: Stores) -> None:
    batch = make_batches(stores, SETTINGS, True)(0)
    assert isinstance(batch.labeled, SceneCrops)
    assert isinstance(batch.unlabeled, SceneCrops)
    assert batch.labeled.augmentation.shift == 0.2
    assert batch.labeled.people is not None
    assert batch.labeled.people.keypoints.shape == (4, 4, 8, 2)
    assert batch.unlabeled.people is None
    with pytest.raises(ValueError, match="unlabeled"):
        batch.unlabeled.scene(batch.unlabeled.canonical(), (0,))
    assert batch.unlabeled.valid_region(batch.unlabeled.canonical()).mean() < 0.9  # black above and below
    assert len(stores.unlabeled or ()) == 14


def test_two_processes_get_the_halves_of_one_ones_batch(stores: Stores) -> None:
    policy = Augmentation(shift=0.2)
    one = Stream(SceneCrops, stores.labeled, "labeled", 4, 0, policy, True).batch(3)
    two = [Stream(SceneCrops, stores.labeled, "labeled", 4, 0, policy, True, part, 2).batch(3) for part in (0, 1)]
    views = [part.strong(part.weak()) for part in two]
    torch.testing.assert_close(torch.cat([view.image for view in views]), one.strong(one.weak()).image)
    scenes = [part.scene(view, stores.labeled.people.skeleton.flip) for part, view in zip(two, views, strict=True)]
    whole = one.scene(one.strong(one.weak()), stores.labeled.people.skeleton.flip)
    torch.testing.assert_close(torch.cat([scene.keypoints for scene in scenes]), whole.keypoints)


@pytest.mark.parametrize("network", ["higher_hrnet", "dekr", "cid"])
def test_all_kinds_learn_from_labels_and_from_a_teacher(
    stores: Stores, data: Data, network: str, tmp_path: Path
) -> None:
    settings = SETTINGS.chosen("flag", "", network=network, method="mean_teacher", lr=0.003)
    settings = settings.chosen("flag", "", adaptive=False) if network == "dekr" else settings
    trainer = make_trainer(settings, {"ramp": 0.0}, data.skeleton, replace(stores, val=None), tmp_path, 5)
    before, batch = [weight.clone() for weight in trainer.method.student.parameters()], trainer.batches(0)
    rows = []
    for _ in range(5):
        rows.append(trainer.step(batch)[0].losses)
        trainer.update += 1
    moved = [not torch.equal(old, new) for old, new in zip(before, trainer.method.student.parameters(), strict=True)]
    assert np.mean(moved) > 0.9
    assert rows[-1]["labeled"] < rows[0]["labeled"]
    assert all(torch.isfinite(row["consistency"]) for row in rows)
    assert rows[-1]["consistency"] > 0


def test_the_labeled_loss_is_the_codecs_own(stores: Stores, data: Data, tmp_path: Path) -> None:
    trainer = make_trainer(SETTINGS.chosen("flag", "", method="supervised"), {}, data.skeleton, stores, tmp_path, 4)
    batch = trainer.batches(0)
    view, network = batch.labeled.weak(), trainer.method.networks()["raw"].eval()
    with torch.no_grad():
        fields = network(view.image)
        found = trainer.method.labeled_loss(fields, batch.labeled, view)
        scene = batch.labeled.scene(view, data.skeleton.flip)
        expected = scene_codec(fields, view.size, data.skeleton).losses(fields, scene)
    assert set(expected) >= {"pull", "push"}
    torch.testing.assert_close(found, sum(expected.values()))


def test_a_run_that_was_interrupted_goes_on_to_the_same_weights(stores: Stores, data: Data, tmp_path: Path) -> None:
    settings = SETTINGS.chosen("flag", "", method="mean_teacher")

    def trainer(name: str) -> object:
        return make_trainer(settings, {}, data.skeleton, replace(stores, val=None), tmp_path / name, 2)

    whole, half = trainer("whole"), trainer("half")
    steps(whole, 2)
    half.end = 1
    half.run()
    again = trainer("half")
    again.run()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, again.method.state_dict()[name]), name


# Where `Told` finds two people, in pixels of the input and, by hand, of pictures of 96x64 px: those are seen at 2/3 of
# their size, below (64 - 64 * 2 / 3) / 2 black rows.
FOUND = torch.tensor([[17.5, 25.5], [49.5, 33.5]])
THERE = (FOUND.numpy() + 0.5 - (0, 32 / 3)) * 1.5 - 0.5


def told(data: Data) -> Told:
    """A network that finds the same two people in every image."""
    return Told(FOUND[:, None].expand(-1, 8, -1), data.skeleton, (64, 64))


def labeled(data: Data, images: int) -> WholeImageStore:
    """Pictures of which the last shows these two people, and the others nobody."""
    people = data.labeled.within(slice(0, images))
    last = np.flatnonzero(people.image_index == images - 1)[:2]
    people.poses, people.image_index = people.poses[last], people.image_index[last]
    people.poses.keypoints[:], people.poses.boxes[:, 2:] = THERE[:, None], 30
    people.poses.visible[:], people.poses.areas[:] = 2, 900
    return WholeImageStore(one_row_per_image(people), (64, 64), "ram", all_people=people)


@pytest.mark.parametrize("flip_test", [False, True])
def test_people_are_found_at_their_place_in_the_image(data: Data, flip_test: bool) -> None:
    store, network = labeled(data, 1), told(data)
    network.mirrored = flip_test
    found = find_people(network, store, data.skeleton, EvalOptions(flip_test=flip_test))
    assert found.image_ids.tolist() == [store.people.images.ids[0]] * 2
    order = np.argsort(found.keypoints[:, 0, 0])
    # A cell is 6 pixels wide, and a peak is looked for at its quarters; the black rows are whole ones of the crop.
    np.testing.assert_allclose(found.keypoints[order], np.repeat(THERE[:, None], 8, 1), atol=2.0)
    assert (found.box_scores > 0.5).all()
    score = DetectorFree().score(found, store.truth, data.skeleton, resamples=0)
    assert score.values["oks_ap50"] == pytest.approx(100)


class Sizes(torch.nn.Module):
    """Answers to images of each size with what finds the same two people there; keeps what it has seen."""

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.seen: dict[int, torch.Tensor] = {}
        self.of = {
            side: Told((((FOUND + 0.5) * side / 64) - 0.5)[:, None].expand(-1, 8, -1), skeleton, (side, side))
            for side in (32, 64, 128)
        }

    def forward(self, image: torch.Tensor) -> Fields:
        self.seen[image.shape[-1]] = image
        return self.of[image.shape[-1]](image)


@pytest.mark.parametrize("scales", [(1.0, 2.0), (1.0, 0.5), (1.0, 0.5, 2.0)])
def test_people_are_found_at_their_place_in_several_scales(data: Data, scales: tuple[float, ...]) -> None:
    store, network = labeled(data, 1), Sizes(data.skeleton)
    store = WholeImageStore(store.people, (round(64 * max(scales)),) * 2, "ram", all_people=store.all_people)
    found = find_people(network, store, data.skeleton, EvalOptions(scales=scales))  # type: ignore[arg-type]
    order = np.argsort(found.keypoints[:, 0, 0])
    np.testing.assert_allclose(found.keypoints[order], np.repeat(THERE[:, None], 8, 1), atol=2.0)
    # Peaks lie on cells, or halfway between two, and are moved by a quarter of one whichever way; there are no black
    # columns, so that nothing else is lost across.
    off = np.abs(found.keypoints[order][..., 0] - np.repeat(THERE[:, :1], 8, 1))
    np.testing.assert_allclose(off, 1.5, atol=0.1)
    alone = find_people(network.of[64], labeled(data, 1), data.skeleton)
    assert (found.box_scores < 0.999 * alone.box_scores).all()
    # All scales show the same, edge to edge: a large view made small is the small one.
    assert list(network.seen) == [round(64 * scale) for scale in scales]
    small, large = (network.seen[side(network.seen)] for side in (min, max))
    shrunk = torch.nn.functional.interpolate(large, small.shape[-2:], mode="area")
    assert (shrunk - small).abs().mean() < 0.5 * (shrunk.roll(1, -1) - small).abs().mean()


@pytest.mark.parametrize(
    ("scales", "said"),
    [
        ((0.5, 2.0), "expected 1"),
        ((1.0, 1.0), "each once"),
        ((1.0, 0.0), "above 0"),
        ((1.0, 8.0), "up to 4"),
        ((1.0, float("nan")), "above 0"),
        ((1.0, 0.75), "0.75 of 64x64 is 48x48; both sides must be multiples of 32"),
    ],
)
def test_scales_that_cannot_be_are_refused(scales: tuple[float, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked_scales(scales, (64, 64))
    assert checked_scales((2, 1), (64, 64)) == (1, 2)


def test_images_in_which_nobody_is_count_against_who_is_found_there(data: Data) -> None:
    scores = []
    for images in (1, 2):
        evaluate = scorer(labeled(data, images), SETTINGS, data.skeleton)
        assert evaluate is not None
        scores.append(evaluate(told(data)))
    alone, both = scores
    assert both.counts["images"] == 2
    assert both.counts["detected"] == 4
    assert alone.values["oks_ap50"] - both.values["oks_ap50"] > 20


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network": "resnet18", "backbone": "mobilenet_v1"}, "--backbone mobilenet_v1: is for whole images"),
        ({"network": "dekr", "backbone": "cid"}, "--backbone cid: is no backbone"),
        ({"network": "cid", "adaptive": False}, "--adaptive False: is for --network dekr"),
        ({"network": "dekr", "fine": True}, "--fine True: is for --network higher_hrnet"),
        ({"network": "dekr", "metric": "pck@0.1"}, "expected oks_ap, oks_ap50"),
        ({"network": "dekr", "decode": "quarter"}, "has a decoding of its own"),
        ({"network": "dekr", "shift": 1.0}, "--shift 1.0: must be a share"),
        ({"network": "cid", "head_channels": 64}, "hrnet_w32 has no deconvolutions"),
    ],
)
def test_what_does_not_fit_whole_images_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings.from_values(values).validate()


def test_whole_images_have_defaults_of_their_own_which_a_run_remembers() -> None:
    settings = Settings.from_values({"network": "dekr"}).validate()
    assert settings.input_size == (512, 512)
    assert settings.metric == "oks_ap"
    assert settings.origin("metric").source == "default"
    again = Settings.from_record(settings.record())
    assert again.validate() == settings
    chosen = Settings.from_values({"network": "dekr", "metric": "oks_ap75", "input_size": "64x96"}).validate()
    assert (chosen.metric, chosen.input_size) == ("oks_ap75", (64, 96))
    assert Settings().validate().metric == "pck@0.1"


def test_methods_for_one_person_refuse_whole_images_and_say_who_can() -> None:
    with pytest.raises(UsageError, match=r"--method pose_dual .*dekr sees whole images; methods .*mean_teacher"):
        methods.refuse_network("pose_dual", "dekr")
    for name in ("supervised", "mean_teacher", "pseudo_label"):
        methods.refuse_network(name, "dekr")
        methods.refuse_network(name, "resnet18")

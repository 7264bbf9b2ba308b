"""Scores learned from a run's labeled images: what is learned, from whom, and that eval and predict use it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semipose.codecs.center_offset import MIN_OKS
from semipose.codecs.rescoring import Rescorer
from semipose.errors import DataError, UsageError
from semipose.formats.load import Data, load
from semipose.inference.options import EvalOptions
from semipose.runs.rescoring import best_oks, rescored
from semipose.runs.run import Run
from semipose.synthetic.crowd import write_crowds
from semipose.tasks.evaluate import evaluate
from semipose.tasks.predict import predict
from semipose.tasks.train import train
from tests.scenes import SETTINGS
from tests.whole import find_somebody


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("crowds")
    labels = write_crowds(folder, 8, seed=0, size=(64, 96), difficulty=0.1, people=(2, 4))
    val = write_crowds(folder / "val", 3, seed=1, size=(64, 96), difficulty=0.1, people=(2, 4))
    return load(labels, folder / "images", val=val, val_images=folder / "val" / "images", whole_images=True)


@pytest.fixture(scope="module")
def run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of DEKR of two updates, which finds nobody yet."""
    settings = SETTINGS.chosen("flag", "", network="dekr", method="supervised", duration=2)
    return train(data, settings=settings, out=tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def finds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run's network find people all over the place."""
    load = Run.model

    def model(self: Run, which: str = "best") -> object:
        loaded = load(self, which)
        find_somebody(loaded.network)
        return loaded

    monkeypatch.setattr(Run, "model", model)


def test_the_best_oks_of_each_found_person_is_with_those_of_the_same_image(data: Data) -> None:
    people, skeleton = data.labeled, data.skeleton
    found = people.poses[np.arange(len(people))]
    assert best_oks(found, people, skeleton) == pytest.approx(np.ones(len(people)))
    off = people.poses[np.arange(len(people))]
    off.keypoints = off.keypoints + 1000
    assert best_oks(off, people, skeleton) == pytest.approx(np.zeros(len(people)), abs=1e-6)
    nobody = people.poses[np.arange(len(people))]
    nobody.image_ids = nobody.image_ids + 1_000_000
    assert not best_oks(nobody, people, skeleton).any()
    slight = people.poses[np.arange(len(people))]
    slight.keypoints = slight.keypoints + 1
    told = best_oks(slight, people, skeleton)
    assert ((told > 0.1) & (told < 0.999)).any()
    crowd = replace(people, poses=people.poses[np.arange(len(people))])
    crowd.poses.crowd[:] = True
    assert not best_oks(found, crowd, skeleton).any()


@pytest.mark.usefixtures("finds")
def test_eval_and_predict_multiply_scores_by_what_is_learned_from_labeled_images(
    run: Run, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    learn = Rescorer.fit
    monkeypatch.setattr(Rescorer, "fit", lambda self, *args: (asked.append(len(args[0])), learn(self, *args)))
    images = Path(data.labeled.images.files[0]).parent
    assert data.arguments is not None
    labels, out = data.arguments["labels"], tmp_path / "eval.json"
    evaluate(run, labels, images, device="cpu", rescore=True, out=out)
    assert json.loads(out.read_text())["rescored"] is True
    plain, judged = run.model(), rescored(run, "best", "cpu")
    assert asked == [len(plain.predict_people(data.labeled, EvalOptions(device="cpu")))] * 2
    before, after = (model.predict_people(data.labeled, EvalOptions(device="cpu")) for model in (plain, judged))
    assert judged.rescorer is not None
    assert len(after) == len(before)
    with torch.no_grad():
        oks = judged.rescorer(torch.from_numpy(after.keypoints), torch.from_numpy(after.scores))
    oks = oks.clamp_min(MIN_OKS).numpy()
    of = {tuple(pose.ravel().round(2)): score for pose, score in zip(before.keypoints, before.box_scores, strict=True)}
    was = np.array([of[tuple(pose.ravel().round(2))] for pose in after.keypoints])
    np.testing.assert_allclose(after.box_scores, was * oks, rtol=1e-3, atol=1e-5)
    torch.rand(1)
    predict(run, [images], tmp_path / "poses", device="cpu", draw=False, rescore=True)
    written = json.loads((tmp_path / "poses" / "predictions.json").read_text())
    scores = {round(one["score"], 5) for one in written}
    assert {round(float(score), 5) for score in after.box_scores} <= scores


def test_what_cannot_be_rescored_is_refused(run: Run, data: Data) -> None:
    with pytest.raises(DataError, match="detects no people in its labeled images"):
        rescored(run, "best", "cpu")
    with pytest.raises(UsageError, match="give the run's folder"):
        rescored(run.model(), "best", "cpu")
    with pytest.raises(UsageError, match="give the run's folder"):
        rescored(run.checkpoint(), "best", "cpu")


def test_other_networks_are_refused(data: Data, tmp_path: Path) -> None:
    run = train(data, settings=SETTINGS.chosen("flag", "", method="supervised", duration=1), out=tmp_path / "run")
    with pytest.raises(UsageError, match="is for dekr, and this network is higher_hrnet"):
        rescored(run, "best", "cpu")

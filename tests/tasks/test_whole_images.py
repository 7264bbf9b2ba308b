"""The verbs on whole images: nothing but COCO labels goes in, and several people per picture come out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from semipose.checks.checks import check
from semipose.comparison import job
from semipose.comparison.rows import Scorer
from semipose.drawing import draw, person_colors
from semipose.errors import UsageError
from semipose.formats.load import Data, load
from semipose.inference.detector_free import DetectorFree
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.pose.poses import Poses
from semipose.report.whole_images import unlabeled_image_gallery, val_image_gallery
from semipose.runs.run import Run
from semipose.synthetic.crowd import reduced_skeleton, write_crowds
from semipose.tasks.check import sheet
from semipose.tasks.evaluate import evaluate
from semipose.tasks.export import export
from semipose.tasks.predict import predict
from semipose.tasks.train import resume, train
from tests.scenes import SETTINGS, Told, crowds

FOUND = torch.tensor([[17.5, 25.5], [49.5, 33.5]])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return crowds(tmp_path_factory.mktemp("crowds"))


@pytest.fixture(scope="module")
def run(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of two updates on whole images."""
    assert data.arguments is not None
    folder = tmp_path_factory.mktemp("run")
    val = write_crowds(folder / "val", 5, seed=1, size=(64, 96), difficulty=0.1, people=(2, 4))
    arguments = {**data.arguments, "val": val, "val_images": val.parent / "images", "whole_images": False}
    values = {"method": "mean_teacher", "network": "cid", "duration": 2}
    return train(load(**arguments), settings=SETTINGS.chosen("flag", "", **values), out=folder / "run")


@pytest.fixture
def model(data: Data) -> Model:
    """Finds the same two people in every picture."""
    return Model(Told(FOUND[:, None].expand(-1, 8, -1), data.skeleton, (64, 64)), data.skeleton, (64, 64))


def pictures(data: Data) -> Path:
    return Path(data.labeled.images.files[0]).parent


def test_a_run_needs_no_boxes_and_reads_data_for_people_as_whole_images(run: Run) -> None:
    assert run.record.network["backbone"] == "mobilenet_v1"
    assert run.record.data.arguments is not None
    assert run.record.data.arguments["whole_images"] is True
    assert run.record.data.labeled.images == 14
    metrics = run.metrics
    assert metrics is not None
    assert metrics.metric == "oks_ap"
    assert metrics.val is not None
    best = metrics.val["teacher"].best
    assert best.counts["images"] == 5
    assert "oks_ap" in best.values
    assert any(name in best.values for name in ("oks_ap_easy", "oks_ap_medium", "oks_ap_hard"))
    report = (run.folder / "report.html").read_text()
    assert "Labels on the left, detected people on the right" in report
    assert "random images of 14." in report
    assert "<h2>Keypoints" not in report


def test_a_run_is_evaluated_in_whole_images_and_resumed(run: Run, data: Data, tmp_path: Path) -> None:
    assert data.arguments is not None
    labels, out = data.arguments["labels"], tmp_path / "eval.json"
    score = evaluate(run, labels, pictures(data), device="cpu", out=out)
    assert score.counts["images"] == 14
    assert json.loads(out.read_text())["boxes"] == "none"
    paper = evaluate(run, labels, pictures(data), device="cpu", easy_below=0.1)
    assert any("parted at 0.1 and 0.8" in note for note in paper.notes)
    with pytest.raises(UsageError, match="cid finds people itself"):
        evaluate(run, labels, pictures(data), detections=labels)
    with pytest.raises(UsageError, match="decoding of its own"):
        evaluate(run, labels, pictures(data), device="cpu", decode="quarter")
    with pytest.raises(UsageError, match=r"--easy-below 0.9: expected above 0, below 0.8"):
        evaluate(run, labels, pictures(data), device="cpu", easy_below=0.9)
    several = evaluate(run, labels, pictures(data), device="cpu", scales=(1, 2), out=out)
    assert json.loads(out.read_text())["scales"] == [1, 2]
    assert several.counts["images"] == 14
    with pytest.raises(UsageError, match=r"--scales 1 0.3: 0.3 of"):
        evaluate(run, labels, pictures(data), device="cpu", scales=(1, 0.3))
    assert resume(run.folder).metrics == run.metrics
    with pytest.raises(UsageError, match="export is for networks of one person"):
        export(run, tmp_path / "cid.onnx")


def test_methods_for_one_person_refuse_to_train_on_whole_images(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--method pose_dual.*supervised"):
        train(data, settings=SETTINGS, method="pose_dual", out=tmp_path / "run")


def test_everybody_in_a_folder_is_predicted_drawn_and_can_be_trained_on(
    data: Data, model: Model, tmp_path: Path
) -> None:
    out = predict(model, [pictures(data)], tmp_path / "out", device="cpu")
    results = json.loads((out / "predictions.json").read_text())
    assert len(results) == 28
    assert results[0]["score"] == pytest.approx(results[1]["score"], abs=0.1)
    assert results[0]["score"] < 1.01
    poses = load(out / "poses.json", pictures(data), whole_images=True).labeled
    assert np.bincount(poses.image_index).tolist() == [2] * 14
    assert len(list((out / "drawings").iterdir())) == 14
    with pytest.raises(UsageError, match="finds people itself"):
        predict(model, [pictures(data)], tmp_path / "other", detections=out / "predictions.json")


def test_everybody_in_a_video_is_predicted_frame_by_frame(model: Model, tmp_path: Path) -> None:
    film = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for number in range(3):
        writer.write(np.full((64, 96, 3), 60 * number, np.uint8))
    writer.release()
    out = predict(model, [film], tmp_path / "out", device="cpu")
    written = json.loads((out / "poses.json").read_text())
    assert [image["frame_id"] for image in written["images"]] == [0, 1, 2]
    assert [one["image_id"] for one in written["annotations"]] == [1, 1, 2, 2, 3, 3]
    assert (out / "drawings" / "clip.mp4").is_file()
    poses = model.predict(np.zeros((64, 96, 3), np.uint8), device="cpu")
    assert poses.image_ids.tolist() == [1, 1]
    assert model.predict(film, device="cpu").image_ids.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UsageError, match="finds people itself"):
        model.predict(np.zeros((64, 96, 3), np.uint8), boxes=[[0, 0, 9, 9]])


def test_people_who_are_hardly_sure_are_only_in_the_results(data: Data, model: Model, tmp_path: Path) -> None:
    model.network.heatmap.maps.mul_(0.15)  # type: ignore[operator, union-attr]
    out = predict(model, [data.labeled.images.files[0]], tmp_path / "out", device="cpu", draw=False)
    results = json.loads((out / "predictions.json").read_text())
    assert [one["score"] > 0.1 for one in results] == [True] * 2  # not rescored: all keypoints are below 0.2
    assert json.loads((out / "poses.json").read_text())["annotations"] == []


def test_the_report_shows_whole_images_the_best_first(data: Data, model: Model) -> None:
    assert data.val is not None
    shown = val_image_gallery(model, data.val, "cpu")
    assert shown is not None
    assert [len(pictures) for pictures in shown.groups.values()] == [3, 3, 3]
    assert "from 4 of 4 images" in shown.intro
    others = unlabeled_image_gallery(model, data.val, "cpu")
    assert others is not None
    assert sum(map(len, others.groups.values())) == 4


def test_every_person_has_a_color() -> None:
    skeleton, poses = reduced_skeleton(["left_hip", "right_hip"]), Poses.blank(2, 2)
    poses.keypoints[:] = [[[5, 5], [5, 25]], [[25, 5], [25, 25]]]
    poses.visible[:], poses.scores[:] = 2, 1
    colors = person_colors(2)
    image = draw(np.zeros((32, 32, 3), np.uint8), poses, skeleton, colors=colors)
    for person, x in enumerate((5, 25)):
        assert image[5, x].tolist() == list(colors[person])
    assert len(set(person_colors(8))) == 8


def test_check_looks_at_labels_and_not_at_what_is_ignored(data: Data) -> None:
    everybody = data.labeled
    before = [finding.text for finding in check(data, quick=True)]
    everybody.poses.visible[0] = 0
    after = [finding.text for finding in check(data, quick=True)]
    assert not any("fewer than 3" in text for text in after if text not in before)
    assert sheet(everybody).shape[2] == 3


def test_a_comparison_keeps_the_people_a_run_detects_and_scores_them(run: Run, data: Data, tmp_path: Path) -> None:
    assert data.val is not None
    file = tmp_path / "found.safetensors"
    job._predict(run, run.settings, data.val, file)
    kept = job.read_predictions(file, data.val.poses)
    assert set(kept) == {"best-teacher", "best-student", "last-teacher"}
    scorer = Scorer(tmp_path, data.val, "oks_ap", "val")
    for name, found in kept.items():
        again = run.model(name).predict_people(data.val, EvalOptions(device="cpu"))
        assert len(found) == len(again)
        np.testing.assert_allclose(found.keypoints, again.keypoints, atol=1e-3)
        np.testing.assert_array_equal(found.image_ids, again.image_ids)
        assert scorer._score(found, run).values == DetectorFree().score(again, data.val, data.skeleton, 0).values

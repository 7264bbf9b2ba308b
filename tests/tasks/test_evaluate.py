"""Evaluation gives the trainer's numbers again, and says what they depend on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from semipose.errors import DataError, UsageError
from semipose.runs.run import Run
from semipose.tasks.evaluate import evaluate


def test_evaluation_repeats_the_runs_own_score(run: Run, pictures: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    result = evaluate(run, pictures.val, pictures.val_images, out=out)
    assert run.metrics is not None
    assert run.metrics.val is not None
    assert result.values == pytest.approx(run.metrics.val["teacher"].best.values)
    written = json.loads(out.read_text())
    assert written["pck@0.1"] == result.values["pck@0.1"]
    assert {"oks_ap", "per_keypoint", "intervals", "counts", "notes", "sigmas", "checkpoint"} <= written.keys()
    assert (written["boxes"], written["flip_test"], written["network"]) == ("given", False, "teacher")


def test_a_model_a_folder_and_a_checkpoint_score_the_same(run: Run, pictures: SimpleNamespace) -> None:
    file = run.folder / "checkpoints" / "best-student.safetensors"
    wanted = evaluate(run, pictures.val, pictures.val_images, which="student").values
    for source in (run.model("student"), file):
        assert evaluate(source, pictures.val, pictures.val_images).values == wanted


def test_the_flip_test_changes_the_score(run: Run, pictures: SimpleNamespace) -> None:
    plain, flipped = (evaluate(run, pictures.val, pictures.val_images, flip_test=flip) for flip in (False, True))
    assert plain.values["pixel_error"] != flipped.values["pixel_error"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (lambda names: names[::-1], "another order"),
        (lambda names: ["muzzle", *names[1:]], "lacks right_ankle and has also muzzle"),
    ],
)
def test_other_keypoints_are_refused(run: Run, pictures: SimpleNamespace, tmp_path: Path, names, found: str) -> None:
    labels = json.loads(pictures.val.read_text())
    labels["categories"][0]["keypoints"] = names(labels["categories"][0]["keypoints"])
    file = tmp_path / "other.json"
    file.write_text(json.dumps(labels))
    with pytest.raises(DataError, match=found):
        evaluate(run, file, pictures.val_images)


def test_an_empty_batch_is_refused(run: Run, pictures: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        evaluate(run, pictures.val, pictures.val_images, batch_size=0)


def test_scales_are_refused_for_a_network_of_one_person(run: Run, pictures: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match=r"--scales 1 2: .*mobilenet_v1 sees each person in a crop"):
        evaluate(run, pictures.val, pictures.val_images, scales=(1, 2))
    with pytest.raises(UsageError, match="sees each person in a crop"):
        run.model().predict(pictures.val_images, scales=(0.5, 1))

"""Predictions are COCO json that others read and that can be trained on; nothing is written outside of the folder."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from semipose.errors import DataError, UsageError
from semipose.formats.labels import load_labels
from semipose.inference.top_down import TopDown
from semipose.pose.skeleton import PRESETS
from semipose.runs.run import Run
from semipose.tasks.predict import Output, predict
from tests.finished_run import header_only
from tests.inference.test_model import write_video


@pytest.fixture
def three(tmp_path: Path, pictures: SimpleNamespace) -> Path:
    """Three pictures, two of one name in different folders."""
    folder = tmp_path / "in"
    files = sorted(pictures.unlabeled.glob("*.jpg"))
    for file, name in zip(files, ("a/one.jpg", "b/one.jpg", "b/ONE.jpeg"), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    return folder


def test_results_are_valid_coco_and_equal_the_models(run: Run, three: Path, tmp_path: Path) -> None:
    out = predict(run, [three], tmp_path / "out")
    results = json.loads((out / "predictions.json").read_text())
    whole = json.loads((out / "poses.json").read_text())
    assert [row["image_id"] for row in results] == [image["id"] for image in whole["images"]]
    assert {image["file_name"] for image in whole["images"]} == {"a/one.jpg", "b/one.jpg", "b/ONE.jpeg"}
    assert all(len(row["keypoints"]) == 42 and len(row["bbox"]) == 4 for row in results)
    found = np.array([row["keypoints"] for row in results]).reshape(-1, 14, 3)[..., :2]
    assert np.allclose(found, run.model().predict(three).keypoints, atol=1e-3)
    assert all(image["width"] == 72 and image["height"] == 96 for image in whole["images"])


def test_the_whole_json_can_be_used_as_labels(run: Run, three: Path, tmp_path: Path) -> None:
    out = predict(run, [three], tmp_path / "out", draw=False)
    people = load_labels(out / "poses.json", three)
    assert len(people) == 3
    assert people.skeleton is not None
    assert people.skeleton.keypoints == PRESETS["lsp_14"].keypoints
    assert not (out / "drawings").exists()


def test_unsure_keypoints_are_left_unlabeled(run: Run, three: Path, tmp_path: Path) -> None:
    out = predict(run, [three], tmp_path / "out", draw=False)
    for row in json.loads((out / "poses.json").read_text())["annotations"]:
        labeled = np.array(row["keypoints"]).reshape(-1, 3)[:, 2] > 0
        assert (labeled == (np.array(row["keypoint_scores"]) > 0.2)).all()
        assert row["num_keypoints"] == labeled.sum()


def test_equal_names_get_drawings_of_their_own(run: Run, three: Path, tmp_path: Path) -> None:
    out = predict(run, [three], tmp_path / "out")
    drawings = sorted(file.name for file in (out / "drawings").iterdir())
    assert len({name.casefold() for name in drawings}) == 3
    assert cv2.imread(str(out / "drawings" / drawings[0])).shape == (96, 72, 3)


@pytest.mark.parametrize(
    "name", ["../../evil.jpg", "/etc/evil.jpg", "..", "...jpg", "a\\..\\b.png", "sub/\x00x.jpg", ""]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    drawing = Output(tmp_path, PRESETS["lsp_14"], TopDown(), True).drawing(name, ".jpg")
    assert drawing.parent == tmp_path / "drawings"
    assert drawing.name not in (".jpg", "..jpg")


def test_a_linked_drawings_folder_is_refused(run: Run, three: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "drawings").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link out of"):
        predict(run, [three], tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_corrupt_pictures_are_skipped_and_counted(run: Run, three: Path, tmp_path: Path, capsys) -> None:
    header_only(three / "bad.png")
    (three / "empty.png").write_bytes(b"")
    out = predict(run, [three], tmp_path / "out", draw=False)
    info = json.loads((out / "poses.json").read_text())["info"]
    assert len(json.loads((out / "predictions.json").read_text())) == 3
    told = " ".join([*info["skipped"], *info["notes"], capsys.readouterr().err])
    assert "bad.png" in told
    assert "empty.png" in told


def test_a_video_gives_frames_and_a_drawn_video(run: Run, tmp_path: Path, three: Path) -> None:
    film = write_video(tmp_path / "film.avi", 5)
    out = predict(run, [three, film], tmp_path / "out")
    whole = json.loads((out / "poses.json").read_text())
    assert [image["frame_id"] for image in whole["images"][3:]] == [0, 1, 2, 3, 4]
    assert len({image["id"] for image in whole["images"]}) == 8
    assert sum(1 for _ in frames_of(out / "drawings" / "film.mp4")) == 5


def test_videos_in_a_folder_are_predicted_frame_by_frame_too(run: Run, tmp_path: Path, three: Path) -> None:
    film = write_video(three / "film.avi", 5)
    out = predict(run, [three], tmp_path / "out", draw=False)
    whole = json.loads((out / "poses.json").read_text())
    assert [image["file_name"] for image in whole["images"][3:]] == [f"film.avi/{n:06d}.jpg" for n in range(5)]
    cut = three / "cut.avi"
    cut.write_bytes(film.read_bytes()[:-1000])
    out = predict(run, [cut], tmp_path / "cut", draw=False)
    assert "announces 5 frames" in json.loads((out / "poses.json").read_text())["info"]["notes"][0]


def test_boxes_for_a_video_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cut it into frames"):
        predict(run, [write_video(tmp_path / "film.avi", 2)], tmp_path / "out", detections=tmp_path / "boxes.json")


def test_no_input_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no input"):
        predict(run, [], tmp_path)


def frames_of(file: Path):
    video = cv2.VideoCapture(str(file))
    while video.read()[0]:
        yield 1

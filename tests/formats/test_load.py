import json
import subprocess
import sys
from pathlib import Path

import pytest

from semipose.errors import DataError, UsageError
from semipose.formats.load import load
from tests.tiny import film, picture, project


def test_one_json_and_one_folder_are_enough(tmp_path: Path) -> None:
    path, images = project(tmp_path, images=45)
    for number in range(5):
        picture(tmp_path / "frames" / f"{number}.png", seed=1000 + number)
    data = load(path, images, unlabeled=tmp_path / "frames")
    assert data.val is not None
    assert data.unlabeled is not None
    assert (len(data.labeled), len(data.val), len(data.unlabeled)) == (25, 20, 5)
    assert data.val_source == "20 of 45 labeled mice, held out as whole images by seed 0"
    assert data.skeleton.name == "mouse"
    notes = "\n".join(data.notes)
    for part in (
        "labeled: 45 mice in 45 images, boxes: given",
        "OKS sigmas: COCO-17 by name; default 0.072 for tail",
        "unlabeled: 5 mice in 5 images, boxes: image",
        "validation comes from 20 of 45",
    ):
        assert part in notes


def test_with_few_labels_nothing_is_held_out(tmp_path: Path) -> None:
    data = load(*project(tmp_path, images=39))
    assert data.val is None
    assert data.unlabeled is None
    assert data.val_source == "none: fewer than 40 labeled mice (found 39)"
    assert "No validation set: fewer than 40 labeled mice (found 39)." in data.notes[-1]


def test_one_json_serves_both_streams_by_a_split(tmp_path: Path) -> None:
    path, images = project(tmp_path, images=50)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"labeled": list(range(1, 46)), "unlabeled": [46, 47]}))
    data = load(path, images, split=split)
    assert data.unlabeled is not None
    assert data.unlabeled.poses.image_ids.tolist() == [46, 47]
    assert len(data.labeled) == 25
    picture(tmp_path / "more" / "x.png")
    more = load(path, images, split=split, unlabeled=[tmp_path / "more"]).unlabeled
    assert more is not None
    assert len(more) == 3
    assert more.box_source == "given,image"


def test_frames_of_a_video_are_chosen_counted_and_found_again(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    clip = film(tmp_path / "clip.avi", 7)
    data = load(path, images, unlabeled=clip, video_stride=2, video_change=0.1)
    assert data.unlabeled is not None
    assert len(data.unlabeled) == 4
    assert any(f"{clip}: 7 frames, 4 compared (stride 2), 4 kept" in note for note in data.notes)
    assert data.arguments is not None
    again = load(**json.loads(json.dumps(data.arguments)))
    assert again.unlabeled is not None
    assert again.unlabeled.images.files == data.unlabeled.images.files
    with pytest.raises(UsageError, match="--video-stride"):
        load(path, images, video_stride=2)


def test_validation_labels_are_read_from_their_own_json(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    val, val_images = project(tmp_path / "val", images=4)
    data = load(path, images, val=val, val_images=val_images)
    assert data.val is not None
    assert (len(data.labeled), len(data.val)) == (3, 4)
    assert data.val_source == str(val)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["nose", "left_ear", "right_ear", "tip"], "unknown are tip"),
        (["left_ear", "nose", "right_ear", "tail"], "another order"),
    ],
)
def test_validation_labels_with_other_keypoints_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    path, images = project(tmp_path)
    val, val_images = project(tmp_path / "val", lambda d: d["categories"][0].update(keypoints=names))
    with pytest.raises(DataError, match=said):
        load(path, images, val=val, val_images=val_images)


def test_detections_box_the_unlabeled_images_only(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    split, found = tmp_path / "split.json", tmp_path / "found.json"
    split.write_text(json.dumps({"labeled": [1], "unlabeled": [2, 3]}))
    found.write_text(json.dumps([{"image_id": i, "bbox": [1, 1, 9, 9], "score": 0.8} for i in (1, 2)]))
    data = load(path, images, split=split, detections=found)
    assert data.unlabeled is not None
    assert data.labeled.box_source == "given"
    assert data.unlabeled.box_source == "detections"
    assert data.unlabeled.poses.image_ids.tolist() == [2]


def test_reading_data_needs_no_torch() -> None:
    code = (
        "import sys, semipose.formats.load, semipose.checks.checks; "
        "sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_sets_load_as_their_readmes_say(data_root: Path) -> None:
    lspet = data_root / "lspet"
    data = load(
        lspet / "annotations" / "person_keypoints_train.json",
        lspet / "images",
        split=lspet / "splits" / "semi_10pct_seed0.json",
        val=lspet / "annotations" / "person_keypoints_val.json",
    )
    assert data.unlabeled is not None
    assert data.val is not None
    assert (len(data.labeled), len(data.unlabeled), len(data.val)) == (430, 3870, 400)
    assert data.skeleton.sigmas_source.startswith("LSP-14 preset")
    photos = data_root / "coco_people"
    crops = load(photos / "annotations" / "person_keypoints_train.json", photos / "images")
    assert crops.val is not None
    assert "whole groups of coco_image_id" in crops.val_source
    seen = {one["coco_image_id"] for one in crops.labeled.images.extra}
    assert seen.isdisjoint(one["coco_image_id"] for one in crops.val.images.extra)
    mice = data_root / "animal" / "openfield"
    frames = load(mice / "annotations" / "keypoints_train.json", mice / "images", unlabeled=mice / "unlabelled")
    assert frames.unlabeled is not None
    assert len(frames.unlabeled) == 160
    assert frames.skeleton.flip_pairs == (("leftear", "rightear"),)

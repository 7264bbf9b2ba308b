"""Whole images: everybody at their place, the unknown told from the empty, labels that must not be read not read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.crops.cache import key
from semipose.crops.crop import CropFrame
from semipose.crops.whole_images import WholeImageStore, one_row_per_image
from semipose.errors import DataError, UsageError
from semipose.formats.labels import load_labels
from semipose.formats.load import load
from tests.tiny import POINTS, annotation, picture, project

SIZE = (64, 64)
Change = Callable[[dict[str, Any]], Any]
EMPTY = [0] * len(POINTS)


def store(folder: Path, change: Change | None = None, images: int = 2) -> WholeImageStore:
    """Pictures of 64x48 px, a mouse with the box 10, 5, 20, 30 in each, changed by `change`."""
    everybody = load_labels(*project(folder, change, images), include_ignored=True)
    return WholeImageStore(one_row_per_image(everybody), SIZE, "ram", workers=1, all_people=everybody)


def valid(made: WholeImageStore, row: int = 0) -> np.ndarray:
    """Which cells (18, 18) of one picture's crop are valid; the pictures fill rows 2 to 15."""
    return made.valid(np.array([row]))[0, 0].numpy()


def more(*people: dict[str, Any], **image: Any) -> Change:
    """Further annotations in the first picture, and fields of it."""

    def change(value: dict[str, Any]) -> None:
        value["annotations"] += [annotation(90 + row, 1, **one) for row, one in enumerate(people)]
        value["images"][0] |= image

    return change


def test_a_whole_image_fills_the_input_and_is_black_beyond(tmp_path: Path) -> None:
    made = store(tmp_path)
    crops = made.get(np.arange(2)).numpy()
    assert crops.shape == (2, 70, 70, 3)
    rows = crops[0].max((1, 2)) > 0
    assert 48 / 64 * 70 - 1 <= rows.sum() <= 48 / 64 * 70 + 1
    assert not rows[:7].any()
    assert not rows[-7:].any()
    assert (crops[0][rows].max((0, 2)) > 0).all()
    assert made.zoom == 70 / 64


def test_people_are_padded_and_nobody_has_weight_zero(tmp_path: Path) -> None:
    second = [x + 20 if row % 3 == 0 and x else x for row, x in enumerate(POINTS)]
    labels = store(tmp_path, more({"keypoints": second, "bbox": [30, 5, 20, 30]})).labels(np.array([1, 0]))
    assert labels.keypoints.shape == (2, 2, 4, 2)
    assert labels.visible.any(-1).tolist() == [[1, 0], [1, 1]]
    assert labels.visible[0].tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert not labels.keypoints[0, 1].any()
    assert not labels.box_size[0, 1].any()
    # Image pixel (x, y) is at ((x + 0.5) * s - 0.5) of the crop; above the image lie rint(8 s) black rows.
    scale = 70 / 64
    nose, top = labels.keypoints[1, 0, 0], round(8 * scale)
    assert nose.tolist() == pytest.approx([20.5 * scale - 0.5, 10.5 * scale - 0.5 + top], abs=0.02)
    assert labels.keypoints[1, 1, 0, 0] - nose[0] == pytest.approx(20 * scale, abs=1e-3)
    assert labels.box_size[1, 0].tolist() == pytest.approx([20 * scale, 30 * scale])


def test_beyond_the_image_nothing_is_known(tmp_path: Path) -> None:
    made = store(tmp_path)
    assert made.valid(np.arange(2)).shape == (2, 1, 18, 18)
    cells = valid(made)
    # The image begins 9 and ends 61 pixels down the crop: the cells whose middle lies between are on it.
    assert cells.max(1).tolist() == [float(9 <= 4 * cell + 2 <= 61.5) for cell in range(18)]
    assert cells[8, :17].all()


BOX = {"keypoints": EMPTY, "bbox": [32, 0, 32, 48]}
POLYGON = {**BOX, "segmentation": [[32, 0, 63, 0, 63, 47, 32, 47]]}
RUNS = {**BOX, "segmentation": {"size": [48, 64], "counts": [32 * 48, 32 * 48]}, "iscrowd": 1}


@pytest.mark.parametrize("other", [BOX, POLYGON, RUNS, {**BOX, "keypoints": POINTS, "iscrowd": 1}])
def test_where_crowds_and_people_without_keypoints_are_is_unknown(tmp_path: Path, other: dict[str, Any]) -> None:
    made = store(tmp_path, more(other))
    assert valid(made, 1)[8, :17].all()
    assert valid(made)[3:15, :8].all()
    assert not valid(made)[13:, 10:].any()
    assert made.labels(np.arange(2)).visible.any(-1).tolist() == [[1], [1]]


def test_next_to_a_labeled_keypoint_a_box_hides_nothing_and_an_outline_does(tmp_path: Path) -> None:
    everywhere = {"keypoints": EMPTY, "bbox": [0, 0, 64, 48]}
    outline = {**everywhere, "segmentation": [[0, 0, 63, 0, 63, 47, 0, 47]]}
    by_box, by_outline = (store(tmp_path / name, more(other)) for name, other in (("b", everywhere), ("o", outline)))
    labels = by_box.labels(np.array([0]))
    x, y = (labels.keypoints[0, 0] / 4).round().astype(int).T
    assert valid(by_box)[y, x].all()
    assert 0 < valid(by_box).sum() < 0.7 * valid(store(tmp_path / "plain")).sum()
    assert not valid(by_outline).any()


def test_where_not_all_people_have_a_box_only_the_labeled_ones_are_known(tmp_path: Path) -> None:
    made = store(tmp_path, more(all_people_boxed=False))
    # The box 10, 5, 20, 30 grows to 7.5, 1.25, 25, 37.5.
    assert valid(made)[4:12, 3:8].all()
    assert not valid(made)[:, 10:].any()
    assert valid(made, 1)[8, 10:16].all()


def test_images_without_people_stay(tmp_path: Path) -> None:
    made = store(tmp_path, lambda value: value["annotations"].pop(), images=3)
    assert made.labels(np.arange(3)).visible.any(-1).tolist() == [[1], [1], [0]]
    assert valid(made, 2)[8, 8] == 1


def test_an_outline_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotation 90: 'segmentation' has counts that do not fill"):
        store(tmp_path / "a", more({**RUNS, "segmentation": {"size": [48, 64], "counts": [5]}}))
    with pytest.raises(DataError, match="annotation 90: 'segmentation' is of 48x64, the picture of 64x48"):
        store(tmp_path / "b", more({**RUNS, "segmentation": {"size": [64, 48], "counts": [64 * 48]}}))
    broken = more({"segmentation": "no matter: this person has keypoints"})
    assert store(tmp_path / "c", broken).labels(np.array([0])).visible.any(-1).tolist() == [[1, 1]]


def test_crops_of_whole_images_have_a_key_of_their_own(tmp_path: Path) -> None:
    file, box = [str(picture(tmp_path / "a.png"))], np.array([[0, 0, 64, 48]], np.float32)
    frames = [CropFrame(SIZE), CropFrame(SIZE, 1, 1)]
    assert len({key(file, frame.regions(box), frame) for frame in frames}) == 2


def test_every_image_of_a_json_is_unlabeled_once_whoever_is_in_it(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["annotations"] += [annotation(91, 1), annotation(92, 2, bbox=[0, 0, -1, 5], keypoints="broken")]
        del value["annotations"][2]

    path, images = project(tmp_path, change)
    value = json.loads(path.read_text())
    labels = tmp_path / "mine.json"
    labels.write_text(json.dumps(value | {"annotations": value["annotations"][:1]}))
    data = load(labels, images, unlabeled=path, whole_images=True)
    assert data.unlabeled is not None
    assert data.unlabeled.image_index.tolist() == [0, 1, 2]
    assert data.unlabeled.poses.boxes.tolist() == [[0, 0, 64, 48]] * 3


def test_a_split_divides_images_and_reads_no_label_of_the_others(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        more(BOX)(value)
        value["annotations"][1] |= {"keypoints": "broken", "segmentation": "broken"}
        del value["annotations"][2]  # nobody is in the third picture

    path, images = project(tmp_path, change, images=4)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"labeled": [1, 4], "unlabeled": [2, 3]}))
    data = load(path, images, split=split, whole_images=True)
    assert data.labeled.images.ids.tolist() == [1, 4]
    assert data.labeled.poses.ids.tolist() == [10, 40, 90]
    assert data.labeled.labeled.tolist() == [True, True, False]
    assert data.unlabeled is not None
    assert data.unlabeled.images.ids.tolist() == [2, 3]
    assert data.unlabeled.poses.boxes.tolist() == [[0, 0, 64, 48]] * 2
    split.write_text(json.dumps({"labeled": [1, 4], "unlabeled": [2], "labeled_people": [10]}))
    with pytest.raises(UsageError, match="divides the images"):
        load(path, images, split=split, whole_images=True)
    with pytest.raises(UsageError, match="takes no boxes"):
        load(path, images, detections=path, whole_images=True)


def test_whole_images_are_held_out_and_those_without_people_too(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        del value["annotations"][30:]

    data = load(*project(tmp_path, change, images=50), whole_images=True)
    assert data.val is not None
    assert (len(data.val.images), len(data.labeled.images)) == (20, 30)
    assert len(data.val) + len(data.labeled) == 30
    assert not set(data.val.images.ids) & set(data.labeled.images.ids)
    assert "20 of 50 labeled images" in data.val_source


def test_data_for_people_is_read_again_for_whole_images(tmp_path: Path) -> None:
    path, images = project(tmp_path, more(BOX))
    data = load(path, images)
    assert len(data.labeled) == 3
    whole = data.for_whole_images()
    assert len(whole.labeled) == 4
    assert whole.for_whole_images() is whole
    data.arguments = None
    with pytest.raises(UsageError, match="whole_images=True"):
        data.for_whole_images()

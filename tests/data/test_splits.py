import json
from pathlib import Path

import numpy as np
import pytest

from semipose.data.people import Images, People
from semipose.data.splits import hold_out, load_split
from semipose.errors import DataError
from semipose.formats.labels import load_labels, load_split_labels
from semipose.pose.poses import Poses


def crowd(people: int, images: int, **fields: list) -> People:
    """`people` spread over `images` pictures; `fields` are extra fields by image."""
    poses = Poses.blank(people, 2)
    index = np.arange(people) % images
    poses.ids = np.arange(people) + 1000
    poses.image_ids = index + 1
    poses.visible += 2
    poses.keypoints += 7
    extra = tuple({name: values[i] for name, values in fields.items()} for i in range(images))
    table = Images(tuple(f"/{i}.png" for i in range(images)), np.arange(images) + 1, np.full((images, 2), 9), extra)
    return People(table, index, poses, None, "given", "here")


@pytest.mark.parametrize(
    "content",
    [
        {"labeled": [1, 2], "unlabeled": [3]},
        {"labelled": [1, 2], "unlabelled": [3]},
        {"labelled": [1, 2], "unlabeled": [3], "seed": 0, "note": "x"},
    ],
)
def test_both_spellings_are_read(tmp_path: Path, content: dict) -> None:
    (tmp_path / "split.json").write_text(json.dumps(content))
    split = load_split(tmp_path / "split.json")
    assert (split.labeled.tolist(), split.unlabeled.tolist(), split.people) == ([1, 2], [3], None)


def test_named_people_are_read(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text('{"labeled": [1], "unlabeled": [3], "labeled_people": [10, 11]}')
    people = load_split(tmp_path / "split.json").people
    assert people is not None
    assert people.tolist() == [10, 11]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not json"),
        ("[1]", "found list"),
        ('{"labeled": [1]}', "expected one list 'unlabeled'"),
        ('{"labeled": [1], "labelled": [1], "unlabeled": []}', "both spellings"),
        ('{"labeled": ["a"], "unlabeled": []}', "holds 'a'"),
        ('{"labeled": [1.5], "unlabeled": []}', "holds 1.5"),
        ('{"labeled": [true], "unlabeled": []}', "holds True"),
        ('{"labeled": 5, "unlabeled": []}', "holds 5"),
        ('{"labeled": [1, 1], "unlabeled": []}', "names 1 ids twice, such as 1"),
        ('{"labeled": [1], "unlabeled": [], "labeled_people": [2, 2]}', "'labeled_people' names 1 ids twice"),
        ('{"labeled": [1], "unlabeled": [], "labeled_people": ["x"]}', "'labeled_people' holds 'x'"),
        ('{"labeled": [1, 2], "unlabeled": [2]}', "both labeled and unlabeled, such as 2"),
        ('{"labeled": [], "unlabeled": [2]}', "no image is labeled"),
    ],
)
def test_a_wrong_split_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(DataError, match=said):
        load_split(tmp_path / "split.json")
    with pytest.raises(DataError, match="cannot be read"):
        load_split(tmp_path / "gone.json")


@pytest.mark.parametrize(("count", "held"), [(39, None), (40, 20), (60, 20), (100, 20), (150, 30), (1000, 200)])
def test_a_fifth_but_at_least_twenty_are_held_out(count: int, held: int | None) -> None:
    train, val = hold_out(crowd(count, count))
    assert (None if val is None else len(val)) == held
    assert len(train) == count - (held or 0)


def test_holding_out_follows_the_seed_and_keeps_all_people() -> None:
    people = crowd(100, 100)
    train, val = hold_out(people, seed=1)
    again, other = hold_out(people, seed=1)[1], hold_out(people, seed=2)[1]
    assert val is not None
    assert again is not None
    assert other is not None
    assert val.poses.ids.tolist() == again.poses.ids.tolist() != other.poses.ids.tolist()
    assert sorted([*train.poses.ids.tolist(), *val.poses.ids.tolist()]) == people.poses.ids.tolist()


@pytest.mark.parametrize("field", ["group", "coco_image_id", "video_id"])
def test_people_of_one_image_or_group_stay_on_one_side(field: str) -> None:
    people = crowd(300, 100, **{field: [i // 4 for i in range(100)]})
    train, val = hold_out(people)
    assert val is not None
    assert not {one[field] for one in train.images.extra} & {one[field] for one in val.images.extra}
    assert len(val) >= 60


def test_a_single_group_is_divided_by_images_instead() -> None:
    train, val = hold_out(crowd(100, 50, video_id=["film"] * 50))
    assert val is not None
    assert not set(train.images.files) & set(val.images.files)


def test_one_picture_with_all_people_cannot_be_divided() -> None:
    assert hold_out(crowd(100, 1))[1] is None


@pytest.mark.parametrize("name", ["lspet", "coco_people", "coco_mini", "coco_multi"])
def test_real_splits_fit_their_labels(data_root: Path, name: str) -> None:
    folder = data_root / name
    labels = folder / "annotations" / "person_keypoints_train.json"
    ids = load_split(folder / "splits" / "semi_10pct_seed0.json")
    labeled, unlabeled = load_split_labels(labels, folder / "images", *ids)
    everybody = load_labels(labels, folder / "images")
    assert set(labeled.poses.image_ids.tolist()) <= set(ids[0].tolist())
    assert set(unlabeled.poses.image_ids.tolist()) <= set(ids[1].tolist())
    assert len(labeled) + len(unlabeled) >= len(everybody)
    assert not unlabeled.poses.visible.any()

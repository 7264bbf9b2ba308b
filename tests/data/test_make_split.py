"""New splits: nested, whole, of the size asked for, independent of the file's order; the first people of a file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.data.make_split import By, make_split
from semipose.data.people import Images, People
from semipose.errors import DataError, UsageError
from semipose.formats import read_groups
from semipose.formats.labels import load_labels
from semipose.formats.load import load
from semipose.pose.poses import Poses
from semipose.system.files import write_json
from tests.tiny import annotation, picture, project

DRAWN: list[By] = ["image", "person", "group"]


def crowd(seed: int = 0, images: int = 100, order: np.ndarray | None = None) -> People:
    """People in `images` pictures: 0 to 4 in each, in groups of 1 to 8 pictures; `order` is that of the file."""
    rng = np.random.default_rng(seed)
    persons = rng.integers(0, 5, images)
    persons[:2] = 1
    groups = np.repeat(np.arange(images), rng.integers(1, 9, images))[:images]
    order = np.arange(images) if order is None else order
    ids = rng.permutation(10 * images)[:images]
    poses = Poses.blank(int(persons.sum()), 2)
    index = np.repeat(np.arange(images), persons[order])
    poses.ids = np.arange(len(index)) + 10**6
    poses.image_ids = ids[order][index]
    files = tuple(f"/{i}.png" for i in order)
    extra = tuple({"video_id": int(groups[i])} for i in order)
    return People(Images(files, ids[order], np.full((images, 2), 9), extra), index, poses, None, "given", "here")


def persons_in(people: People, ids: list[int]) -> int:
    return int(np.isin(people.poses.image_ids, ids).sum())


def groups_of(people: People, ids: list[int]) -> set[int]:
    return {one["video_id"] for i, one in zip(people.images.ids, people.images.extra, strict=True) if i in ids}


@pytest.mark.parametrize("by", DRAWN)
@pytest.mark.parametrize("seed", range(5))
def test_splits_of_one_seed_are_nested_and_lose_no_image(by: By, seed: int) -> None:
    people = crowd(seed)
    before: set[int] = set()
    for labeled in (1, 0.01, 0.05, 0.1, 30, 0.5, 0.9):
        split = make_split(people, labeled, by, seed)
        assert before <= set(split["labeled"]), labeled
        assert sorted(split["labeled"] + split["unlabeled"]) == sorted(people.images.ids.tolist())
        before = set(split["labeled"])
    assert split["labeled"] != make_split(people, labeled, by, seed + 1)["labeled"]
    assert split == make_split(people, labeled, by, seed)


@pytest.mark.parametrize("by", DRAWN)
def test_the_order_of_the_file_does_not_matter(by: By) -> None:
    order = np.random.default_rng(1).permutation(100)
    assert make_split(crowd(order=order), 0.3, by, seed=3) == make_split(crowd(), 0.3, by, seed=3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labeled", [1, 7, 0.1, 0.5])
def test_a_split_has_the_size_asked_for(seed: int, labeled: float) -> None:
    people = crowd(seed)
    with_people = len(np.unique(people.image_index))

    def wanted(total: int) -> int:
        return round(labeled * total) if labeled < 1 else int(labeled)

    assert len(make_split(people, labeled, "image", seed)["labeled"]) == wanted(with_people)
    found = persons_in(people, make_split(people, labeled, "person", seed)["labeled"])
    assert wanted(len(people)) <= found < wanted(len(people)) + 4
    chosen = make_split(people, labeled, "group", seed)["labeled"]
    assert wanted(with_people) <= len(set(chosen) & set(people.poses.image_ids.tolist())) < wanted(with_people) + 8


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_also_their_images_without_people(seed: int) -> None:
    people = crowd(seed)
    split = make_split(people, 0.3, "group", seed)
    assert groups_of(people, split["labeled"]).isdisjoint(groups_of(people, split["unlabeled"]))


def test_every_image_is_drawn_equally_often() -> None:
    people = crowd()
    with_people = np.unique(people.poses.image_ids)
    drawn = [make_split(people, 0.25, "image", seed)["labeled"] for seed in range(200)]
    counts = np.bincount(np.searchsorted(with_people, np.concatenate(drawn)), minlength=len(with_people))
    # 50 expected; the standard deviation is 6.
    assert 25 < counts.min() < counts.max() < 75


@pytest.mark.parametrize("by", ["image", "person"])
def test_images_without_labeled_people_are_never_the_labeled_ones(by: By) -> None:
    people = crowd()
    everybody = set(people.poses.image_ids.tolist())
    assert set(make_split(people, 0.999, by)["labeled"]) <= everybody
    total = len(people) if by == "person" else len(everybody)
    assert set(make_split(people, total, by)["labeled"]) == everybody


def several(folder: Path) -> tuple[Path, Path]:
    """Four images, listed as 4, 3, 2, 1, with three people each; the annotations go image by image from 1."""

    def change(document: dict[str, Any]) -> None:
        document["images"].reverse()
        named = [(10 * i + k, i, k) for i in range(1, 5) for k in range(3)]
        document["annotations"] = [annotation(number, image, bbox=[k, 5, 20, 30]) for number, image, k in named]
        document["annotations"][10].update(iscrowd=1)  # Of image 4: a crowd and somebody without labels are no labels.
        document["annotations"][9].update(keypoints=[0] * 12)

    return project(folder, change, images=4)


@pytest.mark.parametrize(
    ("count", "people", "images"),
    [(1, [42], [4]), (2, [42, 30], [3, 4]), (4, [42, 30, 31, 32], [3, 4]), (5, [42, 30, 31, 32, 20], [2, 3, 4])],
)
def test_the_first_people_go_by_the_order_of_the_images(
    tmp_path: Path, count: int, people: list[int], images: list[int]
) -> None:
    split = make_split(load_labels(*several(tmp_path)), count, "first")
    assert split["labeled_people"] == people
    assert split["labeled"] == images
    assert split["unlabeled"] == sorted({1, 2, 3, 4} - set(images))
    assert "seed" not in split


@pytest.mark.parametrize("boxes", [True, False])
def test_training_on_the_first_people_takes_exactly_these(tmp_path: Path, boxes: bool) -> None:
    path, images = several(tmp_path)
    split = tmp_path / "split.json"
    write_json(split, make_split(load_labels(path, images), 5, "first"))
    document = json.loads(path.read_text())
    for one in document["annotations"]:
        if one["id"] not in (42, 30, 31, 32, 20):
            one.update(keypoints="secret", area="secret")
        if not boxes:
            del one["bbox"]
    path.write_text(json.dumps(document))
    data = load(path, images, split=split)
    assert sorted(data.labeled.poses.ids.tolist()) == [20, 30, 31, 32, 42]
    assert data.unlabeled is not None
    assert not data.unlabeled.poses.visible.any()
    if boxes:
        assert data.unlabeled.poses.image_ids.tolist() == [1, 1, 1]
    else:
        assert data.unlabeled.poses.image_ids.tolist() == [1]
    # Two of image 2 and one of image 4; the crowd there is nobody.
    assert "mice in labeled images skipped, as the split does not name them: 3" in data.notes


@pytest.mark.parametrize("people", [[99], [10]])
def test_named_people_outside_of_the_labeled_images_are_refused(tmp_path: Path, people: list[int]) -> None:
    path, images = several(tmp_path)
    split = tmp_path / "split.json"
    write_json(split, {"labeled": [4], "unlabeled": [1], "labeled_people": [42, *people]})
    with pytest.raises(DataError, match=f"1 labeled people that are not in its labeled images .*such as {people[0]};"):
        load(path, images, split=split)


@pytest.mark.parametrize(
    ("labeled", "by", "options", "said"),
    [
        (0, "image", {}, "expected 1 to"),
        (-3, "image", {}, "expected 1 to"),
        (1000, "image", {}, "expected 1 to"),
        (1000, "first", {}, "expected 1 to .* people"),
        (2.5, "image", {}, "or a share"),
        (float("nan"), "image", {}, "or a share"),
        (float("inf"), "person", {}, "or a share"),
        (5, "photo", {}, "image, person, group or first"),
        (5, "first", {"seed": 1}, "--by first draws nothing"),
        (5, "image", {"seed": -1}, "--seed -1: must be 0"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(labeled: float, by: Any, options: Mapping, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_split(crowd(), labeled, by, **options)


def test_splits_by_group_need_a_group_field(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="with --group"):
        make_split(load_labels(*project(tmp_path)), 1, "group")


def test_groups_too_large_to_leave_anything_unlabeled_are_refused() -> None:
    people = crowd()
    groups = {i: "small" if i == people.poses.image_ids[0] else "large" for i in people.images.ids.tolist()}
    outcomes = set()
    for seed in range(10):
        try:
            outcomes.add(str(len(make_split(people, 2, "group", seed, groups)["unlabeled"])))
        except UsageError as error:
            outcomes.add(str(error)[:41])
    assert outcomes == {"1", "--by group: no image would stay unlabeled"}


def grouped(folder: Path) -> Path:
    """Six frames of two mice; field `day` is on all of them, `cage` only on some, `lab` alike on all."""

    def change(document: dict[str, Any]) -> None:
        for i, image in enumerate(document["images"]):
            image.update(file_name=f"mouse{i // 3}_{i}.png", day=[2, i // 2], lab="a", **({"cage": 1} if i else {}))
            picture(folder / "img" / image["file_name"])

    return project(folder, change, images=6)[0]


@pytest.mark.parametrize(
    ("how", "groups"),
    [("day", [[1, 2], [3, 4], [5, 6]]), (r"(.*)_\d+", [[1, 2, 3], [4, 5, 6]]), ("mouse([01])", [[1, 2, 3], [4, 5, 6]])],
)
def test_groups_come_from_any_field_or_from_the_file_name(tmp_path: Path, how: str, groups: list[list[int]]) -> None:
    path = grouped(tmp_path)
    found = read_groups(path, how)
    assert [[i for i in found if found[i] == name] for name in dict.fromkeys(found.values())] == groups
    people = load_labels(path, tmp_path / "img")
    assert make_split(people, 1, "group", groups=found)["labeled"] in groups


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cage", "1 of 6 images.*mouse0_0.png.*here: day, lab"),
        ("nothing", "6 of 6 images"),
        ("mouse(1)", "3 of 6 images"),
        ("ouse([01])", "6 of 6 images"),
        ("(x)?mouse", "6 of 6 images"),
        ("lab", "all 6 images.*one group"),
        ("((", "not a regular expression"),
        ("(?:mouse)", "in parentheses"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path: Path, how: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_groups(grouped(tmp_path), how)


def test_the_first_people_of_real_pictures_are_these_and_the_rest_is_unlabeled(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "coco_multi"
    path = folder / "annotations" / "person_keypoints_train.json"
    split = tmp_path / "split.json"
    write_json(split, make_split(load_labels(path, folder / "images"), 100, "first"))
    document = json.loads(path.read_text())
    by_image: dict[int, list[dict]] = {one["id"]: [] for one in document["images"]}
    for one in document["annotations"]:
        by_image[one["image_id"]].append(one)
    loop = [one for image in document["images"] for one in by_image[image["id"]]]
    published = [one["id"] for one in loop if not one["iscrowd"] and one["area"] > 0 and any(one["keypoints"])][:100]
    data = load(path, folder / "images", split=split, val=path)
    assert sorted(data.labeled.poses.ids.tolist()) == sorted(published)
    assert data.unlabeled is not None
    unlabeled = set(json.loads(split.read_text())["unlabeled"])
    assert len(data.unlabeled) == sum(not one["iscrowd"] for one in loop if one["image_id"] in unlabeled)

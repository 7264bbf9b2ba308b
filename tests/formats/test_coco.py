import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semipose.errors import DataError, UsageError
from semipose.formats import label_format
from semipose.formats.labels import load_labels, load_split_labels
from tests.tiny import Change, annotation, picture, project


def at(*keys: Any, value: Any) -> Change:
    """A change that sets one entry of the document."""

    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def keypoint(row: int, value: Any) -> Change:
    return at("annotations", 1, "keypoints", row, value=value)


def second_category(document: dict) -> None:
    document["categories"].append({"id": 2, "name": "cat", "keypoints": ["nose", "tail"]})
    document["annotations"][0] |= {"category_id": 2, "keypoints": [1, 1, 2, 2, 2, 2]}


FAULTS = [
    (at("images", value=3), "'images' is a number", "images is no list"),
    (lambda d: d.pop("annotations"), "'annotations' is missing", "no annotations"),
    (at("images", 0, value=7), r"images\[0\] is a number", "an image is no object"),
    (at("images", 1, "id", value=1), "image 1: this id is used 2 times", "image id twice"),
    (at("images", 1, "id", value=2**63), "image number 1: 'id' is a number", "image id beyond 64 bits"),
    (at("images", 1, "id", value="x"), "image number 1: 'id' is text", "image id is text"),
    (at("images", 1, "file_name", value=None), "image 2: 'file_name' is missing", "no file name"),
    (at("images", 1, "width", value=-5), "image 2: 'width' is -5", "negative width"),
    (at("images", 1, "file_name", value="no.png"), r"image 2: file no\.png is not in", "missing file"),
    (at("images", 1, "file_name", value="../labels.json"), "image 2: .*leads out of the images folder", "traversal"),
    (at("images", 1, "file_name", value="a\\..\\..\\x.png"), "image 2: .*leads out", "traversal, other system"),
    (at("images", 1, "file_name", value="/etc/hosts"), "image 2: .*absolute path", "absolute"),
    (at("images", 1, "file_name", value="C:\\x.png"), "image 2: .*absolute path", "absolute, other system"),
    (at("images", 1, "file_name", value=""), "image 2: .*not a file name", "empty name"),
    (at("annotations", 1, "id", value=10), "annotation 10: this id is used 2 times", "annotation id twice"),
    (at("annotations", 1, "id", value=1.5), "annotation number 1: 'id' is a number", "fractional id"),
    (at("annotations", 1, "image_id", value=99), "annotation 20: image_id 99 is not an image", "unknown image"),
    (
        at("annotations", 1, "category_id", value=9),
        "annotation 20: category_id 9 is not a",
        "unknown category",
    ),
    (at("annotations", 1, "iscrowd", value=2.5), "annotation 20: 'iscrowd' is 2.5", "odd crowd flag"),
    (at("annotations", 1, "keypoints", value=[1, 2, 2]), "annotation 20: .*has 3 numbers; expected 12.*CVAT", "count"),
    (at("annotations", 1, "keypoints", value="none"), "annotation 20: 'keypoints' is text", "keypoints are text"),
    (keypoint(3, float("nan")), r"annotation 20: 'keypoints'\[3\] is NaN", "NaN"),
    (keypoint(4, float("inf")), r"annotation 20: 'keypoints'\[4\] is Infinity", "infinite"),
    (keypoint(4, 10**400), r"annotation 20: 'keypoints'\[4\] is 10+", "a number beyond floats"),
    (keypoint(4, "7"), r"annotation 20: 'keypoints'\[4\] is \"7\"", "number as text"),
    (keypoint(4, None), r"annotation 20: 'keypoints'\[4\] is null", "null"),
    (keypoint(0, [1, 2]), r"annotation 20: 'keypoints'\[0\] is \[1, 2\]", "nested list"),
    (keypoint(0, [1]), r"annotation 20: 'keypoints'\[0\] is \[1\]", "nested list of one"),
    (keypoint(2, 3), r"annotation 20: 'keypoints'\[2\] is 3; a visibility", "visibility 3"),
    (keypoint(2, -1), r"annotation 20: 'keypoints'\[2\] is -1; a visibility", "visibility -1"),
    (keypoint(2, 0.5), r"annotation 20: 'keypoints'\[2\] is 0.5; a visibility", "visibility as a probability"),
    (at("annotations", 1, "bbox", value=[1, 1, 0, 5]), "annotation 20: .*has no area", "zero width"),
    (at("annotations", 1, "bbox", value=[9, 9, -5, 5]), "annotation 20: .*has no area", "negative width"),
    (at("annotations", 1, "bbox", value=[1, 1, 5]), "annotation 20: 'bbox' is", "three numbers"),
    (at("annotations", 1, "bbox", value={"x": 1}), "annotation 20: 'bbox' is", "box is an object"),
    (at("annotations", 1, "area", value=-3), "annotation 20: 'area' is -3", "negative area"),
    (at("annotations", 1, "area", value="big"), "annotation 20: 'area' is", "area is text"),
    (at("categories", value=[]), "no category has 'keypoints'", "no category"),
    (at("categories", 0, "keypoints", value=[]), "no category has 'keypoints'", "no names"),
    (at("categories", 0, "keypoints", value=["a", "a", "b", "c"]), "a more than once", "a name twice"),
    (at("categories", 0, "keypoints", value=4), "category 1: 'keypoints' is a number", "names are a number"),
    (at("categories", 0, "keypoints", value=[1, 2, 3, 4]), "expected a list of names", "names are numbers"),
    (at("annotations", 1, "category_id", value=[1]), "annotation 20: category_id", "category id is a list"),
    (at("annotations", 1, "image_id", value={}), "annotation 20: image_id", "image id is an object"),
    (at("categories", 0, "id", value="1"), "category number 0: 'id' is text", "category id is text"),
    (
        second_category,
        "several categories have keypoints.*'mouse' .2 annot.*'cat' .1 annot.*category: NAME",
        "two kinds",
    ),
    (
        lambda d: [one.update(keypoints=[0] * 12) for one in d["annotations"]],
        "none of the 3 annotations has a labeled keypoint.*CVAT",
        "empty targets",
    ),
    (at("annotations", value=[]), "none of the 0 annotations", "no annotations at all"),
]


@pytest.mark.parametrize(("change", "said", "remark"), FAULTS, ids=[fault[2] for fault in FAULTS])
def test_every_fault_is_named_by_entry(tmp_path: Path, change: Change, said: str, remark: str) -> None:
    path, images = project(tmp_path, change)
    with pytest.raises(DataError, match=said) as caught:
        load_labels(path, images)
    assert str(path) in str(caught.value)


def test_all_faults_are_listed_at_once_up_to_a_number(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        for one in document["annotations"]:
            one["keypoints"][2] = 9

    path, images = project(tmp_path, change, images=30)
    with pytest.raises(DataError) as caught:
        load_labels(path, images)
    text = str(caught.value)
    assert "30 faults" in text
    assert text.count("a visibility is") == label_format.MAX_FAULTS_SHOWN
    assert "and 10 more" in text


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'{"images": [}', b"[" * 100_000])
def test_what_is_no_coco_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path, images = project(tmp_path)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.json"):
        load_labels(path, images)


def test_missing_places_are_named(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        load_labels(tmp_path / "gone.json", images)
    with pytest.raises(DataError, match="found nothing"):
        load_labels(path, tmp_path / "gone")
    with pytest.raises(UsageError, match="expected auto"):
        load_labels(path, images, boxes="hull")  # type: ignore[arg-type]


def test_links_are_followed_only_inside_the_folder(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    outside = picture(tmp_path / "secret.png")
    (images / "1.png").unlink()
    (images / "1.png").symlink_to(images / "2.png")
    assert len(load_labels(path, images)) == 3
    (images / "1.png").unlink()
    (images / "1.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"image 1: file 1\.png is a link that leads out"):
        load_labels(path, images)


def test_a_folder_that_is_a_link_may_not_lead_out_either(tmp_path: Path) -> None:
    path, images = project(tmp_path, at("images", 0, "file_name", value="sub/1.png"))
    picture(tmp_path / "elsewhere" / "1.png")
    (images / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"image 1: .*a link leads out"):
        load_labels(path, images)
    (images / "sub").unlink()
    picture(images / "sub" / "1.png")
    assert len(load_labels(path, images)) == 3


def test_the_images_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    (tmp_path / "link").symlink_to(images)
    assert len(load_labels(path, tmp_path / "link")) == 3


def test_labels_arrive_as_written(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["images"][0] |= {"coco_image_id": 77, "license": 3}
        document["annotations"][0]["keypoints"][9:] = [99, 99, 0]

    people = load_labels(*project(tmp_path, change))
    assert people.poses.keypoints[0].tolist() == [[20, 10], [15, 12], [25, 12], [0, 0]]
    assert people.poses.visible[0].tolist() == [2, 2, 1, 0]
    assert people.poses.scores[0].tolist() == [1, 1, 1, 0]
    assert people.poses.boxes[0].tolist() == [10, 5, 20, 30]
    assert people.poses.areas.tolist() == [300] * 3
    assert people.poses.ids.tolist() == [10, 20, 30]
    assert people.images.sizes.tolist() == [[48, 64]] * 3
    assert people.images.extra[0] == {"coco_image_id": 77}
    assert people.images.extra[1] == {}
    assert people.box_source == "given"
    assert people.skeleton is not None
    assert people.skeleton.flip == (0, 2, 1, 3)


def test_odd_but_sound_files_are_read(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        first, second, third = document["annotations"]
        first |= {"iscrowd": False, "scores": [], "segmentation": {"counts": "abc", "size": [1, 2]}}
        second["keypoints"] = [float(value) for value in second["keypoints"]]
        del third["iscrowd"], third["area"]
        document["images"][0] |= {"width": None, "height": None}
        document["categories"].append({"id": 5, "name": "box only"})
        document["annotations"].append({"id": 99, "image_id": 1, "category_id": 5, "bbox": [0, 0, 0, 0]})

    people = load_labels(*project(tmp_path, change))
    assert len(people) == 3
    assert people.poses.areas[2] == pytest.approx(0.53 * 20 * 30)
    assert any("without an area: 1" in note for note in people.notes)


def test_crowds_and_people_without_keypoints_are_skipped_unless_included(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["annotations"] += [
            annotation(96, 1, iscrowd=1, bbox=[0, 0, 0, 0]),
            annotation(97, 1, keypoints=[0] * 12, iscrowd=1, bbox=[0, 0, 60, 40]),
            annotation(98, 1, keypoints=[0] * 12, bbox=[0, 0, 0, 0]),
            {"id": 99, "image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5]},
        ]

    path, images = project(tmp_path, change)
    people = load_labels(path, images)
    assert people.poses.ids.tolist() == [10, 20, 30]
    assert people.notes == ("crowd regions skipped: 2", "mice without a labeled keypoint skipped: 2")


def test_ignored_people_and_outlines_can_be_included(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["annotations"] += [
            annotation(97, 1, keypoints=[0] * 12, iscrowd=1, bbox=[0, 0, 60, 40]),
            annotation(98, 1, keypoints=[0] * 12),
        ]

    people = load_labels(*project(tmp_path, change), include_ignored=True)
    assert people.poses.ids.tolist() == [10, 20, 30, 97, 98]
    assert people.poses.crowd.tolist() == [False] * 3 + [True, False]
    assert people.poses.boxes[3].tolist() == [0, 0, 60, 40]


def boxless(document: dict) -> None:
    del document["annotations"][0]["bbox"]
    document["annotations"][1] |= {"bbox": None, "keypoints": [20, 10, 2] + [0] * 9}


@pytest.mark.parametrize(
    ("rule", "change", "source", "boxes"),
    [
        ("auto", None, "given", {0: [10, 5, 20, 30]}),
        # Keypoints span 10 x 20; the longer side's 12 % goes on every side. One point alone tells no size.
        ("auto", boxless, "given,keypoints,image", {0: [12.6, 7.6, 14.8, 24.8], 1: [0, 0, 64, 48], 2: [10, 5, 20, 30]}),
        ("keypoints", None, "keypoints", {0: [12.6, 7.6, 14.8, 24.8]}),
        ("keypoints", at("annotations", 0, "bbox", value=[1, 1, 0, 0]), "keypoints", {0: [12.6, 7.6, 14.8, 24.8]}),
        ("image", None, "image", {0: [0, 0, 64, 48], 2: [0, 0, 64, 48]}),
    ],
)
def test_boxes_follow_the_rule_and_say_so(
    tmp_path: Path, rule: Any, change: Change | None, source: str, boxes: dict[int, list[float]]
) -> None:
    people = load_labels(*project(tmp_path, change), boxes=rule)
    assert sorted(people.box_source.split(",")) == sorted(source.split(","))
    for row, box in boxes.items():
        assert people.poses.boxes[row].tolist() == pytest.approx(box)


def test_the_rule_given_needs_a_box_for_each_person(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotation 10: there is no 'bbox'"):
        load_labels(*project(tmp_path, boxless), boxes="given")


def test_detections_replace_the_boxes_they_overlap(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    found = tmp_path / "found.json"
    found.write_text(
        json.dumps(
            [
                {"image_id": 1, "bbox": [11, 6, 20, 30], "score": 0.9, "category_id": 1},
                {"image_id": 1, "bbox": [40, 30, 9, 9], "score": 0.99, "category_id": 1},
                {"image_id": 2, "bbox": [11, 6, 20, 30], "score": 0.9, "category_id": 44},
            ]
        )
    )
    people = load_labels(path, images, detections=found)
    assert people.poses.boxes[:, 0].tolist() == [11, 10, 10]
    assert people.poses.box_scores.tolist() == pytest.approx([0.9, 1, 1])
    assert people.box_source == "given,detections"


def test_a_skeleton_file_chooses_the_category_and_its_partners(tmp_path: Path) -> None:
    path, images = project(tmp_path, second_category)
    file = tmp_path / "cat.yaml"
    file.write_text("category: cat\nflip_pairs: [[nose, tail]]\nsigmas: {nose: 0.1, tail: 0.2}\n")
    people = load_labels(path, images, skeleton_file=file)
    assert people.skeleton is not None
    assert (people.skeleton.name, people.skeleton.flip) == ("cat", (1, 0))
    assert people.skeleton.sigmas_source == f"file {file}"
    assert people.poses.ids.tolist() == [10]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("category: dog", "no category is called 'dog'"),
        ("flip_pair: []", "unknown key 'flip_pair'"),
        ("- a", "found list"),
        ("a: [", "cannot be read as yaml"),
        ("flip_pairs: !!python/object:os.system [x]", "cannot be read as yaml"),
    ],
)
def test_a_wrong_skeleton_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "skeleton.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        load_labels(*project(tmp_path), skeleton_file=file)


def test_kinds_with_the_same_keypoints_are_learned_together(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["categories"].append(document["categories"][0] | {"id": 2, "name": "rat"})
        document["annotations"][0]["category_id"] = 2

    assert len(load_labels(*project(tmp_path, change))) == 3


CORRUPTIONS = [
    (lambda one: one.update(keypoints=[7, 7, 2] * 4), "other numbers"),
    (lambda one: one.update(keypoints=[0] * 12, num_keypoints=0), "nothing labeled"),
    (lambda one: one.update(keypoints=[5]), "a wrong count"),
    (lambda one: one.update(keypoints="secret", area="secret"), "text"),
    (lambda one: one.update(keypoints=[float("nan")] * 12, area=float("inf")), "NaN"),
    (lambda one: (one.pop("keypoints"), one.pop("area")), "none at all"),
]


@pytest.mark.parametrize(("corrupt", "remark"), CORRUPTIONS, ids=[one[1] for one in CORRUPTIONS])
def test_labels_of_the_unlabeled_part_are_never_read(tmp_path: Path, corrupt: Any, remark: str) -> None:
    def change(document: dict) -> None:
        for one in document["annotations"][2:]:
            corrupt(one)

    path, images = project(tmp_path, images=6)
    sound = load_split_labels(path, images, [1, 2], [3, 4, 5])
    path, images = project(tmp_path, change, images=6)
    for before, after in zip(sound, load_split_labels(path, images, [1, 2], [3, 4, 5]), strict=True):
        assert before.images.files == after.images.files
        assert before.image_index.tolist() == after.image_index.tolist()
        assert (before.box_source, before.notes) == (after.box_source, after.notes)
        for name in vars(before.poses):
            assert np.array_equal(getattr(before.poses, name), getattr(after.poses, name)), name


def test_the_unlabeled_part_has_boxes_but_no_poses(tmp_path: Path) -> None:
    labeled, unlabeled = load_split_labels(*project(tmp_path, images=4), [1, 2], [3])
    assert labeled.poses.image_ids.tolist() == [1, 2]
    assert unlabeled.poses.image_ids.tolist() == [3]
    assert unlabeled.poses.boxes.tolist() == [[10, 5, 20, 30]]
    assert not unlabeled.poses.visible.any()
    assert not unlabeled.poses.keypoints.any()
    assert unlabeled.skeleton == labeled.skeleton


def test_a_fault_in_the_labeled_part_is_still_named_beside_corrupt_unlabeled_labels(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["annotations"][0]["keypoints"][2] = 7
        document["annotations"][2]["keypoints"] = "secret"

    with pytest.raises(DataError, match=r"1 fault\n  annotation 10"):
        load_split_labels(*project(tmp_path, change), [1, 2], [3])


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "said"),
    [
        ([1, 99], [2], "1 labeled images that are not in"),
        ([1], [50, 51], "2 unlabeled images"),
        ([1, 2], [2], "labeled and unlabeled"),
    ],
)
def test_a_split_of_another_json_is_refused(tmp_path: Path, labeled: list, unlabeled: list, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_split_labels(*project(tmp_path), labeled, unlabeled)

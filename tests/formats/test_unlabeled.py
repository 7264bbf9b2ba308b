import json
from pathlib import Path
from typing import Any

import pytest

from semipose.errors import DataError, UsageError
from semipose.formats.unlabeled import load_unlabeled
from semipose.formats.video import Sampling
from semipose.pose.skeleton import PRESETS, Skeleton
from tests.tiny import NAMES, film, picture, project

SKELETON = Skeleton.from_category({"name": "mouse", "keypoints": NAMES})


def frames(folder: Path, *names: str) -> Path:
    for name in names:
        picture(folder / name)
    return folder


def names_of(people: Any) -> list[str]:
    return [Path(file).name for file in people.images.files]


def load(*sources: Any, **options: Any) -> Any:
    return load_unlabeled(sources, skeleton=SKELETON, **options)


def test_a_folder_is_searched_with_its_subfolders_in_sorted_order(tmp_path: Path) -> None:
    frames(tmp_path, "b.jpg", "a.PNG", "sub/deep/c.webp", ".hidden.jpg")
    (tmp_path / "notes.txt").write_text("x")
    people = load(tmp_path)
    assert names_of(people) == ["a.PNG", "b.jpg", "c.webp"]
    assert people.poses.boxes.tolist() == [[0, 0, 64, 48]] * 3
    assert people.images.sizes.tolist() == [[48, 64]] * 3
    assert people.box_source == "image"
    assert people.poses.keypoints.shape == (3, 4, 2)
    assert not people.poses.visible.any()
    assert people.images.ids.tolist() == people.poses.image_ids.tolist() == [1, 2, 3]
    assert people.skeleton is SKELETON


def test_globs_lists_images_and_folders_can_be_mixed_and_each_file_is_used_once(tmp_path: Path) -> None:
    frames(tmp_path, "a.png", "b.png", "c.png", "sub/d.png")
    (tmp_path / "list.txt").write_text("# frames\n\nc.png\nsub/d.png\n", encoding="utf-8")
    people = load(str(tmp_path / "[ab].png"), tmp_path / "list.txt", tmp_path / "sub", tmp_path / "a.png")
    assert names_of(people) == ["a.png", "b.png", "c.png", "d.png"]
    assert people.images.ids.tolist() == people.poses.image_ids.tolist() == [1, 2, 3, 4]
    assert people.notes == ("unlabeled files given more than once, used once: 2",)


@pytest.mark.parametrize("line", ["../secret.png", "/etc/hosts", "gone.png"])
def test_a_list_never_leads_out_of_its_folder(tmp_path: Path, line: str) -> None:
    picture(tmp_path / "secret.png")
    frames(tmp_path / "in", "a.png")
    (tmp_path / "in" / "list.txt").write_text(f"a.png\n{line}\n")
    with pytest.raises(DataError, match="1 of 2 lines"):
        load(tmp_path / "in" / "list.txt")


def test_a_list_may_name_files_of_the_images_folder(tmp_path: Path) -> None:
    frames(tmp_path / "img", "a.png", "b.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    assert len(load(tmp_path / "list.txt", images_dir=tmp_path / "img")) == 2


def test_links_that_lead_out_of_a_folder_are_skipped_and_counted(tmp_path: Path) -> None:
    outside = picture(tmp_path / "secret.png")
    folder = frames(tmp_path / "in", "a.png")
    (folder / "b.png").symlink_to(outside)
    (folder / "c.png").symlink_to(folder / "a.png")
    people = load(folder)
    assert names_of(people) == ["a.png", "c.png"]
    assert "skipped: 1" in people.notes[0]


def test_an_unreadable_image_is_skipped_and_counted(tmp_path: Path) -> None:
    frames(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    people = load(tmp_path)
    assert names_of(people) == ["a.png", "b.png"]
    assert people.notes[0].startswith("unreadable unlabeled images skipped: 1 (")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gone", "found nothing; expected a folder"),
        ("empty", "found no image and no video"),
        ("*.png", "found no image and no video"),
        ("film.mp4", "no frame could be decoded.*ffmpeg"),
        ("file.xyz", "a file of an unknown kind"),
        ("broken", "found no unlabeled mouse .unreadable"),
    ],
)
def test_what_gives_no_image_is_refused(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for name in ("film.mp4", "file.xyz", "broken/a.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=said):
        load(str(tmp_path / source))
    with pytest.raises(DataError, match="no unlabeled images are given"):
        load()


def test_of_a_json_only_the_boxes_are_used(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    people = load(path, images_dir=images)
    assert people.box_source == "given"
    assert people.poses.boxes.tolist() == [[10, 5, 20, 30]] * 3
    assert not people.poses.keypoints.any()
    assert people.poses.areas.tolist() == pytest.approx([0.53 * 600] * 3)


def test_keypoints_of_an_unlabeled_json_make_no_box(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        for one in document["annotations"]:
            del one["bbox"]

    path, images = project(tmp_path, change)
    people = load(path, images_dir=images)
    assert people.box_source == "image"
    assert people.poses.boxes.tolist() == [[0, 0, 64, 48]] * 3


@pytest.mark.parametrize(
    ("change", "count", "source", "remark"),
    [
        (lambda d: d.pop("annotations"), 3, "image", "no annotations at all"),
        (lambda d: d.update(annotations=[], categories=[]), 3, "image", "empty lists"),
        (lambda d: d["annotations"].pop(), 2, "given", "an image without a person is skipped"),
        (lambda d: d["annotations"][0].pop("bbox"), 3, "given,image", "a person without a box"),
        (lambda d: d["annotations"][0].update(iscrowd=1), 2, "given", "a crowd is nobody"),
        (lambda d: [one.update(keypoints="x", area="y") for one in d["annotations"]], 3, "given", "labels unread"),
        (lambda d: d["categories"][0].pop("keypoints"), 3, "given", "a detector's json: category by name"),
        (lambda d: d.update(categories=[{"id": 1, "name": "thing"}]), 3, "given", "no category fits: all boxes"),
    ],
)
def test_a_json_may_lack_what_is_not_needed(tmp_path: Path, change: Any, count: int, source: str, remark: str) -> None:
    path, images = project(tmp_path, change)
    people = load(path, images_dir=images)
    assert (len(people), people.box_source) == (count, source), remark


def test_boxes_of_other_categories_are_ignored(tmp_path: Path) -> None:
    def change(document: dict) -> None:
        document["categories"] = [{"id": 1, "name": "mouse"}, {"id": 2, "name": "car"}]
        document["annotations"][0]["category_id"] = 2

    path, images = project(tmp_path, change)
    assert load(path, images_dir=images).poses.image_ids.tolist() == [2, 3]


def test_a_box_without_area_is_a_fault_in_an_unlabeled_json_too(tmp_path: Path) -> None:
    path, images = project(tmp_path, lambda d: d["annotations"][0].update(bbox=[1, 1, 0, 4]))
    with pytest.raises(DataError, match=r"annotation 10: 'bbox'.*no area"):
        load(path, images_dir=images)


def test_the_pictures_of_a_json_are_found_beside_it(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    moved = path.rename(images / "labels.json")
    other = frames(tmp_path / "other", "z.png")
    assert len(load(moved, images_dir=other)) == 3
    assert len(load(moved)) == 3


def test_detections_give_the_boxes(tmp_path: Path) -> None:
    path, images = project(tmp_path)
    found = tmp_path / "found.json"
    rows = [
        {"image_id": 1, "bbox": [1, 2, 10, 12], "score": 0.7},
        {"image_id": 1, "bbox": [3, 4, 10, 12], "score": 0.9},
        {"image_id": 2, "bbox": [1, 2, 10, 12], "score": 0.3},
    ]
    found.write_text(json.dumps(rows))
    people = load(path, images_dir=images, detections=found)
    assert people.poses.boxes[:, 0].tolist() == [3, 1]
    assert people.poses.box_scores.tolist() == pytest.approx([0.9, 0.7])
    assert people.box_source == "detections"
    assert people.notes == ("unlabeled images without a detection scored 0.5 or more, skipped: 2",)


@pytest.mark.parametrize("key", ["7.png", "7", 7])
def test_detections_of_a_folder_name_the_file(tmp_path: Path, key: Any) -> None:
    folder = frames(tmp_path / "in", "5.png", "7.png")
    found = tmp_path / "found.json"
    field = "file_name" if key == "7.png" else "image_id"
    found.write_text(json.dumps([{field: key, "bbox": [1, 2, 10, 12]}]))
    people = load(folder, detections=found)
    assert names_of(people) == ["7.png"]


@pytest.mark.parametrize("key", ["b/7.png", "b/7"])
def test_detections_tell_images_of_one_name_apart_by_their_folder(tmp_path: Path, key: str) -> None:
    folder = frames(tmp_path / "in", "a/7.png", "b/7.png")
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"file_name": key, "bbox": [1, 2, 10, 12]}]))
    people = load(folder, detections=found)
    assert [Path(file).parent.name for file in people.images.files] == ["b"]
    found.write_text(json.dumps([{"file_name": "7.png", "bbox": [1, 2, 10, 12]}]))
    with pytest.raises(DataError, match=r"'7\.png' fits 2 unlabeled images.*a/7\.png and .*b/7\.png.*their folder"):
        load(folder, detections=found)
    with pytest.raises(DataError, match="fits 2"):
        load(folder / "a", folder / "b", detections=found)


@pytest.mark.parametrize("way", ["file", "folder", "glob", "list"])
def test_a_video_stands_for_its_frames_wherever_it_is_named(tmp_path: Path, way: str) -> None:
    folder = frames(tmp_path / "in", "a.png", "z.png")
    clip = film(folder / "clip.avi", 12)
    (folder / "list.txt").write_text("a.png\nclip.avi\nz.png\n")
    source = {"file": clip, "folder": folder, "glob": str(folder / "*.*"), "list": folder / "list.txt"}[way]
    people = load(source)
    taken = ["000000.jpg", "000005.jpg", "000010.jpg"]
    assert names_of(people) == (taken if way == "file" else ["a.png", *taken, "z.png"])
    assert people.box_source == "image"
    assert people.poses.boxes.tolist() == [[0, 0, 64, 48]] * len(people)
    assert f"{clip}: 12 frames, 3 compared (stride 5), 3 kept, 0 near-duplicates dropped" in people.notes[0]
    assert load(source, sampling=Sampling(stride=3)).images.files != people.images.files
    again = load(source, clip)
    assert again.images.files == people.images.files
    assert "given more than once, used once: 1" in again.notes[0]


@pytest.mark.parametrize("key", ["clip.avi/000005.jpg", "clip.avi/000005", "000005", 5])
def test_detections_name_frames_by_video_and_number(tmp_path: Path, key: Any) -> None:
    clip, other = film(tmp_path / "clip.avi", 12), film(tmp_path / "other.avi", 12)
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": key, "bbox": [1, 2, 10, 12]}]))
    people = load(clip, detections=found)
    assert names_of(people) == ["000005.jpg"]
    assert people.poses.boxes.tolist() == [[1, 2, 10, 12]]
    if str(key).startswith("clip"):
        assert load(clip, other, detections=found).images.files == people.images.files
    else:
        with pytest.raises(DataError, match="fits 2 unlabeled images"):
            load(clip, other, detections=found)


def test_a_choice_of_frames_without_a_video_is_refused(tmp_path: Path) -> None:
    folder = frames(tmp_path / "in", "a.png")
    with pytest.raises(UsageError, match="--video-stride and --video-change are for videos"):
        load(folder, sampling=Sampling(stride=2))
    film(folder / "clip.avi", 3)
    assert len(load(folder, sampling=Sampling(stride=2))) == 3
    with pytest.raises(UsageError, match="a video among images"):
        load(folder, sampling=None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": 1}, "not a file of COCO detections"),
        ([{"bbox": [1, 2, 3, 4]}], "neither image_id nor file_name"),
        ([{"image_id": 1, "bbox": [1, 2, 3]}], "not a file of COCO detections"),
        ([{"image_id": 1, "bbox": [1, 2, 0, 4]}], "none of its 1 detections is usable"),
        ([], "none of its 0 detections"),
    ],
)
def test_wrong_detections_are_refused(tmp_path: Path, rows: Any, said: str) -> None:
    path, images = project(tmp_path)
    found = tmp_path / "found.json"
    found.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=said):
        load(path, images_dir=images, detections=found)


def test_real_frames_are_read(data_root: Path) -> None:
    folder = data_root / "coco_mini" / "unlabelled"
    people = load_unlabeled([folder], skeleton=PRESETS["coco_17"])
    assert len(people) == 100
    assert people.images.sizes.max() <= 512
    again = load_unlabeled([str(folder / "*.jpg")], skeleton=PRESETS["coco_17"])
    assert again.images.files == people.images.files

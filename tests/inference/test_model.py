"""A checkpoint is all that is needed to predict, and a bad one says what is wrong."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from semipose.errors import DataError, UsageError
from semipose.inference.model import FRAMES_PER_CHUNK, Model
from tests.finished_run import SIZE, SKELETON, header_only, make_network, save_network


@pytest.fixture(scope="module")
def model(finished: Path) -> Model:
    return Model.load(finished / "checkpoints" / "best-teacher.safetensors")


def test_a_checkpoint_brings_its_skeleton_size_and_weights(model: Model) -> None:
    assert (model.skeleton, model.input_size, model.name, model.update) == (SKELETON, SIZE, "teacher", 100)
    expected = make_network(1).state_dict()
    assert all((value == expected[name]).all() for name, value in model.network.state_dict().items())


def test_folder_list_glob_and_array_give_the_same_poses(model: Model, pictures: SimpleNamespace) -> None:
    files = sorted(pictures.unlabeled.glob("*.jpg"))
    folder = model.predict(pictures.unlabeled)
    assert np.array_equal(model.predict(files).keypoints, folder.keypoints)
    assert np.array_equal(model.predict(f"{pictures.unlabeled}/*.jpg").keypoints, folder.keypoints)
    array = cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2RGB)
    assert np.allclose(model.predict(array).keypoints[0], folder.keypoints[0], atol=1e-3)
    assert not np.allclose(model.predict(array[..., ::-1]).scores[0], folder.scores[0], atol=1e-3)


def test_boxes_say_where_people_are(model: Model, pictures: SimpleNamespace) -> None:
    file = sorted(pictures.unlabeled.glob("*.jpg"))[0]
    boxes = np.array([[0, 0, 40, 50], [20, 30, 40, 60.5]])
    poses = model.predict(file, boxes=boxes)
    assert np.allclose(poses.boxes, boxes)
    assert poses.image_ids.tolist() == [1, 1]
    with pytest.raises(UsageError, match=r"expected \(N, 4\)"):
        model.predict(file, boxes=boxes[:, :3])
    with pytest.raises(UsageError, match="expected one"):
        model.predict(pictures.unlabeled, boxes=boxes)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_an_array_that_is_no_rgb_image_is_refused(model: Model, image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint8 in RGB"):
        model.predict(image)


def test_every_frame_of_a_video_gets_its_number(model: Model, tmp_path: Path) -> None:
    count = FRAMES_PER_CHUNK + 3
    film = write_video(tmp_path / "film.avi", count)
    poses = model.predict(film)
    assert poses.image_ids.tolist() == list(range(count))
    assert model.predict(str(film)).keypoints.shape == (count, 14, 2)


def test_a_broken_video_and_boxes_for_a_video_are_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no frame could be decoded"):
        model.predict(tmp_path / "no.mp4")
    with pytest.raises(UsageError, match="cut the video"):
        model.predict(tmp_path / "no.mp4", boxes=np.ones((1, 4)))


def test_an_unreadable_picture_is_left_out_with_a_warning(
    model: Model, tmp_path: Path, pictures: SimpleNamespace
) -> None:
    good = sorted(pictures.unlabeled.glob("*.jpg"))[0].read_bytes()
    (tmp_path / "a.jpg").write_bytes(good)
    header_only(tmp_path / "b.png")
    with pytest.warns(UserWarning, match=r"b\.png"):
        poses = model.predict(tmp_path)
    assert len(poses) == 1


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"network": {"name": "no_such", "width": 1, "head_channels": 16}}, "no_such"),
        ({"network": {"name": "mobilenet_v1", "width": 0.5, "head_channels": 16}}, "do not fit"),
        ({"network": {"name": "mobilenet_v1", "width": 1e9, "head_channels": 16}}, "width"),
        ({"network": {"name": "mobilenet_v1", "width": 0.25, "head_channels": 10**9}}, "channels"),
        ({"network": {"name": "mobilenet_v1", "width": 0.25, "head_channels": 16, "head": "none"}}, "no head 'none'"),
        ({"network": {"name": "mobilenet_v1", "width": 0.25, "head_channels": 16, "head": 7}}, "names of a head"),
        ({"network": {"name": "cid", "width": 0.25, "head_channels": 16, "head": "multi_scale"}}, "head of its own"),
        ({"network": None}, "cannot be used"),
        ({"skeleton": {"name": "x"}}, "skeleton"),
        ({"input_size": [64]}, "cannot be used"),
        ({"input_size": [10**9, 64]}, "input size"),
        ({"update": "many"}, "cannot be used"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(tmp_path: Path, changes: dict, found: str) -> None:
    file = save_network(tmp_path / "best-x.safetensors", make_network(0), "x", **changes)
    with pytest.raises(DataError, match=found):
        Model.load(file)


def test_files_that_are_no_checkpoint_are_named(tmp_path: Path) -> None:
    pickled = tmp_path / "x.safetensors"
    pickled.write_bytes(b"\x80\x04cposix\nsystem\n")
    for file in (pickled, tmp_path / "absent.safetensors"):
        with pytest.raises(DataError, match=file.name):
            Model.load(file)
    listed = json.dumps([1, 2])
    from safetensors.torch import save_file

    save_file(make_network(0).state_dict(), pickled, metadata={"semipose": listed})
    with pytest.raises(DataError, match="list"):
        Model.load(pickled)


def write_video(file: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    return file

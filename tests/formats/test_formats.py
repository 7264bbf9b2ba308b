"""A label format is one file: a toy format, added as one, works wherever labels are read."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from semipose import formats
from semipose.cli.main import main
from semipose.errors import DataError, SemiposeError
from semipose.formats.labels import load_labels, load_split_labels
from semipose.formats.load import load
from semipose.formats.unlabeled import load_unlabeled
from semipose.pose.skeleton import Skeleton
from semipose.runs.run import Run
from semipose.tasks.predict import predict
from tests.tiny import NAMES, POINTS, picture

TOY = '''
"""Read a csv of keypoints, as a toy: image, then x, y and visibility of each keypoint that the header names."""

from pathlib import Path

import numpy as np

from semipose.data.people import ListedImage
from semipose.formats.label_format import LabelFormat, LabelTable, ReadOptions, find_images


class ToyCsv(LabelFormat):
    expected = "a toy csv"

    def recognizes(self, path: Path) -> bool:
        return path.suffix == ".csv" or path.read_text().startswith("image,")

    def list_images(self, path: Path) -> list[ListedImage]:
        names = dict.fromkeys(line.split(",")[0] for line in path.read_text().splitlines()[1:])
        return [ListedImage(number, name, {"cage": name[0]}) for number, name in enumerate(names, 1)]

    def read(self, options: ReadOptions) -> LabelTable:
        header, *lines = (line.split(",") for line in options.path.read_text().splitlines())
        listed = self.list_images(options.path)
        number = {one.file_name: row for row, one in enumerate(listed)}
        index = np.array([number[line[0]] for line in lines], int)
        keypoints = np.array([line[1:] for line in lines], float).reshape(len(lines), len(header) // 3, 3)
        category = {"name": "mouse", "keypoints": header[1::3]}
        return LabelTable.build(options, find_images(listed, options), category, index, keypoints)
'''


@pytest.fixture(autouse=True)
def toy_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the toy format as the file toy_csv.py of semipose.formats."""
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "toy_csv.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "added")])
    _forget()
    yield
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    formats.available.cache_clear()
    formats.load_format.cache_clear()
    sys.modules.pop("semipose.formats.toy_csv", None)


def toy(folder: Path, count: int = 3, pictures: str = "img") -> tuple[Path, Path]:
    """Write a csv with one mouse in each of `count` pictures; returns (csv, pictures' folder)."""
    header = ",".join(["image", *(part for name in NAMES for part in (name, "y", "v"))])
    lines = [",".join(map(str, [f"{row % 3}_{row}.png", *POINTS])) for row in range(count)]
    for row in range(count):
        picture(folder / pictures / f"{row % 3}_{row}.png")
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path, folder / pictures


def test_formats_are_found_by_their_files() -> None:
    assert formats.available() == ("coco", "toy_csv")
    assert type(formats.find_format("labels.json")).__name__ == "Coco"
    assert type(formats.find_format("labels.csv")).__name__ == "ToyCsv"


def test_formats_may_look_into_files(tmp_path: Path) -> None:
    path, images = toy(tmp_path)
    assert len(load_labels(path.rename(tmp_path / "labels.txt"), images)) == 3
    (tmp_path / "clip.mp4").write_bytes(b"\xff\xfe")
    for other in ("clip.mp4", "missing.mp4", "img"):
        assert formats.find_format(tmp_path / other) is None


def test_labels_are_read(tmp_path: Path) -> None:
    people = load_labels(*toy(tmp_path))
    assert people.skeleton is not None
    assert people.skeleton.name == "mouse"
    assert people.skeleton.keypoints == tuple(NAMES)
    assert people.box_source == "keypoints"
    assert people.poses.keypoints[2, 0].tolist() == POINTS[:2]
    assert people.poses.ids.tolist() == people.images.ids.tolist() == [1, 2, 3]


def test_validation_is_held_out(tmp_path: Path) -> None:
    data = load(*toy(tmp_path, 50))
    assert data.val is not None
    assert (len(data.labeled), len(data.val)) == (30, 20)


def test_hidden_labels_have_no_influence(tmp_path: Path) -> None:
    path, images = toy(tmp_path, 4)
    before = load_split_labels(path, images, [1, 2], [3, 4])
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("20,10,2", "nan,7,9")
    path.write_text("\n".join(lines))
    after = load_split_labels(path, images, [1, 2], [3, 4])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_equal(vars(one.poses), vars(other.poses))
    assert after[1].box_source == "image"


def test_labels_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, images = toy(tmp_path)
    assert main(["check", str(path), "--images", str(images), "--quick"]) == 0
    assert "3 mice" in capsys.readouterr().out


def test_labels_are_split_by_group(tmp_path: Path) -> None:
    path, images = toy(tmp_path, 9)
    for group in ("cage", r"(\d)_"):
        out = tmp_path / "split.json"
        command = ["split", str(path), "--images", str(images), "--labeled", "3", "--by", "group", "--group", group]
        assert main([*command, "--out", str(out)]) == 0
        data = load(path, images, split=out)
        assert data.unlabeled is not None
        assert (len(data.labeled), len(data.unlabeled)) == (3, 6)
        assert len({Path(file).name[0] for file in data.labeled.images.files}) == 1


def test_labels_are_converted_to_coco(tmp_path: Path) -> None:
    path, images = toy(tmp_path)
    converted = tmp_path / "labels.json"
    converted.write_text(json.dumps(formats.read_as_coco(path, images)))
    before, after = load_labels(path, images), load_labels(converted, images)
    np.testing.assert_equal(vars(after.poses), vars(before.poses))
    assert (after.images.files, after.skeleton) == (before.images.files, before.skeleton)
    assert formats.read_groups(converted, "cage") == formats.read_groups(path, "cage")


def test_labels_serve_as_unlabeled_input(tmp_path: Path) -> None:
    path, images = toy(tmp_path)
    more, beside = toy(tmp_path / "more", 5, pictures=".")
    (images / "0_0.png").rename(images / "first.png")
    path.write_text(path.read_text().replace("0_0.png", "first.png"))
    data = load(path, images, unlabeled=more)
    assert data.unlabeled is not None
    assert len(data.unlabeled) == 5
    assert {Path(file).parent for file in data.unlabeled.images.files} == {beside}
    assert not data.unlabeled.poses.visible.any()


def test_labels_serve_as_input_of_predict(tmp_path: Path, run: Run) -> None:
    path, _ = toy(tmp_path, pictures=".")
    predict(run, [path], tmp_path / "out", draw=False)
    written = json.loads((tmp_path / "out" / "poses.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["0_0.png", "1_1.png", "2_2.png"]
    assert len(written["annotations"]) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("20,10,2", "20,ten,2", 1), "cannot be read .*ten.*expected a toy csv"),
        (lambda text: text.replace(",2\n", "\n", 1), r"cannot be read \(ValueError"),
        (lambda text: text.replace("0_0.png", "gone.png"), r"image 1: file gone\.png is not in"),
        (lambda text: text.replace("0_0.png", "../x.png"), "image 1: .*leads out of the images folder"),
        (lambda text: text.replace("20,10,2", "nan,10,2", 1), r"person 1 in .*0_0\.png: a coordinate is no finite"),
        (lambda text: text.replace("20,10,2", "20,10,3", 1), "person 1 in .*: a visibility is not 0"),
        (lambda text: text.replace("left_ear", "nose"), "nose more than once"),
        (lambda text: "", r"cannot be read \(ValueError"),
        (lambda text: text.splitlines()[0], "none of the 0 annotations"),
    ],
)
def test_faults_are_data_errors(tmp_path: Path, change: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, images = toy(tmp_path)
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(DataError, match=said) as caught:
        load_labels(path, images)
    assert str(path) in str(caught.value)
    assert main(["check", str(path), "--images", str(images)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_missing_files_and_unreadable_groups_are_errors_too(tmp_path: Path) -> None:
    path, images = toy(tmp_path)
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read \(No such file"):
        load_labels(tmp_path / "gone.csv", images)
    with pytest.raises(SemiposeError, match="cage"):
        formats.read_groups(path, "color")
    skeleton = Skeleton.from_category({"name": "mouse", "keypoints": NAMES})
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="expected a toy csv"):
        load_unlabeled([path], skeleton=skeleton, images_dir=images)

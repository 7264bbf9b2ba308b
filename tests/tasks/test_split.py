"""`semipose split`: what it writes, says and refuses."""

import json
from pathlib import Path

import pytest

from semipose.errors import UsageError
from semipose.tasks.split import split
from tests.tiny import project


def test_a_split_is_written_and_described(tmp_path: Path) -> None:
    labels, images = project(tmp_path, images=5)
    out = tmp_path / "new" / "split.json"
    said = split(labels, images, out, labeled=2, by="person", seed=1)
    assert said == f"{out}: 2 images with 2 people labeled, 3 images unlabeled (of 5 images with 5 labeled people)"
    found = json.loads(out.read_text())
    assert (len(found["labeled"]), found["by"], found["seed"]) == (2, "person", 1)


def test_groups_are_named_by_a_pattern(tmp_path: Path) -> None:
    labels, images = project(tmp_path, lambda d: d["images"][0].update(file_name="2.png"), images=4)
    split(labels, images, tmp_path / "split.json", labeled=1, by="group", group=r"(\d)\.png")
    labeled = json.loads((tmp_path / "split.json").read_text())["labeled"]
    assert labeled in ([1, 2], [3], [4])


def test_the_labels_are_never_overwritten_and_no_flag_is_ignored(tmp_path: Path) -> None:
    labels, images = project(tmp_path)
    before = labels.read_bytes()
    with pytest.raises(UsageError, match="the label file"):
        split(labels, images, images / ".." / labels.name, labeled=1)
    with pytest.raises(UsageError, match="add --by group"):
        split(labels, images, tmp_path / "split.json", labeled=1, group="video_id")
    assert labels.read_bytes() == before

"""People of whom only a box is known: the unlabeled stream. Their poses are blank, `visible` 0."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.image_size import image_sizes
from semipose.data.people import Images, People
from semipose.errors import DataError
from semipose.pose.poses import Poses


@dataclass(frozen=True)
class BoxRows:
    """N boxes (N, 4) with the positions (N,) of their images, scores (N,) and source (N,) as in `boxes.SOURCES`."""

    image_index: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    sources: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, image_index: NDArray[np.int64], boxes: NDArray[np.float32], source: int) -> "BoxRows":
        """Rows of one source, scored 1."""
        count = len(image_index)
        return cls(image_index, boxes, np.ones(count, np.float32), np.full(count, source))

    def joined(self, other: "BoxRows") -> "BoxRows":
        """Both, in the order of the images."""
        index = np.concatenate([self.image_index, other.image_index])
        order = np.argsort(index, kind="stable")
        return BoxRows(
            index[order],
            np.concatenate([self.boxes, other.boxes])[order],
            np.concatenate([self.scores, other.scores])[order],
            np.concatenate([self.sources, other.sources])[order],
            self.notes + other.notes,
        )


def whole_image_rows(images: Images, at: NDArray[np.int64]) -> BoxRows:
    """One box around each of the images `at`; files that are no image are left out and counted in the notes.

    The size is the file's own: one written in a json may be that of another version of the picture.
    """
    sizes = image_sizes([images.files[i] for i in at])
    readable = sizes.min(1, initial=1) > 0
    rows = BoxRows.of(at[readable], box.whole_images(sizes[readable]), box.IMAGE)
    return BoxRows(rows.image_index, rows.boxes, rows.scores, rows.sources, _unreadable(images, at[~readable]))


def detected_rows(images: Images, at: NDArray[np.int64], detections: box.Detections, by_name: bool) -> BoxRows:
    """The boxes a detector found in the images `at`, scored at least `LEAST_SCORE`.

    Detections name their image by its id, or with `by_name` (files without a json) by its file name, with or without
    the folder it lies in, or by these without suffix, or by the name as a number, as COCO's names go. Raises DataError
    where a name fits several images.
    """
    sure = detections.only(detections.scores >= box.LEAST_SCORE)
    keys = [next((key for key in _keys(images, int(i), by_name) if key in sure.rows), None) for i in at]
    _refuse_shared(keys, images, at, detections.path)
    found = [np.zeros(0, np.int64) if key is None else sure.of(key) for key in keys]
    rows = np.concatenate([*found, np.zeros(0, np.int64)])
    index = np.repeat(at, [len(one) for one in found])
    missed = sum(len(one) == 0 for one in found)
    notes = (f"unlabeled images without a detection scored {box.LEAST_SCORE} or more left out: {missed}",)
    return BoxRows(
        index,
        detections.boxes[rows],
        detections.scores[rows],
        np.full(len(rows), box.DETECTIONS),
        notes if missed else (),
    )


def blank_people(images: Images, rows: BoxRows, keypoints: int, source: str, first_id: int = 1) -> People:
    """People with blank poses in the boxes of `rows`; annotation ids count from `first_id`."""
    count = len(rows.image_index)
    poses = Poses.blank(count, keypoints)
    poses.boxes, poses.box_scores = rows.boxes, rows.scores
    poses.areas = box.box_areas(rows.boxes)
    poses.image_ids = images.ids[rows.image_index]
    poses.ids = np.arange(first_id, first_id + count, dtype=np.int64)
    return People(images, rows.image_index, poses, None, box.describe(rows.sources), source, rows.notes)


def _unreadable(images: Images, at: NDArray[np.int64]) -> tuple[str, ...]:
    if len(at) == 0:
        return ()
    more = ", ..." if len(at) > 3 else ""
    names = ", ".join(images.files[i] for i in at[:3])
    return (f"unreadable unlabeled images left out: {len(at)} ({names}{more})",)


def _keys(images: Images, i: int, by_name: bool) -> list[int | str]:
    if not by_name:
        return [int(images.ids[i])]
    path = images.files[i].replace("\\", "/")
    folder, _, name = path.rpartition("/")
    long = f"{folder.rpartition('/')[2]}/{name}"
    stem = name.rpartition(".")[0]
    number = [int(stem)] if stem.isdecimal() else []
    return [images.files[i], long, long.rpartition(".")[0], name, stem, *number]


def _refuse_shared(keys: Sequence[int | str | None], images: Images, at: NDArray[np.int64], path: str) -> None:
    """Boxes of one image must not become those of another one with the same name."""
    for key, count in Counter(key for key in keys if key is not None).items():
        if count > 1:
            files = [images.files[i] for i, one in zip(at, keys, strict=True) if one == key]
            raise DataError(
                f"{path}: {key!r} fits {count} unlabeled images, such as {files[0]} and {files[1]}; name them with "
                "their folder, as in 'folder/name.jpg'. A video's frames lie in a folder of the video's name."
            )

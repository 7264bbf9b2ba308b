"""People of whom only a box is known: the unlabeled stream. Their poses are blank, `visible` 0."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.image_size import image_sizes
from semipose.data.people import Images, People
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

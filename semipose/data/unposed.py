"""People known only by a box, as the unlabeled stream holds them: their `visible` is 0 everywhere."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.image_size import image_sizes
from semipose.data.people import Images, People
from semipose.pose.poses import Poses


@dataclass(frozen=True)
class ImageBoxes:
    """N boxes (N, 4), the positions (N,) of their images, scores (N,), and sources (N,) as in `boxes.SOURCES`."""

    image_index: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    sources: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, image_index: NDArray[np.int64], boxes: NDArray[np.float32], source: int) -> "ImageBoxes":
        """Boxes from one source, scored 1."""
        count = len(image_index)
        return cls(image_index, boxes, np.ones(count, np.float32), np.full(count, source))

    def merge(self, other: "ImageBoxes") -> "ImageBoxes":
        """Both, sorted by image."""
        index = np.concatenate([self.image_index, other.image_index])
        order = np.argsort(index, kind="stable")
        return ImageBoxes(
            index[order],
            np.concatenate([self.boxes, other.boxes])[order],
            np.concatenate([self.scores, other.scores])[order],
            np.concatenate([self.sources, other.sources])[order],
            self.notes + other.notes,
        )


def whole_image_boxes(images: Images, rows: NDArray[np.int64]) -> ImageBoxes:
    """Return one box around each of the images at `rows`; unreadable files are skipped and counted in the notes.

    Sizes are read from the image files: the size in a label file may be that of another version of the picture.
    """
    sizes = image_sizes([images.files[i] for i in rows])
    readable = sizes.min(1, initial=1) > 0
    found = ImageBoxes.of(rows[readable], box.boxes_of_sizes(sizes[readable]), box.IMAGE)
    return replace(found, notes=_unreadable(images, rows[~readable]))


def unposed_people(images: Images, boxes: ImageBoxes, keypoints: int, source: str, first_id: int = 1) -> People:
    """Return people without poses, of `keypoints` keypoints, in `boxes`; annotation ids count from `first_id`."""
    count = len(boxes.image_index)
    poses = Poses.blank(count, keypoints)
    poses.boxes, poses.box_scores = boxes.boxes, boxes.scores
    poses.areas = box.box_areas(boxes.boxes)
    poses.image_ids = images.ids[boxes.image_index]
    poses.ids = np.arange(first_id, first_id + count, dtype=np.int64)
    return People(images, boxes.image_index, poses, None, box.describe(boxes.sources), source, boxes.notes)


def _unreadable(images: Images, rows: NDArray[np.int64]) -> tuple[str, ...]:
    if len(rows) == 0:
        return ()
    more = ", ..." if len(rows) > 3 else ""
    names = ", ".join(images.files[i] for i in rows[:3])
    return (f"unreadable unlabeled images skipped: {len(rows)} ({names}{more})",)

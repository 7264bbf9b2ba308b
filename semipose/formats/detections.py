"""Read a detector's boxes from COCO results json, and assign them to images."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.boxes import Boxes
from semipose.data.people import Images
from semipose.data.unposed import ImageBoxes
from semipose.errors import DataError


class _Detection(msgspec.Struct, gc=False):
    bbox: tuple[float, float, float, float]
    image_id: int | str | None = None
    file_name: str | None = None
    score: float = 1.0
    category_id: int | None = None


@dataclass
class Detections:
    """Boxes (D, 4), scores (D,) and category ids (D,) from a detector; `rows` maps image ids or names to positions."""

    boxes: Boxes
    scores: NDArray[np.float32]
    categories: NDArray[np.int64]
    rows: dict[int | str, list[int]]
    path: str

    def rows_of(self, key: int | str) -> NDArray[np.int64]:
        """Return the positions of the boxes in an image, highest score first."""
        return np.array(sorted(self.rows.get(key, ()), key=lambda row: -float(self.scores[row])), np.int64)

    def select(self, keep: NDArray[np.bool_]) -> "Detections":
        """Return the detections where `keep` (D,) is true."""
        rows = {key: kept for key, old in self.rows.items() if (kept := [row for row in old if keep[row]])}
        return Detections(self.boxes, self.scores, self.categories, rows, self.path)


def load_detections(path: str | Path, categories: frozenset[int] = frozenset()) -> Detections:
    """Read COCO results: [{"image_id" or "file_name", "bbox", "score", "category_id"}, ...].

    Boxes without an area are dropped. If the file holds several category ids, only `categories` are kept. Raises
    DataError for a file without a usable box.
    """
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=list[_Detection])
    except OSError as error:
        raise DataError(f"{path}: the detections cannot be read ({error.strerror}). Check --detections.") from error
    except msgspec.MsgspecError as error:
        raise DataError(
            f"{path}: not a file of COCO detections: {error}. Expected a list of objects with image_id (or file_name), "
            "bbox [x, y, w, h] and score."
        ) from error
    rows: dict[int | str, list[int]] = defaultdict(list)
    for row, one in enumerate(found):
        key = one.image_id if one.image_id is not None else one.file_name
        if key is None:
            raise DataError(f"{path}: detection {row} has neither image_id nor file_name; expected one of them.")
        rows[key].append(row)
    boxes = np.array([one.bbox for one in found], np.float32).reshape(-1, 4)
    kinds = np.array([-1 if one.category_id is None else one.category_id for one in found], np.int64)
    keep: NDArray[np.bool_] = np.all(np.isfinite(boxes) & (boxes[:, [2, 3, 2, 3]] > 0), axis=1)
    if len(np.unique(kinds)) > 1:
        keep = keep & np.isin(kinds, list(categories))
    scores = np.array([one.score for one in found], np.float32)
    detections = Detections(boxes, scores, kinds, dict(rows), str(path)).select(keep)
    if not detections.rows:
        raise DataError(
            f"{path}: none of its {len(found)} detections is usable; expected boxes with an area, of category "
            f"{', '.join(map(str, sorted(categories))) or 'any'} (found: {', '.join(map(str, np.unique(kinds)))})."
        )
    return detections


def detected_boxes(images: Images, image_rows: NDArray[np.int64], detections: Detections, by_name: bool) -> ImageBoxes:
    """Return the boxes detected in the images at `image_rows` with a score of at least `boxes.MIN_SCORE`.

    Detections name their image by its id. With `by_name`, for files without labels, they name the file, with or without
    its folder and suffix. Where file names are numbers, as in COCO, the number is enough. Raises DataError for a name
    that fits several images.
    """
    confident = detections.select(detections.scores >= box.MIN_SCORE)
    keys = [next((key for key in _keys(images, int(i), by_name) if key in confident.rows), None) for i in image_rows]
    _refuse_shared(keys, images, image_rows, detections.path)
    found = [np.zeros(0, np.int64) if key is None else confident.rows_of(key) for key in keys]
    rows = np.concatenate([*found, np.zeros(0, np.int64)])
    index = np.repeat(image_rows, [len(one) for one in found])
    missed = sum(len(one) == 0 for one in found)
    notes = (f"unlabeled images without a detection scored {box.MIN_SCORE} or more, skipped: {missed}",)
    return ImageBoxes(
        index,
        detections.boxes[rows],
        detections.scores[rows],
        np.full(len(rows), box.DETECTIONS),
        notes if missed else (),
    )


def _keys(images: Images, i: int, by_name: bool) -> list[int | str]:
    if not by_name:
        return [int(images.ids[i])]
    path = images.files[i].replace("\\", "/")
    folder, _, name = path.rpartition("/")
    long = f"{folder.rpartition('/')[2]}/{name}"
    stem = name.rpartition(".")[0]
    number = [int(stem)] if stem.isdecimal() else []
    return [images.files[i], long, long.rpartition(".")[0], name, stem, *number]


def _refuse_shared(keys: Sequence[int | str | None], images: Images, rows: NDArray[np.int64], path: str) -> None:
    """Refuse keys that fit several images, which would give one image the boxes of another."""
    for key, count in Counter(key for key in keys if key is not None).items():
        if count > 1:
            files = [images.files[i] for i, one in zip(rows, keys, strict=True) if one == key]
            raise DataError(
                f"{path}: {key!r} fits {count} unlabeled images, such as {files[0]} and {files[1]}; name them with "
                "their folder, as in 'folder/name.jpg'. A video's frames lie in a folder of the video's name."
            )

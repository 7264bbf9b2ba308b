"""Interface of label formats: a `LabelFormat` turns files into a `LabelTable`, as `ReadOptions` say."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from semipose.data.masks import Outline
from semipose.data.paths import files_inside
from semipose.data.people import Images, ListedImage
from semipose.errors import DataError

MAX_FAULTS_SHOWN = 20
"""Faults listed in one error; the others are only counted."""


@dataclass(frozen=True)
class ReadOptions:
    """Choice of a label set, and of what to read of it."""

    path: Path
    """The file or folder of the labels."""
    folder: str
    """The images' folder, absolute. Formats whose files say where their images are may ignore it."""
    override: Mapping[str, Any]
    """The content of the skeleton file: `keypoints`, `category`, `skeleton`, `flip_pairs`, `sigmas`."""
    boxes: str
    """"auto", "given", "keypoints" or "image", see `load_labels`."""
    labeled_ids: frozenset[int] | None = None
    """The images whose labels may be read; None for all of them, empty where only boxes are read."""
    labeled_people: frozenset[int] | None = None
    """The people in these images whose labels may be read; None for all of them."""
    include_ignored: bool = False
    """Keep crowds and people without a labeled keypoint, which training and evaluation ignore."""
    category_name: str = ""
    """Where only boxes are read and no category has keypoints: take the boxes of this category if there is one."""

    @property
    def only_boxes(self) -> bool:
        """Whether no label may be read at all."""
        return self.labeled_ids is not None and not self.labeled_ids

    def hidden_images(self, image_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(I,) true for images whose labels must not be read."""
        if self.labeled_ids is None:
            return np.zeros(len(image_ids), bool)
        return np.asarray(np.isin(image_ids, np.fromiter(self.labeled_ids, np.int64), invert=True), bool)

    def hidden_people(self, ids: NDArray[np.int64], in_hidden_image: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,) true for people whose labels must not be read."""
        if self.labeled_people is None:
            return in_hidden_image
        return in_hidden_image | np.isin(ids, np.fromiter(self.labeled_people, np.int64), invert=True)

    def reads_box(self, hidden: bool) -> bool:
        """Whether the box of a person with or without a hidden label is used."""
        return self.boxes in ("auto", "given") or (hidden and self.boxes != "image")


@dataclass
class LabelTable:
    """N people with K keypoints in I images, in the terms of COCO.

    `categories` are COCO categories; the first one names the keypoints. `keypoints` (N, K, 3) are x, y in image pixels
    and visibility 0 to 2. `boxes` (N, 4) are x, y, width, height, 0 where not `boxed` (N,). `areas` (N,) are square
    pixels, 0 where unknown. Keypoints and areas of `hidden` people (N,) were not decoded and are 0. All people of
    `hidden_images` (I,) are hidden, and some of others where only named people are labeled. `outlines`, by id, are
    those of people to be ignored, read with `include_ignored`.
    """

    images: Images
    categories: Sequence[Mapping[str, Any]]
    ids: NDArray[np.int64]
    image_index: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    hidden_images: NDArray[np.bool_]
    areas: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    boxes: NDArray[np.float64]
    boxed: NDArray[np.bool_]
    outlines: dict[int, Outline] = field(default_factory=dict)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(N,) true for people with at least one labeled keypoint."""
        return np.asarray((self.keypoints[..., 2] > 0).any(1))

    def annotation(self, row: int) -> dict[str, Any]:
        """Return a row as a COCO annotation."""
        value = {
            "id": int(self.ids[row]),
            "image_id": int(self.images.ids[self.image_index[row]]),
            "category_id": self.categories[0]["id"],
            "keypoints": self.keypoints[row].ravel().tolist(),
            "iscrowd": int(self.crowd[row]),
        }
        if self.boxed[row]:
            value["bbox"] = self.boxes[row].tolist()
        if self.areas[row] > 0:
            value["area"] = float(self.areas[row])
        return value

    @classmethod
    def build(
        cls,
        options: ReadOptions,
        images: Images,
        category: Mapping[str, Any],
        image_index: NDArray[np.int64],
        keypoints: NDArray[np.float64],
        boxes: NDArray[np.float64] | None = None,
        ids: NDArray[np.int64] | None = None,
    ) -> "LabelTable":
        """A checked table of parsed numbers, with labels hidden as `options` say.

        `category` is {"name": ..., "keypoints": [names]}. `boxes` are NaN for people without one. `ids` (N,) default
        to 1, 2, ... Raises DataError that names faulty people by id.
        """
        count = len(image_index)
        ids = np.arange(1, count + 1) if ids is None else ids
        boxes = np.full((count, 4), np.nan) if boxes is None else boxes
        hidden_images = options.hidden_images(images.ids)
        hidden = options.hidden_people(ids, hidden_images[image_index])
        used = np.array([options.reads_box(False), options.reads_box(True)])[hidden.astype(int)]
        boxed = used & ~np.isnan(boxes).all(1)
        keypoints = np.where(hidden[:, None, None], 0, keypoints)
        # Tools write anything, NaN too, where no keypoint is labeled.
        keypoints[..., :2] = np.where(keypoints[..., 2:] == 0, 0, keypoints[..., :2])
        table = cls(
            images=images,
            categories=[{"id": 1, **category}],
            ids=ids,
            image_index=image_index,
            crowd=np.zeros(count, bool),
            hidden=hidden,
            hidden_images=hidden_images,
            areas=np.zeros(count),
            keypoints=keypoints,
            boxes=np.where(boxed[:, None], boxes, 0),
            boxed=boxed,
        )
        raise_faults(options.path, table._faults(options))
        return table

    def _faults(self, options: ReadOptions) -> list[str]:
        names = list(self.categories[0].get("keypoints") or options.override.get("keypoints") or ())
        shape = (len(self.ids), len(names), 3)
        if self.keypoints.shape != shape:
            return [f"keypoints have the shape {self.keypoints.shape}; expected {shape}: people, keypoints, 3"]
        if len(np.unique(self.ids)) < len(self.ids) or len(np.unique(self.images.ids)) < len(self.images):
            return ["an image id or an id of a person is used twice; expected once"]
        xy, visible = self.keypoints[..., :2], self.keypoints[..., 2]
        sides = self.boxes[:, 2:]
        missing = self.labeled & ~self.boxed & (options.boxes == "given")
        wrong = {
            "a coordinate is no finite number": ~np.isfinite(xy).all((1, 2)),
            "a visibility is not 0 (not labeled), 1 (occluded) or 2 (visible)": ~np.isin(visible, (0, 1, 2)).all(1),
            "the box has no area or is not finite": self.boxed & ~(np.isfinite(self.boxes).all(1) & (sides > 0).all(1)),
            "there is no box; expected one, or the rule auto, which encloses the keypoints": missing,
        }
        at = self.image_index
        return [
            f"person {self.ids[row]} in {self.images.files[at[row]]}: {fault}"
            for fault, rows in wrong.items()
            for row in np.flatnonzero(rows)
        ]


class LabelFormat(ABC):
    """Reads one kind of label files. Subclasses live in `semipose/formats/NAME.py` and are called as their file.

    `path` is what the user gave, a file or a folder: a format may read several files for one label set. A format needs
    no error handling for files that it cannot parse: callers turn exceptions into a DataError with the path. Raise
    `DataError` where an entry can be named.
    """

    expected: ClassVar[str]
    """What the format reads, for messages: "a COCO keypoint json"."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether `path` is in this format, by its suffix or, where other formats share that, by its content."""

    @abstractmethod
    def list_images(self, path: Path) -> list[ListedImage]:
        """List the images by id, as `read` numbers them, with all their fields, without reading labels."""

    @abstractmethod
    def read(self, options: ReadOptions) -> LabelTable:
        """Read the people of all images. Hidden labels must have no influence: see `LabelTable.build`."""

    def to_coco(self, options: ReadOptions) -> dict[str, Any]:
        """Convert the labels to the content of a COCO json for the images in `options.folder`."""
        table = self.read(options)
        return {
            "images": [
                {"id": int(table.images.ids[i]), "file_name": os.path.relpath(file, options.folder), **extra}
                for i, (file, extra) in enumerate(zip(table.images.files, table.images.extra, strict=True))
            ],
            "annotations": [table.annotation(row) for row in range(len(table.ids))],
            "categories": [dict(one) for one in table.categories],
        }


def find_images(listed: Sequence[ListedImage], options: ReadOptions) -> Images:
    """Find the listed images in `options.folder`; raises DataError for names that may not or cannot be opened."""
    files, faults = files_inside(options.folder, [one.file_name for one in listed])
    raise_faults(options.path, [f"image {listed[row].id}: {fault}" for row, fault in sorted(faults.items())])
    ids = np.array([one.id for one in listed], np.int64)
    return Images(tuple(files), ids, np.zeros((len(files), 2), np.int64), tuple(dict(one.fields) for one in listed))


def raise_faults(path: Path, faults: Sequence[str]) -> None:
    """Raise a DataError that lists `faults`, if there are any."""
    if not faults:
        return
    shown = "".join(f"\n  {fault}" for fault in faults[:MAX_FAULTS_SHOWN])
    more = f"\n  ... and {len(faults) - MAX_FAULTS_SHOWN} more" if len(faults) > MAX_FAULTS_SHOWN else ""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise DataError(
        f"{path}: {count}{shown}{more}\n"
        "Correct these entries, or take them out of the file, and run `semipose check` again."
    )

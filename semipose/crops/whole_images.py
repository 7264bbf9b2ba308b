"""Whole images in, canonical crops of them out, with the people in each: the input of detector-free networks.

A whole image is kept like one person whose box is the image: scaled into the input's shape, black beyond. People are
padded to the number in the fullest image. Regions whose people are not all labeled are excluded from the losses.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.crops.crop import CropFrame, cut
from semipose.crops.decode import Rows
from semipose.crops.store import CropStore
from semipose.data.people import People
from semipose.data.unposed import unposed_people, whole_image_boxes
from semipose.errors import DataError
from semipose.scene import REGION_STRIDE, Labels

# In an image where not all people are boxed, only the labeled people's boxes enlarged by this are supervised.
BOX_SCALE = 1.25
# A labeled keypoint inside the box of an unlabeled person is supervised nevertheless, as far as its peak reaches: in
# cells of the network's maps, or as a share of the image's longer side.
PEAK_CELLS, PEAK_SHARE = 3, 0.05
# OpenCV draws wrongly beyond this coordinate.
_MAX_PIXEL = 30_000


def one_row_per_image(people: People) -> People:
    """Return one blank person per image of `people`, whose box is the whole image: the rows of a `WholeImageStore`.

    Raises DataError for an image that cannot be read.
    """
    at = np.arange(len(people.images))
    rows = whole_image_boxes(people.images, at)
    missing = np.setdiff1d(at, rows.image_index)
    if len(missing):
        raise DataError(
            f"{people.source}: {len(missing)} images cannot be read, such as {people.images.files[missing[0]]}; "
            "expected image files. Replace them or take them out of the json."
        )
    keypoints = people.poses.keypoints.shape[1]
    return replace(unposed_people(people.images, rows, keypoints, people.source), skeleton=people.skeleton)


@dataclass
class WholeImageStore(CropStore):
    """Whole images, by row: `people` are those of `one_row_per_image`.

    `all_people` are the people in them, None if unlabeled.
    """

    all_people: People | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # Left, right, top and bottom edge of each image in cells of its crop.
        size = self.people.poses.boxes[:, 2:]
        self._to_crop = self.affines.numpy()
        scale, shift = self._to_crop[:, [0, 1], [0, 1]], self._to_crop[:, :2, 2]
        edges = np.stack([shift - 0.5 * scale, shift + (size - 0.5) * scale], -1).reshape(-1, 4)
        self._edges = (edges - (REGION_STRIDE - 1) / 2) / REGION_STRIDE
        # Packed cells of the images with regions to ignore.
        self._known: dict[int, NDArray[np.uint8]] = {}
        if self.all_people is not None:
            self._index_people(self.all_people)

    @staticmethod
    def frame_of(size: tuple[int, int]) -> CropFrame:
        """Return the frame of crops: the whole image and no more."""
        return CropFrame(size, padding=1.0, margin=1.0)

    @property
    def truth(self) -> People:
        """The people whose labels predictions are scored against: all in these images."""
        assert self.all_people is not None, "unlabeled images cannot be scored"
        return self.all_people

    @property
    def cells(self) -> tuple[int, int]:
        """(h', w'), the cells of REGION_STRIDE pixels that cover a crop."""
        height, width = (-(-side // REGION_STRIDE) for side in self.frame.crop_size)
        return height, width

    def batch_fields(self, rows: Rows, labeled: bool) -> dict[str, Any]:
        """Return what a batch of `rows` holds besides pixels, by its field names; on the CPU.

        These are the supervised region (B, 1, h', w') and, if `labeled`, the people's labels.
        """
        fields: dict[str, Any] = {"valid": self.valid(rows)}
        return fields | {"people": self.labels(rows)} if labeled else fields

    def valid(self, rows: Rows) -> Tensor:
        """Return the supervised region (B, 1, h', w') of the crops of `rows`, float32 on the CPU.

        A cell is 1 where all people are labeled, 0 where people are to be ignored and beyond the image.
        """
        height, width = self.cells
        left, right, top, bottom = self._edges[rows].T[..., None]
        columns, lines = np.arange(width), np.arange(height)
        inside = ((columns >= left) & (columns <= right))[:, None] & ((lines >= top) & (lines <= bottom))[..., None]
        for position, row in enumerate(rows.tolist()):
            if row in self._known:
                bits = np.unpackbits(self._known[row], count=height * width)
                inside[position] &= bits.reshape(height, width) == 1
        return torch.from_numpy(inside[:, None].astype(np.float32))

    def labels(self, rows: Rows) -> Labels:
        """Return the labeled people in the images of `rows`, in pixels of their crops."""
        assert self.all_people is not None, "unlabeled images have no labels"
        poses, people = self.all_people.poses, self._people_of[rows]
        exists, to_crop = people >= 0, self._to_crop[rows]
        scale, shift = to_crop[:, None, [0, 1], [0, 1]], to_crop[:, None, None, :2, 2]
        visible = (poses.visible[people] > 0) & exists[..., None]
        # Tools write any value for an unlabeled keypoint: it must not become a number that is not finite.
        keypoints = np.where(visible[..., None], poses.keypoints[people] * scale[:, :, None] + shift, 0)
        return Labels(keypoints, visible, poses.boxes[people, 2:] * scale * exists[..., None])

    def _index_people(self, people: People) -> None:
        """List the labeled people of each image, padded to the fullest one, and find the regions to ignore."""
        if len(people.images) != len(self.people):
            raise DataError(f"{people.source}: {len(people.images)} images for {len(self.people)} rows.")
        labeled = np.flatnonzero(people.labeled)
        labeled = labeled[np.argsort(people.image_index[labeled], kind="stable")]
        image = people.image_index[labeled]
        counts = np.bincount(image, minlength=len(self.people))
        # (I, M) rows of `people`, -1 as padding.
        self._people_of = np.full((len(counts), max(1, counts.max(initial=0))), -1)
        self._people_of[image, np.arange(len(labeled)) - np.repeat(counts.cumsum() - counts, counts)] = labeled
        self._partly_boxed = partly_boxed(people)
        unlabeled: dict[int, list[int]] = {row: [] for row in np.flatnonzero(self._partly_boxed).tolist()}
        for person in np.flatnonzero(~people.labeled).tolist():
            unlabeled.setdefault(int(people.image_index[person]), []).append(person)
        packed = self._decoder.map(self._packed, unlabeled, unlabeled.values())
        self._known = dict(zip(unlabeled, packed, strict=True))

    def _packed(self, row: int, unlabeled: list[int]) -> NDArray[np.uint8]:
        """Return the packed cells of image `row` where all people are labeled; `unlabeled` are people to ignore."""
        assert self.all_people is not None
        x, y, region_width, region_height = self.regions[row]
        (height, width), (h, w) = self.frame.crop_size, self.cells
        size = self.people.poses.boxes[row, 2:].astype(int).tolist()
        radius = max(PEAK_CELLS * REGION_STRIDE * self.zoom * region_width / width, PEAK_SHARE * max(size))
        labeled = self._people_of[row][self._people_of[row] >= 0]
        partly = bool(self._partly_boxed[row])
        pixels = known_pixels(self.all_people, labeled, unlabeled, (size[1], size[0]), partly, radius)
        cells = np.zeros((h, w), np.uint8)
        # The cells reach a little further than the crop.
        shown = [x, y, region_width * w * REGION_STRIDE / width, region_height * h * REGION_STRIDE / height]
        cut(pixels, np.array(shown), cells)
        return np.packbits(cells > 127)


def partly_boxed(people: People) -> NDArray[np.bool_]:
    """Return (I,) whether an image holds people without a box (`all_people_boxed`: false)."""
    return np.array([extra.get("all_people_boxed", True) is False for extra in people.images.extra], bool)


def known_pixels(
    people: People, labeled: Rows, unlabeled: list[int], size: tuple[int, int], partly: bool, radius: float
) -> NDArray[np.uint8]:
    """Return an image of `size` (H, W): 255 at each pixel where all people are labeled, else 0.

    `labeled` and `unlabeled` are the rows of `people` in this image. Unknown are the outlines of the unlabeled people
    or, without an outline, their boxes except within `radius` pixels of a labeled keypoint. In an image that is
    `partly` boxed, everything outside the labeled people's boxes is unknown too.
    """
    import cv2

    poses, outlines = people.poses, people.outlines
    pixels = np.full(size, 0 if partly else 255, np.uint8)
    for row in labeled.tolist() if partly else ():
        _fill_box(pixels, poses.boxes[row], BOX_SCALE, 255)
    by_box = [row for row in unlabeled if int(poses.ids[row]) not in outlines]
    for row in by_box:
        _fill_box(pixels, poses.boxes[row], 1.0, 0)
    if by_box:
        visible = poses.visible[labeled] > 0
        centers = (poses.keypoints[labeled] * visible[..., None]).sum(1) / np.maximum(1, visible.sum(1))[:, None]
        points = np.concatenate([poses.keypoints[labeled][visible], centers]).clip(-_MAX_PIXEL, _MAX_PIXEL)
        for x, y in points.round().astype(int).tolist():
            cv2.circle(pixels, (x, y), round(radius), 255, -1)
    for row in unlabeled:
        if (outline := outlines.get(int(poses.ids[row]))) is not None:
            try:
                outline.fill(pixels, 0)
            except ValueError as error:
                raise DataError(f"{people.source}: annotation {poses.ids[row]}: {error}.") from error
    return pixels


def _fill_box(pixels: NDArray[np.uint8], box: NDArray[np.float32], scale: float, value: int) -> None:
    """Write `value` into a box (x, y, w, h) enlarged by `scale` about its center."""
    x, y, w, h = box.astype(float).tolist()
    limits = [(y + h / 2, h, pixels.shape[0]), (x + w / 2, w, pixels.shape[1])]
    rows, columns = (
        slice(*(int(np.clip(round(center + sign * scale * side / 2), 0, end)) for sign in (-1, 1)))
        for center, side, end in limits
    )
    pixels[rows, columns] = value

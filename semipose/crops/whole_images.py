"""Whole images in, canonical crops of them out, with everybody in each: what detector-free networks learn from.

A whole image is kept like one person whose box it is: scaled into the input's shape, black beyond. People are padded to
as many as the fullest image holds. Where it is not known who is there, nothing is to be learned.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semipose.crops.crop import CropFrame, cut
from semipose.crops.store import CropStore, Rows
from semipose.data.people import People
from semipose.data.unposed import unposed_people, whole_image_boxes
from semipose.errors import DataError
from semipose.scene import REGION_STRIDE, Labels

# Beyond the labeled people's boxes times this, nobody knows what is in an image where not all people have a box.
BOX_ROOM = 1.25
# Next to a labeled keypoint that lies in the box, but in no outline, of somebody to ignore, it is known nevertheless
# who is there: as far as the keypoint's peak reaches, in cells of the network's maps, or as a share of the longer side.
PEAK_CELLS, PEAK_SHARE = 3, 0.05
# Pixels; beyond it nothing is drawn right.
_FAR = 30_000


def one_row_per_image(people: People) -> People:
    """One blank person for each image of `people`, whose box is the whole image; raises DataError for one that is none.

    These are the rows of a `WholeImageStore`.
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
    """Whole images, by row: `people` are those of `one_row_per_image`; `everybody` in them, None if unlabeled."""

    everybody: People | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # Where the image lies: left, right, top and bottom edge in cells of the crop.
        size = self.people.poses.boxes[:, 2:]
        self._to_crop = self.affines.numpy()
        scale, shift = self._to_crop[:, [0, 1], [0, 1]], self._to_crop[:, :2, 2]
        edges = np.stack([shift - 0.5 * scale, shift + (size - 0.5) * scale], -1).reshape(-1, 4)
        self._edges = (edges - (REGION_STRIDE - 1) / 2) / REGION_STRIDE
        # Packed cells of the images in which not all is known.
        self._known: dict[int, NDArray[np.uint8]] = {}
        if self.everybody is not None:
            self._seat(self.everybody)

    @staticmethod
    def frame_of(size: tuple[int, int]) -> CropFrame:
        """The whole image and no more."""
        return CropFrame(size, padding=1.0, margin=1.0)

    @property
    def cells(self) -> tuple[int, int]:
        """(h', w'), cells of KNOWN_STRIDE pixels that cover a crop."""
        height, width = (-(-side // REGION_STRIDE) for side in self.frame.crop_size)
        return height, width

    def known(self, rows: Rows) -> Tensor:
        """(B, 1, h', w') float32 on the CPU, in cells of the crops of `rows`: 1 where it is known who is there."""
        height, width = self.cells
        left, right, top, bottom = self._edges[rows].T[..., None]
        across, down = np.arange(width), np.arange(height)
        inside = ((across >= left) & (across <= right))[:, None] & ((down >= top) & (down <= bottom))[..., None]
        for place, row in enumerate(rows.tolist()):
            if row in self._known:
                bits = np.unpackbits(self._known[row], count=height * width)
                inside[place] &= bits.reshape(height, width) == 1
        return torch.from_numpy(inside[:, None].astype(np.float32))

    def labels(self, rows: Rows) -> Labels:
        """Everybody labeled in the images of `rows`, in pixels of their crops."""
        assert self.everybody is not None, "unlabeled images have no labels"
        poses, seats = self.everybody.poses, self._seats[rows]
        there, to_crop = seats >= 0, self._to_crop[rows]
        scale, shift = to_crop[:, None, [0, 1], [0, 1]], to_crop[:, None, None, :2, 2]
        visible = (poses.visible[seats] > 0) & there[..., None]
        # Tools write anything where nothing is labeled: it must not become a number that is not finite.
        keypoints = np.where(visible[..., None], poses.keypoints[seats] * scale[:, :, None] + shift, 0)
        return Labels(keypoints, visible, poses.boxes[seats, 2:] * scale * there[..., None])

    def _seat(self, everybody: People) -> None:
        """Give every labeled person a place, and find what is to be ignored."""
        if len(everybody.images) != len(self.people):
            raise DataError(f"{everybody.source}: {len(everybody.images)} images for {len(self.people)} rows.")
        people = np.flatnonzero(everybody.labeled)
        people = people[np.argsort(everybody.image_index[people], kind="stable")]
        image = everybody.image_index[people]
        counts = np.bincount(image, minlength=len(self.people))
        # (I, M) rows of `everybody`, -1 where nobody is.
        self._seats = np.full((len(counts), max(1, counts.max(initial=0))), -1)
        self._seats[image, np.arange(len(people)) - np.repeat(counts.cumsum() - counts, counts)] = people
        self._partly = partly_boxed(everybody)
        others: dict[int, list[int]] = {row: [] for row in np.flatnonzero(self._partly).tolist()}
        for person in np.flatnonzero(~everybody.labeled).tolist():
            others.setdefault(int(everybody.image_index[person]), []).append(person)
        for row, bits in zip(others, self._pool.map(self._packed, others, others.values()), strict=True):
            self._known[row] = bits

    def _packed(self, row: int, others: list[int]) -> NDArray[np.uint8]:
        """The packed cells of image `row` in which everybody has a label; `others` are people who have none."""
        assert self.everybody is not None
        x, y, wide, tall = self.regions[row]
        (height, width), (h, w) = self.frame.crop_size, self.cells
        size = self.people.poses.boxes[row, 2:].astype(int).tolist()
        reach = max(PEAK_CELLS * REGION_STRIDE * self.zoom * wide / width, PEAK_SHARE * max(size))
        labeled = self._seats[row][self._seats[row] >= 0]
        pixels = known_pixels(self.everybody, labeled, others, (size[1], size[0]), bool(self._partly[row]), reach)
        cells = np.zeros((h, w), np.uint8)
        # The cells reach a little further than the crop.
        cut(pixels, np.array([x, y, wide * w * REGION_STRIDE / width, tall * h * REGION_STRIDE / height]), cells)
        return np.packbits(cells > 127)


def partly_boxed(people: People) -> NDArray[np.bool_]:
    """(I,) images that are said to hold people without a box (`all_people_boxed`: false)."""
    return np.array([extra.get("all_people_boxed", True) is False for extra in people.images.extra], bool)


def known_pixels(
    people: People, labeled: Rows, others: list[int], size: tuple[int, int], partly: bool, reach: float
) -> NDArray[np.uint8]:
    """255 at each pixel of an image of `size` (H, W) at which everybody has a label, else 0.

    `labeled` and `others` are the rows of `people` who are in it. Unknown are the outlines of `others`, or their boxes
    without what is within `reach` pixels of a labeled keypoint; and all but the labeled people's boxes where people are
    only `partly` boxed.
    """
    import cv2

    poses, outlines = people.poses, people.outlines
    pixels = np.full(size, 0 if partly else 255, np.uint8)
    for row in labeled.tolist() if partly else ():
        _fill_box(pixels, poses.boxes[row], BOX_ROOM, 255)
    by_box = [row for row in others if int(poses.ids[row]) not in outlines]
    for row in by_box:
        _fill_box(pixels, poses.boxes[row], 1.0, 0)
    if by_box:
        shown = poses.visible[labeled] > 0
        centers = (poses.keypoints[labeled] * shown[..., None]).sum(1) / np.maximum(1, shown.sum(1))[:, None]
        points = np.concatenate([poses.keypoints[labeled][shown], centers]).clip(-_FAR, _FAR)
        for x, y in points.round().astype(int).tolist():
            cv2.circle(pixels, (x, y), round(reach), 255, -1)
    for row in others:
        if (outline := outlines.get(int(poses.ids[row]))) is not None:
            try:
                outline.fill(pixels, 0)
            except ValueError as error:
                raise DataError(f"{people.source}: annotation {poses.ids[row]}: {error}.") from error
    return pixels


def _fill_box(pixels: NDArray[np.uint8], box: NDArray[np.float32], room: float, value: int) -> None:
    """Write `value` into a box (x, y, w, h) times `room`."""
    x, y, w, h = box.astype(float).tolist()
    limits = [(y + h / 2, h, pixels.shape[0]), (x + w / 2, w, pixels.shape[1])]
    rows, columns = (
        slice(*(int(np.clip(round(middle + sign * room * side / 2), 0, most)) for sign in (-1, 1)))
        for middle, side, most in limits
    )
    pixels[rows, columns] = value

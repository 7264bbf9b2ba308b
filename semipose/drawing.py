"""Images and poses in, images with drawn poses out: RGB uint8; coordinates are pixels of the given image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semipose.pose.names import plural
from semipose.pose.poses import Poses
from semipose.pose.skeleton import Skeleton
from semipose.system.files import replacing

Color = tuple[int, int, int]
Image = NDArray[np.uint8]

# Left is warm, right is cool, the middle is light: distinct with every common kind of color blindness.
SIDE_COLORS: dict[str, Color] = {"left": (255, 150, 30), "right": (70, 170, 255), "center": (245, 240, 225)}
# For several people in one picture: distinct with the common kinds of color blindness.
PEOPLE_COLORS: tuple[Color, ...] = (
    (255, 150, 30),
    (70, 170, 255),
    (240, 228, 66),
    (0, 190, 140),
    (230, 120, 190),
    (245, 240, 225),
    (213, 60, 30),
    (120, 90, 220),
)
OUTLINE_COLOR: Color = (20, 22, 28)
PAPER: Color = (38, 42, 48)

SHIFT = 3  # OpenCV draws at 1/8 px
OPACITIES = (0.4, 0.6, 0.8, 1.0)  # one blended layer each, whatever the number of people
MAX_COORDINATE = 1e5  # px; beyond it OpenCV's fixed-point coordinates overflow


@dataclass(frozen=True)
class Noun:
    """Words for one and for several instances of a category, for messages and pictures."""

    singular: str
    plural: str

    @classmethod
    def of(cls, category: str) -> "Noun":
        """Words for the `category` of a skeleton where it is a plain word such as "mouse", else for a person."""
        name = category.strip().lower()
        if name == "person" or not re.fullmatch(r"[a-z]+([ -][a-z]+)*", name):
            name = "person"
        return cls(name, plural(name))


def body_sides(skeleton: Skeleton) -> list[str]:
    """Side (left, right or center) of each keypoint by its name; the first of an unnamed mirror pair is left."""
    sides = []
    for index, partner in enumerate(skeleton.flip):
        pair = (skeleton.keypoints[index].casefold(), skeleton.keypoints[partner].casefold())
        # "left_hip"/"right_hip", "hipL"/"hipR", "lsho"/"rsho": the first letter that differs names the side.
        letter = next((mine for mine, other in zip(*pair, strict=False) if mine != other), "")
        by_index = "left" if index < partner else "right"
        sides.append("center" if partner == index else {"l": "left", "r": "right"}.get(letter, by_index))
    return sides


def draw(
    image: Image,
    poses: Poses,
    skeleton: Skeleton,
    *,
    faded: bool = True,
    names: bool = False,
    color: Color | None = None,
    colors: Sequence[Color] = (),
) -> Image:
    """Draw every person of `poses` on a copy of `image` (H, W, 3) RGB.

    Keypoints with visible = 0 are left out. With `faded` (predictions) the opacity is the square root of the score;
    without it (labels) everything is opaque. `names` writes the keypoints' names. One `color` for all, or `colors` with
    one per person, replace those of the sides.
    """
    canvas = np.ascontiguousarray(image)
    drawable = np.isfinite(poses.keypoints) & (np.abs(poses.keypoints) < MAX_COORDINATE)
    shown = (poses.visible > 0) & drawable.all(-1)
    # Scores of a good network are often 0.3 to 0.6: the square root keeps these visible.
    opacity = np.sqrt(np.clip(np.nan_to_num(poses.scores), 0, 1)) if faded else np.ones_like(poses.scores)
    by_side = [SIDE_COLORS[side] for side in body_sides(skeleton)]
    by_person = colors or ([color] if color else []) * len(poses)
    point_colors = [[one] * len(skeleton) for one in by_person] or [by_side] * len(poses)
    level_of = np.searchsorted(np.asarray(OPACITIES), np.maximum(opacity, OPACITIES[0]) - 1e-6)
    for level, alpha in enumerate(OPACITIES):
        if not (shown & (level_of == level)).any():
            continue
        layer = canvas.copy()
        for person in range(len(poses)):
            at_level = np.where(shown[person], level_of[person], -1)
            _draw_person(
                layer,
                poses.keypoints[person],
                at_level,
                level,
                skeleton,
                point_colors[person],
                _thickness(poses.boxes[person], canvas.shape),
            )
        mixed = layer if alpha == 1 else cv2.addWeighted(layer, alpha, canvas, 1 - alpha, 0)
        canvas = np.asarray(mixed, np.uint8)
    if names:
        canvas = _write_names(canvas.copy(), poses, shown, skeleton)
    return canvas.copy() if canvas is image else canvas


def left_to_right(poses: Poses) -> Poses:
    """Sort `poses` by their boxes, so that a person has the same color in several pictures."""
    return poses[np.argsort(poses.boxes[:, 0], kind="stable")]


def person_colors(count: int) -> list[Color]:
    """Colors of `count` people in one picture; they repeat after `PEOPLE_COLORS`."""
    return [PEOPLE_COLORS[person % len(PEOPLE_COLORS)] for person in range(count)]


def _thickness(box: NDArray[Any], shape: tuple[int, ...]) -> int:
    longer = min(float(np.nan_to_num(box[2:]).max(initial=0)), float(max(shape[:2])))
    return int(np.clip(round(longer / 90), 1, 10))


def _draw_person(
    layer: Image,
    keypoints: NDArray[Any],
    levels: NDArray[Any],
    level: int,
    skeleton: Skeleton,
    colors: Sequence[Color],
    thickness: int,
) -> None:
    """Draw the bones and points of opacity `level`; a bone has the lower level of its ends."""
    fixed = [_fixed(point) if levels[index] >= 0 else (0, 0) for index, point in enumerate(keypoints)]
    marks = body_sides(skeleton)
    bones = [(a, b) for a, b in skeleton.bones if min(levels[a], levels[b]) == level]
    # The dark outline is under all bones, so that the pose stays readable on any background.
    for a, b in bones:
        cv2.line(layer, fixed[a], fixed[b], OUTLINE_COLOR, thickness + 2, cv2.LINE_AA, SHIFT)
    for a, b in bones:
        outer = b if marks[a] == "center" else a
        cv2.line(layer, fixed[a], fixed[b], colors[outer], thickness, cv2.LINE_AA, SHIFT)
    radius = (thickness + 1) * (1 << SHIFT)
    for index in np.flatnonzero(levels == level).tolist():
        cv2.circle(layer, fixed[index], radius + (1 << SHIFT), OUTLINE_COLOR, -1, cv2.LINE_AA, SHIFT)
        cv2.circle(layer, fixed[index], radius, colors[index], -1, cv2.LINE_AA, SHIFT)


def _fixed(point: NDArray[Any]) -> tuple[int, int]:
    return round(float(point[0]) * (1 << SHIFT)), round(float(point[1]) * (1 << SHIFT))


def _write_names(canvas: Image, poses: Poses, shown: NDArray[Any], skeleton: Skeleton) -> Image:
    for person, keypoints in enumerate(poses.keypoints):
        for index in np.flatnonzero(shown[person]):
            x, y = (int(value) for value in keypoints[index])
            write_text(canvas, skeleton.keypoints[index], (x + 4, y - 4), 0.36)
    return canvas


def write_text(
    canvas: Image, text: str, at: tuple[int, int], scale: float = 0.45, color: Color = (255, 255, 255)
) -> None:
    """Write `text` on `canvas` in place, with its baseline starting at `at` (x, y) px. Non-ASCII becomes "?"."""
    plain = text.encode("ascii", "replace").decode()
    # Four shifted copies make the outline. Thicker letters would not match: OpenCV 5 sets them wider apart.
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(
            canvas, plain, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, scale, OUTLINE_COLOR, 1, cv2.LINE_AA
        )
    cv2.putText(canvas, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)


@dataclass(frozen=True)
class Tile:
    """Part of an image as `pixels` (H, W, 3); the image point (x, y) is at `(xy - origin) * scale` in it."""

    pixels: Image
    origin: NDArray[Any]
    scale: float

    def move(self, poses: Poses) -> Poses:
        """Transform `poses` from image pixels to pixels of this tile."""
        moved = poses[np.arange(len(poses))]
        # Integer coordinates are centers of pixels, and scaling is about corners, half a pixel away.
        moved.keypoints = ((moved.keypoints + 0.5 - self.origin) * self.scale - 0.5).astype(np.float32)
        corner = (moved.boxes[:, :2] + 0.5 - self.origin) * self.scale - 0.5
        moved.boxes = np.concatenate([corner, moved.boxes[:, 2:] * self.scale], 1).astype(np.float32)
        return moved


def person_tile(image: Image, box: NDArray[Any], size: int = 192, margin: float = 1.3) -> Tile:
    """Square around `box` (x, y, w, h), `margin` times its longer side, at `size` px; gray outside of the image."""
    height, width = image.shape[:2]
    side = round(float(np.clip(max(box[2], box[3]) * margin, 8, 3 * max(height, width))))
    center = np.clip(box[:2] + box[2:] / 2, 0, (width, height))
    x, y = (round(float(value - side / 2)) for value in center)
    inside = image[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    before = (max(-y, 0), max(-x, 0))
    square = cv2.copyMakeBorder(
        inside,
        before[0],
        side - before[0] - inside.shape[0],
        before[1],
        side - before[1] - inside.shape[1],
        cv2.BORDER_CONSTANT,
        value=PAPER,
    )
    resample = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    pixels = np.asarray(cv2.resize(square, (size, size), interpolation=resample), np.uint8)
    return Tile(pixels, np.asarray([x, y], np.float32), size / side)


def scaled(image: Image, side: int) -> Tile:
    """Scale the whole `image` to a longer side of `side` px."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    pixels = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return Tile(np.asarray(pixels, np.uint8), np.zeros(2, np.float32), scale)


def contact_sheet(tiles: Sequence[Image], columns: int, gap: int = 8) -> Image:
    """Arrange `tiles` (H, W, 3) in rows of `columns`, in cells as large as the largest tile."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        top = gap + (index // columns) * (height + gap)
        left = gap + (index % columns) * (width + gap)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def encode_jpeg(image: Image, quality: int = 88) -> bytes:
    """Encode `image` (H, W, 3) RGB as a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def save_jpeg(path: str | Path, image: Image, quality: int = 92) -> None:
    """Write `image` (H, W, 3) RGB to `path` as JPEG, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(encode_jpeg(image, quality))

"""Several people drawn in one picture, from well apart to one behind the other: for networks that find everybody.

A picture depends on (seed, index) and the settings only. Needs no torch. `crowdIndex` is CrowdPose's: the mean over
people of the others' keypoints in the person's box, by the person's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import UsageError
from semipose.pose.skeleton import PRESETS, Skeleton
from semipose.synthetic.appearance import random_look
from semipose.synthetic.background import background, photograph
from semipose.synthetic.body import KEYPOINTS, random_body, random_camera
from semipose.synthetic.canvas import Bytes, Canvas
from semipose.synthetic.person import FigureDrawing
from semipose.synthetic.single import Figure, annotation, check_size, counted, extent, framed, write_image
from semipose.system.files import write_json

# What can still be told apart in a picture of 128 pixels with eight people in it.
EIGHT = (
    "right_ankle",
    "right_hip",
    "left_hip",
    "left_ankle",
    "right_wrist",
    "left_wrist",
    "neck",
    "head_top",
)
# The way to the neck: a keypoint that is left out is skipped, and its neighbors are joined.
_TOWARD_NECK = {
    "ankle": "knee",
    "knee": "hip",
    "hip": "neck",
    "wrist": "elbow",
    "elbow": "shoulder",
    "shoulder": "neck",
}


_PLAIN: dict[str, Any] = {"outline": None, "front": "plain", "glasses": True, "backpack": False}


@dataclass(frozen=True)
class Crowd:
    """One picture (H, W, 3) RGB of several people, the farthest first, whose own `image` is this one."""

    image: Bytes
    people: tuple[Figure, ...]


def draw_crowd(
    seed: int,
    index: int,
    size: tuple[int, int] = (128, 128),
    difficulty: float = 0.3,
    *,
    people: tuple[int, int] = (2, 8),
) -> Crowd:
    """Draw picture `index` of the endless series `seed`, with `people` (fewest, most) in it.

    `size` is (H, W) pixels. How close they stand is drawn for each picture, from apart to crowded. `difficulty` 0..1 as
    in `draw_figure`. Keypoints that somebody nearer hides count as hidden, 1.
    """
    check_size(size, difficulty)
    if not 1 <= people[0] <= people[1]:
        raise UsageError(f"{people[0]} to {people[1]} people in a picture; expected at least 1, and the smaller first.")
    place_rng, scene_rng, camera_rng = (np.random.default_rng((seed, index, stream)) for stream in range(3))
    scenery, liked = background(scene_rng, size, difficulty)
    way = scene_rng.normal(-np.pi / 2, 0.9)
    light = np.array([np.cos(way), np.sin(way)])
    places = _places(place_rng, size, int(place_rng.integers(people[0], people[1] + 1)))
    drawings: list[FigureDrawing] = []
    for number, (center, room) in enumerate(places):
        rng = np.random.default_rng((seed, index, 3, number))
        body = random_body(rng, difficulty)
        camera = framed(rng, body, random_camera(rng, difficulty), room, rng.uniform(0.85, 0.98))
        shift = np.array(camera.shift) - (np.array(room[::-1]) - 1) / 2 + center
        camera = replace(camera, shift=(float(shift[0]), float(shift[1])))
        canvas = Canvas(size, light, camera.scale)
        # Details of a pixel or two would take half of the time.
        look = replace(random_look(rng, difficulty, liked), **_PLAIN)
        drawings.append(FigureDrawing(canvas, body, camera, look, owned=True))
        drawings[-1].draw()
        scenery = canvas.over(scenery)
    image = photograph(camera_rng, scenery, difficulty)
    return Crowd(image, tuple(_figure(image, one, drawings[at + 1 :]) for at, one in enumerate(drawings)))


def _places(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[tuple[NDArray[Any], tuple[int, int]]]:
    """A center (x, y) and a room (H, W) in pixels for each person, the farthest first."""
    height, width = size
    rows = 1 if count <= 3 else 2
    columns = -(-count // rows)
    closeness = rng.random()
    # Closer means nearer to the camera, too, or a crowd would be a heap of small people in the middle.
    growth = 0.9 + 0.65 * closeness
    room = (int(min(0.95 * height, growth * height / rows)), int(min(0.95 * width, 1.25 * growth * width / columns)))
    cells = rng.permutation(rows * columns)[:count]
    grid = np.stack([(cells % columns + 0.5) * width / columns, (cells // columns + 0.5) * height / rows], 1)
    middle = np.array([width / 2, height / 2])
    centers = middle + (grid - middle) * (1 - 0.7 * closeness) + rng.normal(0, 0.02 * width, (count, 2))
    centers = centers[np.argsort(centers[:, 1], kind="stable")]
    return [(center - 0.5, room) for center in centers]


def _figure(image: Bytes, one: FigureDrawing, nearer: Sequence[FigureDrawing]) -> Figure:
    keypoints, visible = one.keypoints(), one.visible()
    for row in np.flatnonzero(visible == 2).tolist():
        x, y = keypoints[row].tolist()
        visible[row] = 1 if any(other.canvas.owner_at(x, y) > 0 for other in nearer) else 2
    return Figure(image, keypoints.astype(np.float32), visible, *extent(one.canvas))


def crowd_index(people: Sequence[Figure], names: Sequence[str] = KEYPOINTS) -> float:
    """How crowded a picture is, by the keypoints `names`: 0 where nobody is in another's box, hard above 0.8."""
    rows = [KEYPOINTS.index(name) for name in names]
    labeled = np.stack([one.visible[rows] > 0 for one in people])
    points, boxes = np.stack([one.keypoints[rows] for one in people]), np.stack([one.box for one in people])
    inside = (points >= boxes[:, None, None, :2]) & (points <= (boxes[:, :2] + boxes[:, 2:])[:, None, None])
    others = (inside.all(-1) & labeled).sum(-1)
    counted = labeled.any(1)
    share = (others.sum(1) - others.diagonal())[counted] / labeled.sum(1)[counted]
    return float(share.mean()) if counted.any() else 0.0


def write_crowds(
    folder: str | Path,
    count: int,
    *,
    seed: int,
    size: tuple[int, int] = (128, 128),
    difficulty: float = 0.3,
    people: tuple[int, int] = (2, 8),
    keypoints: Sequence[str] = EIGHT,
    first_index: int = 0,
) -> Path:
    """Write `count` pictures into `folder` as `images/*.jpg` and a COCO keypoint json, whose path is returned.

    Of each person only `keypoints` are labeled, names of the preset lsp_14. An image's id is its index + 1, and it has
    a crowdIndex.
    """
    folder, skeleton = Path(folder), reduced(keypoints)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(first_index, first_index + counted(count, "crowds")):
        crowd = draw_crowd(seed, index, size, difficulty, people=people)
        name = f"{index:07d}.jpg"
        write_image(folder / "images" / name, crowd.image)
        crowded = round(crowd_index(crowd.people, keypoints), 4)
        images.append(
            {
                "id": index + 1,
                "file_name": name,
                "width": size[1],
                "height": size[0],
                "crowdIndex": crowded,
            }
        )
        for figure in crowd.people:
            one = annotation(figure, len(annotations) + 1, skeleton.keypoints)
            annotations.append(one | {"image_id": index + 1})
    about = f"crowds drawn by semipose, seed {seed}, difficulty {difficulty:g}"
    category = skeleton.to_category() | {"sigmas": list(skeleton.sigmas)}
    value = {"info": {"description": about}, "images": images, "annotations": annotations, "categories": [category]}
    write_json(folder / "labels.json", value)
    return folder / "labels.json"


def reduced(keypoints: Sequence[str]) -> Skeleton:
    """The preset lsp_14 with only some of its keypoints, in that order; raises UsageError for others."""
    full = PRESETS["lsp_14"]
    unknown = [name for name in keypoints if name not in full.keypoints]
    if unknown or len(keypoints) < 2 or len(set(keypoints)) < len(keypoints):
        raise UsageError(
            f"keypoints {', '.join(keypoints)}: expected two or more names, each once, of {', '.join(full.keypoints)}."
        )
    rows = [full.keypoints.index(name) for name in keypoints]
    partners = [full.keypoints[full.flip[row]] for row in rows]
    # A side without its partner keeps its name in a mirror image.
    flip = tuple(
        keypoints.index(partner if partner in keypoints else name)
        for partner, name in zip(partners, keypoints, strict=True)
    )
    ends = {name: end for name in keypoints if (end := _next(name, keypoints))}
    return replace(
        full,
        keypoints=tuple(keypoints),
        flip=flip,
        sigmas=tuple(full.sigmas[row] for row in rows),
        bones=tuple((keypoints.index(name), keypoints.index(end)) for name, end in ends.items()),
    )


def _next(name: str, keypoints: Sequence[str]) -> str:
    """The nearest of `keypoints` on the way from `name` to the neck, or an empty text."""
    side, _, part = name.rpartition("_")
    while name != "neck":
        part = _TOWARD_NECK.get(part, "neck")
        name = "neck" if part == "neck" else f"{side}_{part}"
        if name in keypoints:
            return name
    return ""

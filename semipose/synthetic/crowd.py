"""Pictures of several synthetic people, from well apart to overlapping, for detector-free networks.

A picture depends only on (seed, index) and the settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semipose.errors import UsageError
from semipose.pose.crowding import crowd_index
from semipose.pose.poses import Poses
from semipose.pose.skeleton import PRESETS, Skeleton
from semipose.synthetic.appearance import random_appearance
from semipose.synthetic.arrays import Bytes
from semipose.synthetic.background import background, photograph
from semipose.synthetic.body import KEYPOINTS, random_body, random_camera
from semipose.synthetic.canvas import Canvas
from semipose.synthetic.person import PersonRenderer
from semipose.synthetic.single import (
    SyntheticPerson,
    check_count,
    check_size,
    framed_camera,
    to_annotation,
    visible_extent,
    write_image,
)
from semipose.system.files import write_json

# Keypoints that can be distinguished in a picture of 128 pixels with eight people.
EIGHT_KEYPOINTS = (
    "right_ankle",
    "right_hip",
    "left_hip",
    "left_ankle",
    "right_wrist",
    "left_wrist",
    "neck",
    "head_top",
)
# Next part toward the neck: bones skip the keypoints that are left out.
_TOWARD_NECK = {
    "ankle": "knee",
    "knee": "hip",
    "hip": "neck",
    "wrist": "elbow",
    "elbow": "shoulder",
    "shoulder": "neck",
}
# Details of a pixel or two would take half of the time.
_WITHOUT_DETAILS: dict[str, Any] = {"outline": None, "front": "plain", "glasses": True, "backpack": False}


@dataclass(frozen=True)
class Crowd:
    """One picture (H, W, 3) RGB of several people, the farthest first; each has this picture as its `image`."""

    image: Bytes
    people: tuple[SyntheticPerson, ...]


def draw_crowd(
    seed: int,
    index: int,
    size: tuple[int, int] = (128, 128),
    difficulty: float = 0.3,
    *,
    people: tuple[int, int] = (2, 8),
) -> Crowd:
    """Draw picture `index` of the endless series `seed`, with at least `people[0]` and at most `people[1]` people.

    `size` is (H, W) pixels. The people's distance from each other is sampled for each picture, from apart to crowded.
    `difficulty` 0..1 as in `draw_person`. Keypoints behind nearer people count as hidden, 1.
    """
    check_size(size, difficulty)
    if not 1 <= people[0] <= people[1]:
        raise UsageError(f"people is {people}; expected the smallest and the largest number, at least 1.")
    place_rng, scene_rng, camera_rng = (np.random.default_rng((seed, index, stream)) for stream in range(3))
    picture, main_color = background(scene_rng, size, difficulty)
    angle = scene_rng.normal(-np.pi / 2, 0.9)
    light = np.array([np.cos(angle), np.sin(angle)])
    frames = _frames(place_rng, size, int(place_rng.integers(people[0], people[1] + 1)))
    renderers: list[PersonRenderer] = []
    for number, (center, frame) in enumerate(frames):
        rng = np.random.default_rng((seed, index, 3, number))
        body = random_body(rng, difficulty)
        camera = framed_camera(rng, body, random_camera(rng, difficulty), frame, rng.uniform(0.85, 0.98))
        shift = np.array(camera.shift) - (np.array(frame[::-1]) - 1) / 2 + center
        camera = replace(camera, shift=(float(shift[0]), float(shift[1])))
        canvas = Canvas(size, light, camera.scale)
        appearance = replace(random_appearance(rng, difficulty, main_color), **_WITHOUT_DETAILS)
        renderers.append(PersonRenderer(canvas, body, camera, appearance, owned=True))
        renderers[-1].draw()
        picture = canvas.over(picture)
    image = photograph(camera_rng, picture, difficulty)
    return Crowd(image, tuple(_person(image, one, renderers[row + 1 :]) for row, one in enumerate(renderers)))


def _frames(rng: np.random.Generator, size: tuple[int, int], count: int) -> list[tuple[NDArray[Any], tuple[int, int]]]:
    """Sample a center (x, y) and a frame (H, W) in pixels for each person, the farthest first."""
    height, width = size
    rows = 1 if count <= 3 else 2
    columns = -(-count // rows)
    closeness = rng.random()
    # Crowded people are also nearer to the camera; otherwise they would be small and all in the middle.
    growth = 0.9 + 0.65 * closeness
    frame = (int(min(0.95 * height, growth * height / rows)), int(min(0.95 * width, 1.25 * growth * width / columns)))
    cells = rng.permutation(rows * columns)[:count]
    grid = np.stack([(cells % columns + 0.5) * width / columns, (cells // columns + 0.5) * height / rows], 1)
    middle = np.array([width / 2, height / 2])
    centers = middle + (grid - middle) * (1 - 0.7 * closeness) + rng.normal(0, 0.02 * width, (count, 2))
    centers = centers[np.argsort(centers[:, 1], kind="stable")]
    return [(center - 0.5, frame) for center in centers]


def _person(image: Bytes, one: PersonRenderer, nearer: Sequence[PersonRenderer]) -> SyntheticPerson:
    keypoints, visible = one.keypoints(), one.visible()
    for row in np.flatnonzero(visible == 2).tolist():
        x, y = keypoints[row].tolist()
        visible[row] = 1 if any(other.canvas.owner_at(x, y) > 0 for other in nearer) else 2
    return SyntheticPerson(image, keypoints.astype(np.float32), visible, *visible_extent(one.canvas))


def crowding(people: Sequence[SyntheticPerson], names: Sequence[str] = KEYPOINTS) -> float:
    """Return CrowdPose's index of a picture by the keypoints `names`: 0 without overlap, above 0.8 crowded."""
    rows = [KEYPOINTS.index(name) for name in names]
    poses = Poses.blank(len(people), len(rows))
    poses.keypoints[:] = [one.keypoints[rows] for one in people]
    poses.visible[:] = [one.visible[rows] for one in people]
    poses.boxes[:] = [one.box for one in people]
    return float(crowd_index(poses, [0])[0])


def write_crowds(
    folder: str | Path,
    count: int,
    *,
    seed: int,
    size: tuple[int, int] = (128, 128),
    difficulty: float = 0.3,
    people: tuple[int, int] = (2, 8),
    keypoints: Sequence[str] = EIGHT_KEYPOINTS,
    first_index: int = 0,
) -> Path:
    """Write `count` pictures into `folder` as `images/*.jpg`, and a COCO keypoint json, whose path is returned.

    Only `keypoints`, names of the preset lsp_14, are labeled. An image's id is its index + 1, and it has a crowdIndex.
    """
    folder, skeleton = Path(folder), reduced_skeleton(keypoints)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(first_index, first_index + check_count(count)):
        crowd = draw_crowd(seed, index, size, difficulty, people=people)
        name = f"{index:07d}.jpg"
        write_image(folder / "images" / name, crowd.image)
        image = {"id": index + 1, "file_name": name, "width": size[1], "height": size[0]}
        images.append(image | {"crowdIndex": round(crowding(crowd.people, keypoints), 4)})
        for person in crowd.people:
            one = to_annotation(person, len(annotations) + 1, skeleton.keypoints)
            annotations.append(one | {"image_id": index + 1})
    about = f"crowds drawn by semipose, seed {seed}, difficulty {difficulty:g}"
    category = skeleton.to_category() | {"sigmas": list(skeleton.sigmas)}
    value = {"info": {"description": about}, "images": images, "annotations": annotations, "categories": [category]}
    write_json(folder / "labels.json", value)
    return folder / "labels.json"


def reduced_skeleton(keypoints: Sequence[str]) -> Skeleton:
    """Reduce the preset lsp_14 to some of its keypoints, in this order; raises UsageError for other names."""
    full = PRESETS["lsp_14"]
    unknown = [name for name in keypoints if name not in full.keypoints]
    if unknown or len(keypoints) < 2 or len(set(keypoints)) < len(keypoints):
        raise UsageError(
            f"keypoints are {', '.join(keypoints)}; expected two or more different names of "
            f"{', '.join(full.keypoints)}."
        )
    rows = [full.keypoints.index(name) for name in keypoints]
    partners = [full.keypoints[full.flip[row]] for row in rows]
    # A keypoint without its partner keeps its name in a mirror image.
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
    """Return the nearest of `keypoints` between `name` and the neck, or an empty text."""
    side, _, part = name.rpartition("_")
    while name != "neck":
        part = _TOWARD_NECK.get(part, "neck")
        name = "neck" if part == "neck" else f"{side}_{part}"
        if name in keypoints:
            return name
    return ""

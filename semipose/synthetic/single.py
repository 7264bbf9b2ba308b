"""Pictures of one synthetic person with exact keypoints, free of rights, for demos and tests.

A picture depends only on (seed, index) and the settings, not on which others are made. Keypoints are the 14 of the
preset lsp_14 in picture pixels; a pixel's center has integer coordinates. Files of people from overhead follow
WEPDTOF-Pose: its keypoint order and sigmas, and no areas.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semipose.errors import DataError, UsageError
from semipose.pose.skeleton import PRESETS
from semipose.synthetic.appearance import Appearance, random_appearance
from semipose.synthetic.arrays import Bytes
from semipose.synthetic.background import background, loose_limbs, occluder, photograph
from semipose.synthetic.body import KEYPOINTS, POINT, Body, Camera, random_body, random_camera
from semipose.synthetic.canvas import SUPERSAMPLING, Canvas
from semipose.synthetic.overhead import random_overhead
from semipose.synthetic.person import PersonRenderer
from semipose.system.files import write_json

MIN_SIDE = 32  # pixels; below it a wrist is no longer visible


@dataclass(frozen=True)
class SyntheticPerson:
    """A rendered person and its picture."""

    image: Bytes  # (H, W, 3) RGB
    keypoints: NDArray[np.float32]  # (14, 2) x, y in pixels, also where hidden or outside of the picture
    visible: Bytes  # (14,) 2 visible, 1 hidden, 0 outside of the picture
    box: NDArray[np.float32]  # (4,) x, y, w, h around the person's visible pixels
    area: float  # number of the person's visible pixels


def draw_person(
    seed: int,
    index: int,
    size: tuple[int, int] = (144, 112),
    difficulty: float = 0.5,
    *,
    fill: tuple[float, float] = (0.8, 0.95),
    occluders: int | None = None,
    overhead: bool = False,
) -> SyntheticPerson:
    """Draw person `index` of the endless series `seed`.

    `size` is (H, W) pixels. `difficulty` 0..1 raises the variety of poses, clothes, clutter and occlusion.
    The person covers a share of the picture within `fill`, measured along the tighter side. `occluders` is the number
    of occluders; None samples it by `difficulty`. With `overhead` the camera is a fisheye lens in the ceiling.
    """
    check_size(size, difficulty)
    streams = [np.random.default_rng((seed, index, stream)) for stream in range(4)]
    body_rng, appearance_rng, scene_rng, camera_rng = streams
    body = random_body(body_rng, difficulty)
    share = body_rng.uniform(*fill)
    if body_rng.random() < 0.08 * difficulty:
        share *= body_rng.uniform(1.1, 1.3)  # now and then a hand or a foot is cut off
    camera = framed_camera(body_rng, body, _viewpoint(body_rng, difficulty, overhead), size, share)
    scenery, main_color = background(scene_rng, size, difficulty)
    appearance = random_appearance(appearance_rng, difficulty, main_color)
    angle = scene_rng.normal(-np.pi / 2, 0.9)
    light = np.array([np.cos(angle), np.sin(angle)])

    canvas = Canvas(size, light, camera.scale)
    _add_distractors(scene_rng, canvas, appearance, difficulty, overhead)
    renderer = PersonRenderer(canvas, body, camera, appearance, owned=True)
    renderer.draw()
    if occluders is None:
        occluders = int(scene_rng.poisson(0.2 + 0.8 * difficulty))
    for _ in range(occluders):
        target = renderer.keypoints()[scene_rng.integers(len(KEYPOINTS))]
        occluder(scene_rng, canvas, target, appearance.skin)

    image = photograph(camera_rng, canvas.over(scenery), difficulty)
    box, area = visible_extent(canvas)
    return SyntheticPerson(image, renderer.keypoints().astype(np.float32), renderer.visible(), box, area)


def check_size(size: tuple[int, int], difficulty: float) -> None:
    """Raise UsageError for pictures that are too small, or a difficulty outside of 0..1."""
    if min(size) < MIN_SIDE:
        raise UsageError(f"size is {tuple(size)} (H, W); expected at least {MIN_SIDE} pixels on both sides.")
    if not 0 <= difficulty <= 1:
        raise UsageError(f"difficulty is {difficulty}; expected a number from 0 (easy) to 1 (hard).")


def _viewpoint(rng: np.random.Generator, difficulty: float, overhead: bool) -> Camera:
    return random_overhead(rng) if overhead else random_camera(rng, difficulty)


def framed_camera(rng: np.random.Generator, body: Body, camera: Camera, size: tuple[int, int], share: float) -> Camera:
    """Move and zoom the camera so that the person covers `share` of the picture, a little off center."""
    points = camera.project(body.points)
    radius = np.where(np.arange(len(points)) == POINT["head_top"], 0.01, 0.035)[:, None] * points[:, 3:]
    low, high = (points[:, :2] - radius).min(0), (points[:, :2] + radius).max(0)
    extent = np.array(size[::-1], float)
    scale = float((share * extent / (high - low)).min())
    # The person moves by at most 0.4 of the free space, so that both sides keep a margin.
    free = np.clip(extent - scale * (high - low), 0, None)
    center = (extent - 1) / 2 + rng.uniform(-0.4, 0.4, 2) * np.minimum(free, 0.2 * extent)
    shift = center - scale * (low + high) / 2
    return replace(camera, scale=scale, shift=(float(shift[0]), float(shift[1])))


def _add_distractors(
    rng: np.random.Generator, canvas: Canvas, appearance: Appearance, difficulty: float, overhead: bool
) -> None:
    """Paint other people, partly in the picture, and single limbs behind the person."""
    height, width = canvas.size
    for _ in range(min(2, rng.poisson(0.7 * difficulty))):
        other = _viewpoint(rng, difficulty, overhead)
        scale = canvas.unit * rng.uniform(0.6, 1.1)
        aside = rng.choice((-1, 1)) * rng.uniform(0.38, 0.62) * width
        middle = (width / 2 + aside, rng.uniform(0.35, 0.75) * height)
        camera = replace(other, scale=scale, shift=middle)
        clothes = appearance if rng.random() < 0.2 * difficulty else random_appearance(rng, difficulty)
        PersonRenderer(canvas, random_body(rng, difficulty), camera, clothes, owned=False).draw()
    loose_limbs(rng, canvas, appearance, int(rng.poisson(3 * difficulty)))


def visible_extent(canvas: Canvas) -> tuple[NDArray[np.float32], float]:
    """Return the box (4,) x, y, w, h around the person's pixels, and their number, in picture pixels."""
    owned = canvas.owned()
    x, y, w, h = (v / SUPERSAMPLING for v in cv2.boundingRect(owned))
    height, width = canvas.size
    # The outermost pixels end half a pixel beyond their centers; boxes stay within the picture's pixel centers.
    low = np.clip((x - 0.5, y - 0.5), 0, None)
    high = np.minimum((x + w - 0.5, y + h - 0.5), (width - 1, height - 1))
    box = np.array([*low, *(high - low).clip(0)], np.float32)
    return box, cv2.countNonZero(owned) / SUPERSAMPLING**2


def write_people(
    folder: str | Path,
    count: int,
    *,
    seed: int,
    size: tuple[int, int] = (144, 112),
    difficulty: float = 0.5,
    first_index: int = 0,
    fill: tuple[float, float] = (0.8, 0.95),
    overhead: bool = False,
) -> Path:
    """Write `count` pictures into `folder` as `images/*.jpg`, and a COCO keypoint json, whose path is returned.

    Ids of image and annotation are the person's index + 1. Keypoints outside of the picture are unlabeled. People from
    `overhead` have the keypoints and sigmas of WEPDTOF-Pose and, as there, a box but no area.
    """
    folder, skeleton = Path(folder), PRESETS["wepdtof_14" if overhead else "lsp_14"]
    check_size(size, difficulty)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(first_index, first_index + check_count(count)):
        person = draw_person(seed, index, size, difficulty, fill=fill, overhead=overhead)
        name = f"{index:07d}.jpg"
        write_image(folder / "images" / name, person.image)
        images.append({"id": index + 1, "file_name": name, "width": size[1], "height": size[0]})
        annotations.append(to_annotation(person, index + 1, skeleton.keypoints))
        if overhead:
            del annotations[-1]["area"]
    about = f"people drawn by semipose, seed {seed}, difficulty {difficulty:g}"
    category = skeleton.to_category()
    if overhead:  # AIC has the same names, but other sigmas
        category["sigmas"] = list(skeleton.sigmas)
    value = {"info": {"description": about}, "images": images, "annotations": annotations}
    write_json(folder / "labels.json", {**value, "categories": [category]})
    return folder / "labels.json"


def to_annotation(person: SyntheticPerson, number: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Return COCO annotation `number` of image `number`, with the keypoints `names`."""
    order = [KEYPOINTS.index(name) for name in names]
    visible = person.visible[order]
    labeled = visible > 0
    rows = np.column_stack([person.keypoints[order], visible]) * labeled[:, None]
    flat = [round(float(v), 2) for v in rows.ravel()]
    flat[2::3] = [int(v) for v in visible]
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": flat,
        "num_keypoints": int(labeled.sum()),
        "bbox": [round(float(v), 2) for v in person.box],
        "area": person.area,
        "iscrowd": 0,
    }


@dataclass(frozen=True)
class Demo:
    """Paths that `write_demo` wrote; each `*_images` folder belongs to the json before it."""

    labels: Path
    images: Path
    unlabeled: Path
    val: Path
    val_images: Path
    test: Path | None
    test_images: Path | None


def write_demo(
    folder: str | Path,
    *,
    labeled: int = 40,
    unlabeled: int = 2000,
    val: int = 200,
    test: int = 0,
    seed: int = 0,
    size: tuple[int, int] = (144, 112),
    difficulty: float = 0.5,
    overhead: bool = False,
) -> Demo:
    """Write the files of a small project: few labeled people, many unlabeled pictures, people to score on.

    Writes labels.json with images/ into `folder`; val/ and (for `test` > 0) test/ likewise; and frames/, pictures
    without labels, each filled by one person. The parts never share a person, and the size of one part does not change
    the others. `overhead` as in `write_people`.
    """
    folder = Path(folder)

    def write(name: str, count: int, part: int) -> Path:
        start = part * 1_000_000
        return write_people(
            folder / name, count, seed=seed, size=size, difficulty=difficulty, first_index=start, overhead=overhead
        )

    labels, scored = write("", labeled, 0), write("val", val, 2)
    frames = folder / "frames"
    for index in range(check_count(unlabeled)):
        person = draw_person(seed, 1_000_000 + index, size, difficulty, overhead=overhead)
        write_image(frames / f"{index:07d}.jpg", person.image)
    tested = write("test", test, 3) if test else None
    folders = {path: path.parent / "images" for path in (labels, scored, tested) if path}
    return Demo(labels, folders[labels], frames, scored, folders[scored], tested, folders[tested] if tested else None)


def check_count(count: int) -> int:
    """Return the number of pictures to make; raises UsageError below 0."""
    if count < 0:
        raise UsageError(f"the number of pictures is {count}; expected 0 or more.")
    return count


def write_image(path: Path, image: Bytes) -> None:
    """Write RGB (H, W, 3) as jpg, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
    if not done:
        raise DataError(f"{path}: the picture could not be encoded as jpg; this OpenCV has no jpg support.")
    # Unlike files.replacing without fsync: these pictures can be made again, and fsync would take seconds.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)

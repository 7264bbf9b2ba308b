"""People drawn by the program, with exact keypoints: pictures for demos and tests that belong to nobody.

A figure depends on (seed, index) and the settings only, not on which or how many others are drawn. Keypoints
are the 14 of the preset lsp_14 in picture pixels; a pixel's center has integer coordinates. Files of people seen from
overhead are in the manner of WEPDTOF-Pose: its order and sigmas, and no areas but those of boxes. Needs no torch.
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
from semipose.synthetic.appearance import Look, random_look
from semipose.synthetic.background import background, loose_limbs, occluder, photograph
from semipose.synthetic.body import KEYPOINTS, POINT, Body, Camera, random_body, random_camera
from semipose.synthetic.canvas import FINE, Bytes, Canvas
from semipose.synthetic.overhead import random_overhead
from semipose.synthetic.person import FigureDrawing
from semipose.system.files import write_json

SMALLEST = 32  # pixels; below it a wrist is no longer visible


@dataclass(frozen=True)
class Figure:
    """One drawn picture of one person."""

    image: Bytes  # (H, W, 3) RGB
    keypoints: NDArray[np.float32]  # (14, 2) x, y in pixels, also where hidden or outside of the picture
    visible: Bytes  # (14,) 2 seen, 1 hidden by the person or a thing, 0 outside of the picture
    box: NDArray[np.float32]  # (4,) x, y, w, h about the pixels of the person that are seen
    area: float  # pixels of the person that are seen


def draw_figure(
    seed: int,
    index: int,
    size: tuple[int, int] = (144, 112),
    difficulty: float = 0.5,
    *,
    fill: tuple[float, float] = (0.8, 0.95),
    occluders: int | None = None,
    overhead: bool = False,
) -> Figure:
    """Draw person `index` of the endless series `seed`.

    `size` is (H, W) pixels. `difficulty` 0..1 raises the variety of poses, clothes, clutter and occlusion.
    The person covers a share of the picture within `fill`, measured along the tighter side. `occluders` is the
    number of things in front of the person; None draws it by `difficulty`. With `overhead` a fisheye lens in the
    ceiling sees the person.
    """
    check_size(size, difficulty)
    streams = [np.random.default_rng((seed, index, stream)) for stream in range(4)]
    body_rng, look_rng, scene_rng, camera_rng = streams
    body = random_body(body_rng, difficulty)
    share = body_rng.uniform(*fill)
    if body_rng.random() < 0.08 * difficulty:
        share *= body_rng.uniform(1.1, 1.3)  # now and then a hand or a foot is cut off
    camera = framed(body_rng, body, _viewpoint(body_rng, difficulty, overhead), size, share)
    scenery, liked = background(scene_rng, size, difficulty)
    look = random_look(look_rng, difficulty, liked)
    way = scene_rng.normal(-np.pi / 2, 0.9)
    light = np.array([np.cos(way), np.sin(way)])

    canvas = Canvas(size, light, camera.scale)
    _distract(scene_rng, canvas, look, difficulty, overhead)
    drawing = FigureDrawing(canvas, body, camera, look, owned=True)
    drawing.draw()
    if occluders is None:
        occluders = int(scene_rng.poisson(0.2 + 0.8 * difficulty))
    for _ in range(occluders):
        target = drawing.keypoints()[scene_rng.integers(len(KEYPOINTS))]
        occluder(scene_rng, canvas, target, look.skin)

    image = photograph(camera_rng, canvas.over(scenery), difficulty)
    box, area = extent(canvas)
    return Figure(image, drawing.keypoints().astype(np.float32), drawing.visible(), box, area)


def check_size(size: tuple[int, int], difficulty: float) -> None:
    """Raise UsageError for pictures too small, or a difficulty beyond 0..1."""
    if min(size) < SMALLEST:
        raise UsageError(f"figures of size {tuple(size)} (H, W): both sides must be at least {SMALLEST} pixels.")
    if not 0 <= difficulty <= 1:
        raise UsageError(f"difficulty is {difficulty}; expected a number from 0 (easy) to 1 (hard).")


def _viewpoint(rng: np.random.Generator, difficulty: float, overhead: bool) -> Camera:
    return random_overhead(rng) if overhead else random_camera(rng, difficulty)


def framed(rng: np.random.Generator, body: Body, camera: Camera, size: tuple[int, int], share: float) -> Camera:
    """Move and zoom the camera so that the person covers `share` of the picture, a little off center."""
    seen = camera.project(body.points)
    thick = np.where(np.arange(len(seen)) == POINT["head_top"], 0.01, 0.035)[:, None] * seen[:, 3:]
    low, high = (seen[:, :2] - thick).min(0), (seen[:, :2] + thick).max(0)
    room = np.array(size[::-1], float)
    scale = float((share * room / (high - low)).min())
    # At most half of the free margin is given to one side.
    free = np.clip(room - scale * (high - low), 0, None)
    center = (room - 1) / 2 + rng.uniform(-0.4, 0.4, 2) * np.minimum(free, 0.2 * room)
    shift = center - scale * (low + high) / 2
    return replace(camera, scale=scale, shift=(float(shift[0]), float(shift[1])))


def _distract(rng: np.random.Generator, canvas: Canvas, look: Look, difficulty: float, overhead: bool) -> None:
    """Paint other people, partly in the picture, and single limbs behind the person."""
    height, width = canvas.size
    for _ in range(min(2, rng.poisson(0.7 * difficulty))):
        other = _viewpoint(rng, difficulty, overhead)
        scale = canvas.unit * rng.uniform(0.6, 1.1)
        aside = rng.choice((-1, 1)) * rng.uniform(0.38, 0.62) * width
        middle = (width / 2 + aside, rng.uniform(0.35, 0.75) * height)
        placed = replace(other, scale=scale, shift=middle)
        clothes = look if rng.random() < 0.2 * difficulty else random_look(rng, difficulty)
        FigureDrawing(canvas, random_body(rng, difficulty), placed, clothes, owned=False).draw()
    loose_limbs(rng, canvas, look, int(rng.poisson(3 * difficulty)))


def extent(canvas: Canvas) -> tuple[NDArray[np.float32], float]:
    """Box (4,) x, y, w, h about the person's pixels, and their number, both in picture pixels."""
    owned = canvas.owned()
    x, y, w, h = (v / FINE for v in cv2.boundingRect(owned))
    height, width = canvas.size
    # The outermost pixels end half a pixel beyond their centers; boxes stay among the centers of the picture.
    low = np.clip((x - 0.5, y - 0.5), 0, None)
    high = np.minimum((x + w - 0.5, y + h - 0.5), (width - 1, height - 1))
    box = np.array([*low, *(high - low).clip(0)], np.float32)
    return box, cv2.countNonZero(owned) / FINE**2


def write_figures(
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
    """Write `count` figures into `folder` as `images/*.jpg` and a COCO keypoint json, whose path is returned.

    Image and annotation ids are the figure's index + 1. Keypoints outside of the picture are unlabeled. Those seen from
    `overhead` have the keypoints and sigmas of WEPDTOF-Pose and, like its people, a box but no area.
    """
    folder, skeleton = Path(folder), PRESETS["wepdtof_14" if overhead else "lsp_14"]
    check_size(size, difficulty)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(first_index, first_index + counted(count, "figures")):
        figure = draw_figure(seed, index, size, difficulty, fill=fill, overhead=overhead)
        name = f"{index:07d}.jpg"
        write_image(folder / "images" / name, figure.image)
        images.append({"id": index + 1, "file_name": name, "width": size[1], "height": size[0]})
        annotations.append(annotation(figure, index + 1, skeleton.keypoints))
        if overhead:
            del annotations[-1]["area"]
    about = f"people drawn by semipose, seed {seed}, difficulty {difficulty:g}"
    category = skeleton.to_category()
    if overhead:  # the same names as AIC's, whose sigmas are others
        category["sigmas"] = list(skeleton.sigmas)
    value = {"info": {"description": about}, "images": images, "annotations": annotations}
    write_json(folder / "labels.json", {**value, "categories": [category]})
    return folder / "labels.json"


def annotation(figure: Figure, number: int, names: tuple[str, ...]) -> dict[str, Any]:
    """The COCO annotation `number` of image `number`, with the keypoints `names`."""
    order = [KEYPOINTS.index(name) for name in names]
    visible = figure.visible[order]
    seen = visible > 0
    rows = np.column_stack([figure.keypoints[order], visible]) * seen[:, None]
    flat = [round(float(v), 2) for v in rows.ravel()]
    flat[2::3] = [int(v) for v in visible]
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": flat,
        "num_keypoints": int(seen.sum()),
        "bbox": [round(float(v), 2) for v in figure.box],
        "area": figure.area,
        "iscrowd": 0,
    }


@dataclass(frozen=True)
class Demo:
    """Where `write_demo` put things; each `*_images` folder belongs to the json before it."""

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

    `folder` gets labels.json with images/; val/ and (for `test` > 0) test/ likewise; and frames/:
    pictures alone, each filled by one person, so the whole picture is its box. The parts never share a person, and
    the size of one part does not change the others. `overhead` as in `write_figures`.
    """
    folder = Path(folder)

    def write(name: str, count: int, part: int) -> Path:
        start = part * 1_000_000
        return write_figures(
            folder / name, count, seed=seed, size=size, difficulty=difficulty, first_index=start, overhead=overhead
        )

    labels, scored = write("", labeled, 0), write("val", val, 2)
    frames = folder / "frames"
    for index in range(counted(unlabeled, "unlabeled figures")):
        figure = draw_figure(seed, 1_000_000 + index, size, difficulty, overhead=overhead)
        write_image(frames / f"{index:07d}.jpg", figure.image)
    tested = write("test", test, 3) if test else None
    beside = {path: path.parent / "images" for path in (labels, scored, tested) if path}
    return Demo(labels, beside[labels], frames, scored, beside[scored], tested, beside[tested] if tested else None)


def counted(count: int, what: str) -> int:
    """`count` itself; raises UsageError below 0."""
    if count < 0:
        raise UsageError(f"{count} {what} were asked for; expected 0 or more.")
    return count


def write_image(path: Path, image: Bytes) -> None:
    """Write RGB (H, W, 3) as jpg; the name appears with the whole picture or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
    if not done:
        raise DataError(f"{path}: the picture could not be encoded as jpg; this OpenCV has no jpg support.")
    # No fsync as in files.replacing: pictures that can be drawn again are not worth seconds of disk time.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)

"""Predict poses in new pictures: COCO results, a COCO json to correct and train on, and drawings."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from semipose.crops.crop import read_image
from semipose.data.people import People
from semipose.drawing import save_jpeg
from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats import find_format
from semipose.formats.unlabeled import find_files
from semipose.formats.video import Clip, frame_name, is_video
from semipose.inference.kind import NetworkKind
from semipose.inference.model import Model
from semipose.inference.options import EvalOptions
from semipose.pose.poses import RESCORE_THRESHOLD, Poses
from semipose.pose.skeleton import Skeleton
from semipose.runs.open_model import as_model
from semipose.runs.run import Run
from semipose.system.files import write_json


def predict(
    run: Run | Model | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    device: str = "auto",
    flip_test: bool = False,
    detections: str | Path | None = None,
    draw: bool = True,
    which: str = "best",
    scales: Sequence[float] = (1.0,),
    rescore: bool = False,
) -> Path:
    """Predict all people in `inputs` and write the results to folder `out`, which is returned.

    `inputs` are images, folders, globs, lists, jsons with boxes, and videos. Without boxes each image is one person. A
    frame of a video is called "clip.mp4/000123.jpg" (number 123, from 0). Images that cannot be decoded are skipped and
    counted. The options are those of `evaluate`. Written are:

    - `predictions.json`: COCO keypoint results.
    - `poses.json`: a whole COCO json with images, category and predictions as annotations. Keypoints with a score of
      0.2 or less are left unlabeled. Of the people that a detector-free network finds, it leaves out those with a
      score of 0.2 or less.
    - `drawings/`, with `draw`.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not inputs:
        raise UsageError("predict: no input given; expected images, folders, globs or videos.")
    options = EvalOptions(device=device, flip_test=flip_test, scales=tuple(scales), rescore=rescore)
    model, out = as_model(run, which, options), Path(out)
    labels = [source for source in inputs if find_format(source) is not None]
    found = find_files([source for source in inputs if source not in labels])
    images = [*labels, *(file for file in found.files if not is_video(file))]
    videos = [Path(file) for file in found.files if is_video(file)]
    if videos and detections is not None:
        raise UsageError(f"--detections is for images, and {videos[0]} is a video; cut it into frames first.")
    model.check_boxes(detections=detections)
    output = Output(out, model.skeleton, model.kind, draw)
    output.notes += found.notes
    if images:
        _predict_images(model, images, output, detections, options)
    for video in videos:
        _predict_video(model, video, output, options)
    output.write(
        {
            "checkpoint": str(model.file),
            "flip_test": flip_test,
            "scales": list(scales),
            "rescored": rescore,
            "boxes": ",".join(output.box_sources),
            "images": ",".join(output.folders),
            "skipped": output.skipped,
            "notes": output.notes,
        }
    )
    return out


class Output:
    """Collects the results of a network and writes the files of folder `out`; nothing is written outside of it."""

    def __init__(self, out: Path, skeleton: Skeleton, kind: NetworkKind, draw: bool) -> None:
        self.out, self.skeleton, self.kind, self.draw = out, skeleton, kind, draw
        self.images: list[dict[str, Any]] = []
        self.parts: list[Poses] = []
        self.skipped: list[str] = []
        self.box_sources: list[str] = []
        self.folders: list[str] = []
        self.notes: list[str] = []
        self._names: set[str] = set()

    def drawing(self, source: str | Path, ending: str) -> Path:
        """Return a free file name for the drawing of `source`."""
        stem = re.sub(r"[^\w.-]", "_", Path(source).stem).strip(".") or "image"
        name, number = stem, 1
        # Folded: on some systems a.jpg and A.jpg are one file.
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.casefold())
        file = self.out / "drawings" / f"{name}{ending}"
        if not file.resolve().is_relative_to(self.out.resolve()):
            raise DataError(f"{file.parent} is a link out of {self.out}; remove it or choose another --out.")
        return file

    def drawn(self, image: NDArray[np.uint8], poses: Poses) -> NDArray[np.uint8]:
        """Return `image` (H, W, 3) RGB with `poses` drawn on it."""
        return self.kind.draw(image, poses, self.skeleton)

    def write(self, how: dict[str, Any]) -> None:
        """Write both json files and print a summary."""
        poses = Poses.concatenate([Poses.empty(len(self.skeleton)), *self.parts])
        rescored = self.kind.rescored
        write_json(self.out / "predictions.json", poses.to_coco_results(rescored=rescored))
        poses = self.kind.confident_people(poses)
        write_json(self.out / "poses.json", coco(poses, self.images, self.skeleton, how, rescored))
        console = Console(stderr=True)
        text = f"{len(poses)} people in {len(self.images)} images -> {self.out}"
        if self.skipped:
            text += f"; {len(self.skipped)} could not be decoded and were skipped: {', '.join(self.skipped[:3])}"
        console.print("\n".join([text, *self.notes]), markup=False, highlight=False)


def coco(
    poses: Poses, images: list[dict[str, Any]], skeleton: Skeleton, how: dict[str, Any], rescored: bool = True
) -> dict[str, Any]:
    """Return `poses` as a whole COCO json, in which keypoints with a score of 0.2 or less are unlabeled."""
    annotations = []
    for number, result in enumerate(poses.to_coco_results(rescored=rescored), 1):
        triples = np.asarray(result["keypoints"], np.float64).reshape(-1, 3)
        confident = triples[:, 2] > RESCORE_THRESHOLD
        labels = np.column_stack([triples[:, :2], np.full(len(triples), 2)]) * confident[:, None]
        annotations.append(
            {
                "id": number,
                "image_id": result["image_id"],
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": labels.round(3).ravel().tolist(),
                "num_keypoints": int(confident.sum()),
                "bbox": result["bbox"],
                "area": result["bbox"][2] * result["bbox"][3],
                "score": result["score"],
                "keypoint_scores": triples[:, 2].round(4).tolist(),
            }
        )
    about = {"description": "predicted by semipose", **how}
    return {"info": about, "images": images, "annotations": annotations, "categories": [skeleton.to_category()]}


def _predict_images(
    model: Model,
    sources: list[str | Path],
    output: Output,
    detections: str | Path | None,
    options: EvalOptions,
) -> None:
    """Predict images and jsons, and draw them."""
    people = model.kind.read_inputs(sources, model.skeleton, detections)
    output.box_sources.append(model.kind.box_source(people.box_source))
    if len(people) == 0:
        raise DataError(f"{people.source}: no person to predict; expected at least one image, or one box in the json.")
    output.notes += people.notes
    store = model.store(people, options)
    output.skipped += store.unreadable
    people = store.people
    files, ids = people.images.files, _image_ids(people)
    # Predictions carry the ids of their rows.
    people.poses.image_ids = ids[people.image_index]
    poses = model.predict_store(store, options)
    output.parts.append(poses)
    base = _common_folder(files)
    for position, (file, number) in enumerate(zip(files, ids.tolist(), strict=True)):
        if output.draw:
            _draw_image(file, poses[poses.image_ids == number], output)
        height, width = _size_of(file, people.images.sizes[position])
        name = Path(os.path.relpath(file, base)).as_posix()
        output.images.append({"id": number, "file_name": name, "width": width, "height": height})
    output.folders.append(str(base))


def _predict_video(model: Model, video: Path, output: Output, options: EvalOptions) -> None:
    """Predict each frame as an image without boxes; the drawing is a video too."""
    first = 1 + max((image["id"] for image in output.images), default=0)
    output.box_sources.append(model.kind.box_source("image"))
    clip = Clip(video)
    with contextlib.ExitStack() as stack:
        film = stack.enter_context(_Film(output.drawing(video, ".mp4"), video)) if output.draw else None
        for frames, poses in model.watch(clip, options):
            for number, frame in frames:
                height, width = frame.shape[:2]
                output.images.append(
                    {
                        "id": first + number,
                        "file_name": frame_name(video, number),
                        "width": width,
                        "height": height,
                        "frame_id": number,
                    }
                )
                if film is not None:
                    film.add(frame, poses[poses.image_ids == number], output)
            poses.image_ids = poses.image_ids + first
            output.parts.append(poses)
    if clip.fault:
        output.notes.append(f"{video}: {clip.fault}")


def _image_ids(people: People) -> NDArray[np.int64]:
    """Return the images' ids, or new numbers if several sources use the same id."""
    ids = people.images.ids
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64)


def _common_folder(files: Sequence[str]) -> Path:
    """Return the deepest folder that holds all `files`: with it as --images, poses.json serves as labels."""
    return Path(os.path.commonpath([os.path.dirname(file) for file in files]))


def _size_of(file: str, known: NDArray[np.int64]) -> tuple[int, int]:
    """Return (H, W) of an image, read from the file if `known` is (0, 0)."""
    height, width = known.tolist()
    image = None if height else read_image(file)
    return (height, width) if image is None else (image.shape[0], image.shape[1])


def _draw_image(file: str, poses: Poses, output: Output) -> None:
    image = read_image(file)
    if image is None:
        raise DataError(f"{file}: could be decoded a moment ago and cannot now: was it changed or moved?")
    save_jpeg(output.drawing(file, ".jpg"), output.drawn(image, poses))


class _Film:
    """A video file written frame by frame, at the frame rate of `like`; it appears whole or not at all."""

    def __init__(self, path: Path, like: Path) -> None:
        import cv2

        source = cv2.VideoCapture(str(like))
        self.path, self.rate = path, source.get(cv2.CAP_PROP_FPS) or 25.0
        source.release()
        # The container is chosen by the ending, so the temporary name keeps it.
        self.temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self.writer: Any = None

    def __enter__(self) -> "_Film":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: NDArray[np.uint8], poses: Poses, output: Output) -> None:
        """Append `frame` (H, W, 3) BGR with `poses` drawn on it."""
        import cv2

        if self.writer is None:
            size = (frame.shape[1], frame.shape[0])
            self.writer = cv2.VideoWriter(str(self.temporary), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, size)
            if not self.writer.isOpened():
                raise SemiposeError(f"{self.path}: OpenCV cannot write mp4 videos here; run again with --no-draw.")
        drawn = output.drawn(frame[..., ::-1], poses)
        self.writer.write(np.ascontiguousarray(drawn[..., ::-1]))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.writer is None:
            return
        self.writer.release()
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)

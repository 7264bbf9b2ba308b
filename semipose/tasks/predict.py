"""Poses of people in new pictures: COCO results, a COCO json that can be corrected and trained on, and drawings."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from semipose.errors import DataError, SemiposeError, UsageError
from semipose.formats.video import Clip, frame_name, is_video
from semipose.pose.poses import RESCORE_THRESHOLD, Poses
from semipose.pose.skeleton import Skeleton
from semipose.runs.open_model import as_model
from semipose.runs.run import Run
from semipose.system.files import write_json

if TYPE_CHECKING:
    from semipose.data.people import People
    from semipose.inference.model import Model


def predict(
    run: "Run | Model | str | Path",
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
    """Predict every person in `inputs` (images, folders, globs, lists, jsons with boxes, videos) into folder `out`.

    Every frame of a video is one whole-picture person, called "clip.mp4/000123.jpg" (number 123, from 0). A
    detector-free network finds everybody in each image or frame; who is scored 0.2 or less is only in
    `predictions.json`.
    Writes `predictions.json` (COCO keypoint results), `poses.json` (a whole COCO json: the images' names, the
    category, and the predictions as annotations; keypoints scored below 0.2 are left unlabeled) and, with `draw`,
    `drawings/`. Images that cannot be decoded are skipped and counted. Returns `out`.
    """
    from semipose.formats import find_format
    from semipose.formats.unlabeled import find_files

    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not inputs:
        raise UsageError("predict: no input given; expected images, folders, globs or videos.")
    model, out = as_model(run, which, rescore, device), Path(out)
    labels = [source for source in inputs if find_format(source) is not None]
    found = find_files([source for source in inputs if source not in labels])
    images = [*labels, *(file for file in found.files if not is_video(file))]
    videos = [Path(file) for file in found.files if is_video(file)]
    if videos and detections is not None:
        raise UsageError(f"--detections is for images, and {videos[0]} is a video; cut it into frames first.")
    model.refuse_boxes(detections=detections)
    output = Output(out, model.skeleton, draw, model.detector_free)
    output.notes += found.notes
    if images:
        _predict_images(model, images, output, detections, device, flip_test, scales)
    for video in videos:
        _predict_video(model, video, output, device, flip_test, scales)
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
    """The files of folder `out`; nothing is written anywhere else, whatever the inputs are called."""

    def __init__(self, out: Path, skeleton: Skeleton, draw: bool, detector_free: bool = False) -> None:
        self.out, self.skeleton, self.draw, self.detector_free = out, skeleton, draw, detector_free
        self.images: list[dict[str, Any]] = []
        self.parts: list[Poses] = []
        self.skipped: list[str] = []
        self.box_sources: list[str] = []
        self.folders: list[str] = []
        self.notes: list[str] = []
        self._names: set[str] = set()

    def drawing(self, source: str | Path, ending: str) -> Path:
        """A file name for the drawing of `source`, that no other has taken."""
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
        """`image` (H, W, 3) RGB with `poses` on it; several people have a color each."""
        from semipose.drawing import draw, left_to_right, person_colors

        if not self.detector_free:
            return draw(image, poses, self.skeleton)
        # The order of scores would change from frame to frame.
        poses = left_to_right(poses.confident())
        return draw(image, poses, self.skeleton, colors=person_colors(len(poses)))

    def write(self, how: dict[str, Any]) -> None:
        """Write both json files and say what came out."""
        poses = Poses.concatenate([Poses.empty(len(self.skeleton)), *self.parts])
        rescored = not self.detector_free
        write_json(self.out / "predictions.json", poses.to_coco_results(rescored=rescored))
        poses = poses.confident() if self.detector_free else poses
        write_json(self.out / "poses.json", coco(poses, self.images, self.skeleton, how, rescored))
        console = Console(stderr=True)
        text = f"{len(poses)} people in {len(self.images)} images -> {self.out}"
        if self.skipped:
            text += f"; {len(self.skipped)} could not be decoded and were skipped: {', '.join(self.skipped[:3])}"
        console.print("\n".join([text, *self.notes]), markup=False, highlight=False)


def coco(
    poses: Poses, images: list[dict[str, Any]], skeleton: Skeleton, how: dict[str, Any], rescored: bool = True
) -> dict[str, Any]:
    """`poses` as a whole COCO json; keypoints that are hardly sure (score <= 0.2) are unlabeled in it."""
    annotations = []
    for number, result in enumerate(poses.to_coco_results(rescored=rescored), 1):
        triples = np.asarray(result["keypoints"], np.float64).reshape(-1, 3)
        sure = triples[:, 2] > RESCORE_THRESHOLD
        labels = np.column_stack([triples[:, :2], np.full(len(triples), 2)]) * sure[:, None]
        annotations.append(
            {
                "id": number,
                "image_id": result["image_id"],
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": labels.round(3).ravel().tolist(),
                "num_keypoints": int(sure.sum()),
                "bbox": result["bbox"],
                "area": result["bbox"][2] * result["bbox"][3],
                "score": result["score"],
                "keypoint_scores": triples[:, 2].round(4).tolist(),
            }
        )
    about = {"description": "predicted by semipose", **how}
    return {"info": about, "images": images, "annotations": annotations, "categories": [skeleton.to_category()]}


def _predict_images(
    model: "Model",
    sources: Sequence[str | Path],
    output: Output,
    detections: str | Path | None,
    device: str,
    flip_test: bool,
    scales: Sequence[float],
) -> None:
    from semipose.formats.unlabeled import load_unlabeled
    from semipose.system.device import choose_device

    people = load_unlabeled(
        sources, skeleton=model.skeleton, detections=detections, sampling=None, whole_images=model.detector_free
    )
    output.box_sources.append("none" if model.detector_free else people.box_source)
    if len(people) == 0:
        raise DataError(f"{people.source}: no person to predict; expected at least one image, or one box in the json.")
    output.notes += people.notes
    store = model.store(people, choose_device(device), scales=scales)
    output.skipped += store.unreadable
    people = store.people
    files, ids = people.images.files, _image_ids(people)
    # So that whoever is found says in which image.
    people.poses.image_ids = ids[people.image_index]
    poses = model.predict_store(store, flip_test=flip_test, scales=scales)
    output.parts.append(poses)
    base = _common_folder(files)
    for position, (file, number) in enumerate(zip(files, ids.tolist(), strict=True)):
        if output.draw:
            _draw_image(file, poses[poses.image_ids == number], output)
        height, width = _size_of(file, people.images.sizes[position])
        name = Path(os.path.relpath(file, base)).as_posix()
        output.images.append({"id": number, "file_name": name, "width": width, "height": height})
    output.folders.append(str(base))


def _predict_video(
    model: "Model", video: Path, output: Output, device: str, flip_test: bool, scales: Sequence[float]
) -> None:
    """One whole-picture person in every frame, or all that are found; the drawing is a video too."""
    first = 1 + max((image["id"] for image in output.images), default=0)
    output.box_sources.append("none" if model.detector_free else "image")
    clip = Clip(video)
    with contextlib.ExitStack() as stack:
        film = stack.enter_context(_Film(output.drawing(video, ".mp4"), video)) if output.draw else None
        for frames, poses in model.watch(clip, device=device, flip_test=flip_test, scales=scales):
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


def _image_ids(people: "People") -> NDArray[np.int64]:
    """The images' ids; numbered anew where several sources use the same id."""
    ids = people.images.ids
    return ids if len(np.unique(ids)) == len(ids) else np.arange(1, len(ids) + 1, dtype=np.int64)


def _common_folder(files: Sequence[str]) -> Path:
    """The deepest folder that holds all `files`: with it as --images, poses.json serves as labels."""
    return Path(os.path.commonpath([os.path.dirname(file) for file in files]))


def _size_of(file: str, known: NDArray[np.int64]) -> tuple[int, int]:
    """(H, W) of an image; read from the file where the reader did not need it."""
    from semipose.crops.crop import read_image

    height, width = known.tolist()
    image = None if height else read_image(file)
    return (height, width) if image is None else (image.shape[0], image.shape[1])


def _draw_image(file: str, poses: Poses, output: Output) -> None:
    from semipose.crops.crop import read_image
    from semipose.drawing import save_jpeg

    image = read_image(file)
    if image is None:
        raise DataError(f"{file}: could be decoded a moment ago and cannot now: was it changed or moved?")
    save_jpeg(output.drawing(file, ".jpg"), output.drawn(image, poses))


class _Film:
    """A video file written frame by frame, at the speed of `like`; it appears whole or not at all."""

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

"""Everything a run trains and chooses on: labels, unlabeled images and validation, with notes on what was assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.people import People
from semipose.data.splits import FEWEST, group_field, hold_out, load_split
from semipose.errors import DataError, UsageError
from semipose.formats.coco import load_divided, load_labels
from semipose.formats.unlabeled import load_unlabeled
from semipose.formats.video import Sampling
from semipose.pose.skeleton import Skeleton

Place = str | Path


@dataclass
class Data:
    """The streams of a run. `val_source` says where validation comes from; `notes` what was read, assumed, left out."""

    labeled: People
    unlabeled: People | None
    val: People | None
    val_source: str
    notes: list[str] = field(default_factory=list)
    # What `load` was called with, as json: a run that is resumed reads its data again. None for data made otherwise.
    arguments: dict[str, Any] | None = None
    # Whether it is for detector-free networks: with crowds, people without keypoints and images without people.
    whole_images: bool = False

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton that all streams share."""
        return skeleton_of(self.labeled)

    def for_whole_images(self) -> "Data":
        """The same data as a detector-free network needs it, read again where it was loaded otherwise."""
        if self.whole_images:
            return self
        if self.arguments is None:
            raise UsageError(
                "this data holds only people with keypoints, and a detector-free network needs whole images, with all "
                "that is to be ignored in them: load it with semipose.load(..., whole_images=True)."
            )
        return load(**self.arguments | {"whole_images": True})


def load(
    labels: Place,
    images: Place,
    unlabeled: Place | Sequence[Place] | None = None,
    val: Place | None = None,
    val_images: Place | None = None,
    split: Place | None = None,
    skeleton: Place | None = None,
    seed: int = 0,
    detections: Place | None = None,
    video_stride: int = Sampling.stride,
    video_change: float = Sampling.change,
    whole_images: bool = False,
) -> Data:
    """Read COCO keypoint `labels` of `images`, unlabeled images and validation labels.

    `unlabeled`: folders, globs, list files, videos or jsons, see `load_unlabeled`. `split`: a file that divides
    `labels` into labeled and unlabeled images; labels of the second kind are never read. `val` with `val_images`
    (default `images`); without it 20 % of the labeled people, at least 20, are held out by `seed`, none when fewer
    than 40 are labeled.
    `skeleton`: a small yaml of overrides. `detections`: boxes for the unlabeled images. `video_stride` and
    `video_change` choose frames of unlabeled videos, see `semipose.formats.video.Sampling`. `whole_images` is for
    detector-free networks: boxes of unlabeled images are not read, images are counted and held out instead of people,
    and kept are images without people, and crowds and people without keypoints, which are to be ignored.
    """
    sampling = Sampling(video_stride, video_change)
    if whole_images and detections is not None:
        raise UsageError(f"--detections {detections}: a detector-free network takes no boxes; leave it out.")
    sources = [] if unlabeled is None else [unlabeled] if isinstance(unlabeled, str | Path) else list(unlabeled)
    labeled, stream = _streams(labels, images, sources, split, skeleton, detections, sampling, whole_images)
    shared = skeleton_of(labeled)
    notes = [_summary("labeled", labeled, whole_images), f"OKS sigmas: {shared.sigmas_source}", *labeled.notes]
    if stream is not None:
        notes += [_summary("unlabeled", stream, whole_images), *stream.notes]
    if val is not None:
        held: People | None = _validation(val, val_images or images, skeleton, shared, whole_images)
        train, source = labeled, str(val)
    else:
        train, held = hold_out(labeled, seed=seed, whole_images=whole_images)
        source = _held_out_source(labeled, held, seed, whole_images)
    if held is not None:
        notes += [
            _summary("validation", held, whole_images),
            *(f"validation: {note}" for note in held.notes if val is not None),
        ]
    arguments = {
        "labels": _place(labels),
        "images": _place(images),
        "unlabeled": [_place(place) for place in sources],
        "val": _place(val),
        "val_images": _place(val_images),
        "split": _place(split),
        "skeleton": _place(skeleton),
        "seed": seed,
        "detections": _place(detections),
        "video_stride": video_stride,
        "video_change": video_change,
        "whole_images": whole_images,
    }
    return Data(train, stream, held, source, [*notes, f"validation comes from {source}"], arguments, whole_images)


def _streams(
    labels: Place,
    images: Place,
    sources: list[Place],
    split: Place | None,
    skeleton: Place | None,
    detections: Place | None,
    sampling: Sampling,
    whole_images: bool,
) -> tuple[People, People | None]:
    """The labeled people, and the unlabeled ones of the split and of all `sources`."""
    parts: list[People] = []
    if split is None:
        labeled = load_labels(labels, images, skeleton_file=skeleton, everyone=whole_images)
    else:
        divided = load_split(split)
        if whole_images and divided.people is not None:
            raise UsageError(
                f"--split {split}: it divides the people of an image, and a detector-free network sees whole images; "
                "divide the images."
            )
        labeled, hidden = load_divided(
            labels, images, *divided, skeleton_file=skeleton, detections=detections, whole_images=whole_images
        )
        parts = [hidden] if len(hidden) else []
    if sources:
        parts.append(
            load_unlabeled(
                sources,
                skeleton=skeleton_of(labeled),
                images_dir=images,
                detections=detections,
                sampling=sampling,
                whole_images=whole_images,
            )
        )
    else:
        sampling.refuse_without([])
    stream = People.concatenate(parts).select(slice(None)) if parts else None
    return labeled if whole_images else labeled.select(slice(None)), stream


def _place(place: Place | None) -> str | None:
    """Absolute, so that a run can be resumed from any folder."""
    return None if place is None else str(Path(place).absolute())


def skeleton_of(people: People) -> Skeleton:
    """The skeleton of people that were read with labels."""
    if people.skeleton is None:
        raise DataError(f"{people.source}: these people have no skeleton; load them with semipose.load.")
    return people.skeleton


def _validation(
    path: Place, images: Place, skeleton_file: Place | None, skeleton: Skeleton, whole_images: bool
) -> People:
    people = load_labels(path, images, skeleton_file=skeleton_file, everyone=whole_images)
    found = skeleton_of(people).keypoints
    if found != skeleton.keypoints:
        odd = [name for name in found if name not in skeleton.keypoints]
        what = (
            f"unknown are {', '.join(odd)}" if odd else f"the same names in another order or number: {', '.join(found)}"
        )
        raise DataError(
            f"{path}: the keypoints of the validation labels differ from those of the labels; {what}. "
            f"Expected, in this order: {', '.join(skeleton.keypoints)}."
        )
    return replace(people if whole_images else people.select(slice(None)), skeleton=skeleton)


def _held_out_source(labeled: People, held: People | None, seed: int, whole_images: bool) -> str:
    what, every = ("images", len(labeled.images)) if whole_images else ("people", len(labeled))
    if held is None:
        few = (
            f"{every} labeled {what} are fewer than {FEWEST}"
            if every < FEWEST
            else f"one image or group holds most {what}"
        )
        return f"nowhere: {few}, so the last checkpoint is used"
    group, some = group_field(labeled), len(held.images if whole_images else held)
    unit = f"whole groups of {group}" if group else "whole images"
    return f"{some} of {every} labeled {what}, held out as {unit} by seed {seed}"


def _summary(name: str, people: People, whole_images: bool) -> str:
    if whole_images:
        labeled = f" with {people.labeled.sum()} people" if name != "unlabeled" else ""
        return f"{name}: {len(people.images)} whole images{labeled} ({people.source})"
    images = len(np.unique(people.image_index))
    return f"{name}: {len(people)} people in {images} images, boxes: {people.box_source} ({people.source})"

"""Everything a run trains and chooses on: labels, unlabeled images and validation, with notes on what was assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.coco import load_divided, load_labels
from semipose.data.people import People
from semipose.data.splits import FEWEST, group_field, hold_out, load_split
from semipose.data.unlabeled import load_unlabeled
from semipose.data.video import Sampling
from semipose.errors import DataError
from semipose.skeleton import Skeleton

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

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton that all streams share."""
        return skeleton_of(self.labeled)


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
) -> Data:
    """Read COCO keypoint `labels` of `images`, unlabeled images and validation labels.

    `unlabeled`: folders, globs, list files, videos or jsons, see `load_unlabeled`. `split`: a file that divides
    `labels` into labeled and unlabeled images; labels of the second kind are never read. `val` with `val_images`
    (default `images`); without it 20 % of the labeled people, at least 20, are held out by `seed`, none when fewer
    than 40 are labeled.
    `skeleton`: a small yaml of overrides. `detections`: boxes for the unlabeled images. `video_stride` and
    `video_change` choose frames of unlabeled videos, see `semipose.data.video.Sampling`.
    """
    sampling = Sampling(video_stride, video_change)
    sources = [] if unlabeled is None else [unlabeled] if isinstance(unlabeled, str | Path) else list(unlabeled)
    parts: list[People] = []
    if split is None:
        labeled = load_labels(labels, images, skeleton_file=skeleton)
    else:
        labeled, divided = load_divided(
            labels, images, *load_split(split), skeleton_file=skeleton, detections=detections
        )
        parts = [divided] if len(divided) else []
    shared = skeleton_of(labeled)
    if sources:
        parts.append(
            load_unlabeled(sources, skeleton=shared, images_dir=images, detections=detections, sampling=sampling)
        )
    else:
        sampling.refuse_without([])
    labeled = labeled.select(slice(None))
    stream = People.concatenate(parts).select(slice(None)) if parts else None
    notes = [_summary("labeled", labeled), f"OKS sigmas: {shared.sigmas_source}", *labeled.notes]
    if stream is not None:
        notes += [_summary("unlabeled", stream), *stream.notes]
    if val is not None:
        held: People | None = _validation(val, val_images or images, skeleton, shared)
        train, source = labeled, str(val)
    else:
        train, held = hold_out(labeled, seed=seed)
        source = _held_out_source(labeled, held, seed)
    if held is not None:
        notes += [
            _summary("validation", held),
            *(f"validation: {note}" for note in held.notes if val is not None),
        ]
    arguments = {
        "labels": _place(labels), "images": _place(images), "unlabeled": [_place(place) for place in sources],
        "val": _place(val), "val_images": _place(val_images), "split": _place(split), "skeleton": _place(skeleton),
        "seed": seed, "detections": _place(detections), "video_stride": video_stride, "video_change": video_change,
    }  # fmt: skip
    return Data(train, stream, held, source, [*notes, f"validation comes from {source}"], arguments)


def _place(place: Place | None) -> str | None:
    """Absolute, so that a run can be resumed from any folder."""
    return None if place is None else str(Path(place).absolute())


def skeleton_of(people: People) -> Skeleton:
    """The skeleton of people that were read with labels."""
    if people.skeleton is None:
        raise DataError(f"{people.source}: these people have no skeleton; load them with semipose.load.")
    return people.skeleton


def _validation(path: Place, images: Place, skeleton_file: Place | None, skeleton: Skeleton) -> People:
    people = load_labels(path, images, skeleton_file=skeleton_file)
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
    return replace(people.select(slice(None)), skeleton=skeleton)


def _held_out_source(labeled: People, held: People | None, seed: int) -> str:
    if held is None:
        few = (
            f"{len(labeled)} labeled people are fewer than {FEWEST}"
            if len(labeled) < FEWEST
            else "one image or group holds most people"
        )
        return f"nowhere: {few}, so the last checkpoint is used"
    group = group_field(labeled)
    unit = f"whole groups of {group}" if group else "whole images"
    return f"{len(held)} of {len(labeled)} labeled people, held out as {unit} by seed {seed}"


def _summary(name: str, people: People) -> str:
    images = len(np.unique(people.image_index))
    return f"{name}: {len(people)} people in {images} images, boxes: {people.box_source} ({people.source})"

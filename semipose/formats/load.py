"""Load the data of a run: labeled people, unlabeled images and a validation set."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.people import People
from semipose.data.splits import MIN_LABELED_FOR_VAL, group_field, hold_out, load_split
from semipose.errors import DataError, UsageError
from semipose.formats.labels import load_labels, load_split_labels
from semipose.formats.unlabeled import load_unlabeled
from semipose.formats.video import Sampling
from semipose.pose.names import counted, plural
from semipose.pose.skeleton import Skeleton

Place = str | Path


@dataclass
class Data:
    """The data of a run. `val_source` says where `val` comes from; `notes` say what was read, assumed and skipped."""

    labeled: People
    unlabeled: People | None
    val: People | None
    val_source: str
    notes: list[str] = field(default_factory=list)
    # The arguments of `load`, as json: a resumed run reads its data again. None for data that was not loaded.
    arguments: dict[str, Any] | None = None
    # True for detector-free networks: with crowds, people without keypoints and images without people.
    whole_images: bool = False

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton that all streams share."""
        return skeleton_of(self.labeled)

    def for_whole_images(self) -> "Data":
        """Return the data as a detector-free network needs it, loading it again if necessary."""
        if self.whole_images:
            return self
        if self.arguments is None:
            raise UsageError(
                "this data holds only people with keypoints. A detector-free network also needs crowds, people without "
                "keypoints and images without people: load it with semipose.load(..., whole_images=True)."
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
    """Load `labels` of the `images`, unlabeled images and validation labels.

    - `unlabeled`: folders, globs, list files, videos or label files, see `load_unlabeled`.
    - `split`: a file that divides `labels` into labeled and unlabeled images. Labels of unlabeled images are not read.
    - `val` with `val_images` (default `images`): validation labels. Without it 20 % of the labeled people, at least
      20, are held out by `seed`; none if fewer than 40 are labeled.
    - `skeleton`: a small yaml that overrides parts of the labels' category.
    - `detections`: boxes for the unlabeled images.
    - `video_stride`, `video_change`: choose the frames of unlabeled videos, see `semipose.formats.video.Sampling`.
    - `whole_images`: for detector-free networks. Boxes of unlabeled images are not read, and images instead of people
      are counted and held out. Images without people are kept, and so are crowds and people without keypoints, which
      training ignores.
    """
    sampling = Sampling(video_stride, video_change)
    if whole_images and detections is not None:
        raise UsageError(f"--detections {detections}: a detector-free network takes no boxes; drop the flag.")
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
    return Data(train, stream, held, source, [*notes, _validation_note(held, source)], arguments, whole_images)


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
    """Load the labeled people, and the unlabeled people of the split and of all `sources`."""
    parts: list[People] = []
    if split is None:
        labeled = load_labels(labels, images, skeleton_file=skeleton, include_ignored=whole_images)
    else:
        divided = load_split(split)
        if whole_images and divided.people is not None:
            raise UsageError(
                f"--split {split}: it divides the people of an image, but a detector-free network trains on whole "
                "images. Use a split that divides the images."
            )
        labeled, hidden = load_split_labels(
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
        sampling.refuse_if_unused([])
    stream = People.concatenate(parts).select(slice(None)) if parts else None
    return labeled if whole_images else labeled.select(slice(None)), stream


def _place(place: Place | None) -> str | None:
    """Make a path absolute, so that a run can be resumed from any folder."""
    return None if place is None else str(Path(place).absolute())


def skeleton_of(people: People) -> Skeleton:
    """Return the skeleton of people that were loaded with labels; raises DataError without one."""
    if people.skeleton is None:
        raise DataError(f"{people.source}: these people have no skeleton; load them with semipose.load.")
    return people.skeleton


def _validation(
    path: Place, images: Place, skeleton_file: Place | None, skeleton: Skeleton, whole_images: bool
) -> People:
    people = load_labels(path, images, skeleton_file=skeleton_file, include_ignored=whole_images)
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


def _validation_note(held: People | None, source: str) -> str:
    if held is not None:
        return f"validation comes from {source}"
    reason = source.removeprefix("none: ")
    return f"No validation set: {reason}. The last checkpoint is used; pass --val to measure accuracy."


def _held_out_source(labeled: People, held: People | None, seed: int, whole_images: bool) -> str:
    category = skeleton_of(labeled).name
    what, every = ("images", len(labeled.images)) if whole_images else (plural(category), len(labeled))
    if held is None:
        few = (
            f"fewer than {MIN_LABELED_FOR_VAL} labeled {what} (found {every})"
            if every < MIN_LABELED_FOR_VAL
            else f"one image or group holds most of the {what}"
        )
        return f"none: {few}"
    group, some = group_field(labeled), len(held.images if whole_images else held)
    unit = f"whole groups of {group}" if group else "whole images"
    return f"{some} of {every} labeled {what}, held out as {unit} by seed {seed}"


def _summary(name: str, people: People, whole_images: bool) -> str:
    category = skeleton_of(people).name
    if whole_images:
        labeled = f" with {counted(int(people.labeled.sum()), category)}" if name != "unlabeled" else ""
        return f"{name}: {len(people.images)} whole images{labeled} ({people.source})"
    images = len(np.unique(people.image_index))
    return f"{name}: {counted(len(people), category)} in {images} images, boxes: {people.box_source} ({people.source})"

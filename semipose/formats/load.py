"""Read everything a run trains and validates on: labels, unlabeled images and validation, with notes on assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semipose.data.people import People
from semipose.data.splits import load_split
from semipose.errors import DataError, UsageError
from semipose.formats.labels import load_split_labels
from semipose.formats.rows import FilePath, RowKind, rows_of, validation_note, validation_source
from semipose.formats.unlabeled import load_unlabeled
from semipose.formats.video import Sampling
from semipose.pose.skeleton import Skeleton


@dataclass
class Data:
    """The streams of a run.

    `val_source` says where validation comes from, `notes` what was read, assumed and left out. `arguments` are those of
    `load` as json, so that a resumed run reads its data again; None for data made otherwise. `whole_images` is True for
    detector-free networks: the data then holds crowds, people without keypoints and images without people.
    """

    labeled: People
    unlabeled: People | None
    val: People | None
    val_source: str
    notes: list[str] = field(default_factory=list)
    arguments: dict[str, Any] | None = None
    whole_images: bool = False

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton that all streams share."""
        return require_skeleton(self.labeled)

    @property
    def rows(self) -> RowKind:
        """Kind of a stream's rows: people or whole images."""
        return rows_of(self.whole_images)

    def for_whole_images(self) -> "Data":
        """Return the same data for a detector-free network, read again if it was loaded for crops."""
        if self.whole_images:
            return self
        if self.arguments is None:
            raise UsageError(
                "this data holds only people with keypoints, and a detector-free network needs whole images with "
                "everything to ignore in them: load it with semipose.load(..., whole_images=True)."
            )
        return load(**self.arguments | {"whole_images": True})


def load(
    labels: FilePath,
    images: FilePath,
    unlabeled: FilePath | Sequence[FilePath] | None = None,
    val: FilePath | None = None,
    val_images: FilePath | None = None,
    split: FilePath | None = None,
    skeleton: FilePath | None = None,
    seed: int = 0,
    detections: FilePath | None = None,
    video_stride: int = Sampling.stride,
    video_change: float = Sampling.change,
    whole_images: bool = False,
) -> Data:
    """Load `labels` of the `images`, unlabeled images and validation labels.

    - `unlabeled`: folders, globs, list files, videos or jsons, see `load_unlabeled`.
    - `val`, `val_images` (default `images`): validation labels. Without them 20 % of the labeled people, at least 20,
      are held out by `seed`; none if fewer than 40 are labeled.
    - `split`: a file that divides `labels` into labeled and unlabeled images; the labels of the latter are never read.
    - `skeleton`: a small yaml of overrides.
    - `detections`: boxes for the unlabeled images.
    - `video_stride`, `video_change`: choose frames of unlabeled videos, see `semipose.formats.video.Sampling`.
    - `whole_images`: for detector-free networks. Boxes of unlabeled images are not read; images are counted and held
      out instead of people. Images without people, crowds and people without keypoints are kept.
    """
    rows = rows_of(whole_images)
    rows.check_detections(detections)
    sampling = Sampling(video_stride, video_change)
    sources = [] if unlabeled is None else [unlabeled] if isinstance(unlabeled, FilePath) else list(unlabeled)
    labeled, hidden = _labeled_streams(rows, labels, images, split, skeleton, detections)
    stream = _unlabeled_stream(rows, require_skeleton(labeled), hidden, sources, images, detections, sampling)
    train, held_out, source = _validation_streams(rows, labeled, val, val_images or images, skeleton, seed)
    notes = [
        rows.summary("labeled", labeled),
        f"OKS sigmas: {require_skeleton(labeled).sigmas_source}",
        *labeled.notes,
        *([rows.summary("unlabeled", stream), *stream.notes] if stream is not None else []),
        *([rows.summary("validation", held_out)] if held_out is not None else []),
        *(f"validation: {note}" for note in (held_out.notes if held_out is not None and val is not None else ())),
        validation_note(held_out, source),
    ]
    arguments = {
        "labels": _absolute(labels),
        "images": _absolute(images),
        "unlabeled": [_absolute(path) for path in sources],
        "val": _absolute(val),
        "val_images": _absolute(val_images),
        "split": _absolute(split),
        "skeleton": _absolute(skeleton),
        "seed": seed,
        "detections": _absolute(detections),
        "video_stride": video_stride,
        "video_change": video_change,
        "whole_images": whole_images,
    }
    return Data(train, stream, held_out, source, notes, arguments, whole_images)


def _labeled_streams(
    rows: RowKind,
    labels: FilePath,
    images: FilePath,
    split: FilePath | None,
    skeleton: FilePath | None,
    detections: FilePath | None,
) -> tuple[People, People | None]:
    """Read the labeled people, and the unlabeled people of the split."""
    if split is None:
        return rows.without_empty_images(rows.read_labels(labels, images, skeleton)), None
    divided = load_split(split)
    rows.check_split(split, divides_people=divided.people is not None)
    labeled, hidden = load_split_labels(
        labels, images, *divided, skeleton_file=skeleton, detections=detections, whole_images=rows.whole_images
    )
    return rows.without_empty_images(labeled), hidden if len(hidden) else None


def _unlabeled_stream(
    rows: RowKind,
    skeleton: Skeleton,
    hidden: People | None,
    sources: list[FilePath],
    images: FilePath,
    detections: FilePath | None,
    sampling: Sampling,
) -> People | None:
    """Join the unlabeled people of the split, `hidden`, with those of all `sources`; None if there are none."""
    parts = [] if hidden is None else [hidden]
    if sources:
        parts.append(
            load_unlabeled(
                sources,
                skeleton=skeleton,
                images_dir=images,
                detections=detections,
                sampling=sampling,
                whole_images=rows.whole_images,
            )
        )
    else:
        sampling.refuse_if_unused([])
    return People.concatenate(parts).select(slice(None)) if parts else None


def _validation_streams(
    rows: RowKind, labeled: People, val: FilePath | None, val_images: FilePath, skeleton: FilePath | None, seed: int
) -> tuple[People, People | None, str]:
    """Return the people to train on, those to validate on, and where the latter come from."""
    if val is not None:
        return labeled, _read_validation(rows, val, val_images, skeleton, require_skeleton(labeled)), str(val)
    train, held_out = rows.hold_out(labeled, seed)
    return train, held_out, validation_source(rows, labeled, held_out, seed)


def _absolute(path: FilePath | None) -> str | None:
    """Make `path` absolute, so that a run can be resumed from any folder."""
    return None if path is None else str(Path(path).absolute())


def require_skeleton(people: People) -> Skeleton:
    """Return the skeleton of people that were read with labels."""
    if people.skeleton is None:
        raise DataError(f"{people.source}: these people have no skeleton; load them with semipose.load.")
    return people.skeleton


def _read_validation(
    rows: RowKind, path: FilePath, images: FilePath, skeleton_file: FilePath | None, skeleton: Skeleton
) -> People:
    people = rows.read_labels(path, images, skeleton_file)
    found = require_skeleton(people).keypoints
    if found != skeleton.keypoints:
        unknown = [name for name in found if name not in skeleton.keypoints]
        what = (
            f"unknown are {', '.join(unknown)}"
            if unknown
            else f"the same names in another order or number: {', '.join(found)}"
        )
        raise DataError(
            f"{path}: the keypoints of the validation labels differ from those of the labels; {what}. "
            f"Expected, in this order: {', '.join(skeleton.keypoints)}."
        )
    return replace(rows.without_empty_images(people), skeleton=skeleton)

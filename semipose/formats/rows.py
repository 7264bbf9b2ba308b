"""Kinds of rows in a stream: a person with a box, or a whole image.

Each class reads label files, counts, holds out validation rows and describes streams for its kind of row.
"""

from pathlib import Path

import numpy as np

from semipose.data.people import People
from semipose.data.splits import MIN_LABELED_FOR_VAL, group_field, hold_out
from semipose.errors import UsageError
from semipose.formats.labels import load_labels
from semipose.pose.names import counted, plural

FilePath = str | Path


class PeopleRows:
    """A row is one person in a crop: networks that see one person at a time train on these."""

    unit = "people"
    whole_images = False

    def read_labels(
        self, labels: FilePath, images: FilePath, skeleton: FilePath | None = None, detections: FilePath | None = None
    ) -> People:
        """Read the people with labeled keypoints of a COCO json; all its images are kept."""
        return load_labels(labels, images, skeleton_file=skeleton, detections=detections)

    def without_empty_images(self, people: People) -> People:
        """Drop the images that hold no row."""
        return people.select(slice(None))

    def count(self, people: People) -> int:
        """Return the number of rows."""
        return len(people)

    def hold_out(self, people: People, seed: int) -> tuple[People, People | None]:
        """Split `people` into training and validation rows, see `semipose.data.splits.hold_out`."""
        return hold_out(people, seed=seed)

    def summary(self, stream: str, people: People) -> str:
        """Describe a stream in one line."""
        images, total = len(np.unique(people.image_index)), counted(len(people), category_of(people))
        return f"{stream}: {total} in {images} images, boxes: {people.box_source} ({people.source})"

    def check_detections(self, detections: FilePath | None) -> None:
        """Accept boxes for unlabeled images."""

    def check_split(self, split: FilePath, divides_people: bool) -> None:
        """Accept splits of images and of the people in them."""


class ImageRows:
    """A row is one whole image, with crowds and people without keypoints, which the losses ignore.

    Images without people are kept. Detector-free networks train on these.
    """

    unit = "images"
    whole_images = True

    def read_labels(
        self, labels: FilePath, images: FilePath, skeleton: FilePath | None = None, detections: FilePath | None = None
    ) -> People:
        """Read all people of a COCO json, also crowds and people without keypoints; boxes are never replaced."""
        self.check_detections(detections)
        return load_labels(labels, images, skeleton_file=skeleton, include_ignored=True)

    def without_empty_images(self, people: People) -> People:
        """Keep all images: one without people is a row as well."""
        return people

    def count(self, people: People) -> int:
        """Return the number of rows."""
        return len(people.images)

    def hold_out(self, people: People, seed: int) -> tuple[People, People | None]:
        """Split the images of `people` into training and validation, see `semipose.data.splits.hold_out`."""
        return hold_out(people, seed=seed, whole_images=True)

    def summary(self, stream: str, people: People) -> str:
        """Describe a stream in one line."""
        total = counted(int(people.labeled.sum()), category_of(people))
        labeled = f" with {total}" if stream != "unlabeled" else ""
        return f"{stream}: {len(people.images)} whole images{labeled} ({people.source})"

    def check_detections(self, detections: FilePath | None) -> None:
        """Raise a UsageError if boxes are given."""
        if detections is not None:
            raise UsageError(f"--detections {detections}: a detector-free network takes no boxes; drop the flag.")

    def check_split(self, split: FilePath, divides_people: bool) -> None:
        """Raise a UsageError if the split divides the people of an image."""
        if divides_people:
            raise UsageError(
                f"--split {split}: it divides the people of an image, but a detector-free network trains on whole "
                "images. Use a split that divides the images."
            )


RowKind = PeopleRows | ImageRows


def rows_of(whole_images: bool) -> RowKind:
    """Return the kind of row of a network that sees whole images, or one person at a time."""
    return ImageRows() if whole_images else PeopleRows()


def validation_source(rows: RowKind, labeled: People, held_out: People | None, seed: int) -> str:
    """Describe where the validation rows come from: held out of `labeled`, or why none are."""
    total, unit = rows.count(labeled), rows.unit if rows.whole_images else plural(category_of(labeled))
    if held_out is None:
        few = f"fewer than {MIN_LABELED_FOR_VAL} labeled {unit} (found {total})"
        return f"none: {few if total < MIN_LABELED_FOR_VAL else f'one image or group holds most of the {unit}'}"
    group = group_field(labeled)
    kept_whole = f"whole groups of {group}" if group else "whole images"
    return f"{rows.count(held_out)} of {total} labeled {unit}, held out as {kept_whole} by seed {seed}"


def validation_note(held_out: People | None, source: str) -> str:
    """Describe the validation set for the notes of a run; `source` is that of `validation_source`."""
    if held_out is not None:
        return f"validation comes from {source}"
    reason = source.removeprefix("none: ")
    return f"No validation set: {reason}. The last checkpoint is used; pass --val to measure accuracy."


def category_of(people: People) -> str:
    """Return the name of the people's category, for messages."""
    return people.skeleton.name if people.skeleton else "person"

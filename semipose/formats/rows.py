"""What one row of a stream is: a person with a box, or a whole image.

Each class reads label files, counts, holds out validation rows and describes streams for its kind of row.
"""

from pathlib import Path

import numpy as np

from semipose.data.people import People
from semipose.data.splits import FEWEST, group_field, hold_out
from semipose.errors import UsageError
from semipose.formats.coco import load_labels

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
        images = len(np.unique(people.image_index))
        return f"{stream}: {len(people)} people in {images} images, boxes: {people.box_source} ({people.source})"

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
        return load_labels(labels, images, skeleton_file=skeleton, everyone=True)

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
        labeled = f" with {people.labeled.sum()} people" if stream != "unlabeled" else ""
        return f"{stream}: {len(people.images)} whole images{labeled} ({people.source})"

    def check_detections(self, detections: FilePath | None) -> None:
        """Raise a UsageError if boxes are given."""
        if detections is not None:
            raise UsageError(f"--detections {detections}: a detector-free network takes no boxes; leave it out.")

    def check_split(self, split: FilePath, divides_people: bool) -> None:
        """Raise a UsageError if the split divides the people of an image."""
        if divides_people:
            raise UsageError(
                f"--split {split}: it divides the people of an image, and a detector-free network sees whole images; "
                "divide the images."
            )


RowKind = PeopleRows | ImageRows


def rows_of(whole_images: bool) -> RowKind:
    """Return the kind of row of a network that sees whole images, or one person at a time."""
    return ImageRows() if whole_images else PeopleRows()


def validation_source(rows: RowKind, labeled: People, held_out: People | None, seed: int) -> str:
    """Describe where the validation rows come from: held out of `labeled`, or why none are."""
    total = rows.count(labeled)
    if held_out is None:
        why = (
            f"{total} labeled {rows.unit} are fewer than {FEWEST}"
            if total < FEWEST
            else f"one image or group holds most {rows.unit}"
        )
        return f"nowhere: {why}, so the last checkpoint is used"
    group = group_field(labeled)
    unit = f"whole groups of {group}" if group else "whole images"
    return f"{rows.count(held_out)} of {total} labeled {rows.unit}, held out as {unit} by seed {seed}"

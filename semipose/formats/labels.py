"""Load labeled people, in any label format, as `People`."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.image_size import image_sizes
from semipose.data.paths import image_folder
from semipose.data.people import People
from semipose.data.splits import refuse_unknown, refuse_unknown_people
from semipose.data.unposed import ImageBoxes, unposed_people, whole_image_boxes
from semipose.errors import DataError, UsageError
from semipose.formats import read_table
from semipose.formats.categories import read_skeleton_file
from semipose.formats.detections import Detections, detected_boxes, load_detections
from semipose.formats.label_format import LabelTable, ReadOptions
from semipose.pose.names import plural
from semipose.pose.poses import AREA_SHARE, Poses
from semipose.pose.skeleton import Skeleton

Rows = NDArray[np.int64]
BoxRule = Literal["auto", "given", "keypoints", "image"]


def load_labels(
    path: str | Path,
    images_dir: str | Path,
    *,
    skeleton_file: str | Path | None = None,
    boxes: BoxRule = "auto",
    detections: str | Path | None = None,
    include_ignored: bool = False,
) -> People:
    """Load the labeled people of `path` and all of its images, which are in `images_dir`.

    `boxes`: "auto" takes the given box, else the hull of the labeled keypoints, else the whole image. The hull is
    enlarged on every side by 12 % of its longer side. The other rules take only what they name; "keypoints" takes the
    whole image where a single keypoint is labeled. `detections` (COCO results) replaces a person's box by the detection
    that overlaps it most. `skeleton_file` is a small yaml, see `Skeleton.from_category`.

    Crowd regions and people without a labeled keypoint are skipped. `include_ignored` keeps them, for evaluations that
    ignore predictions there. Raises DataError that names every faulty entry.
    """
    if boxes not in ("auto", "given", "keypoints", "image"):
        raise UsageError(f"boxes is {boxes!r}; expected auto, given, keypoints or image.")
    override = read_skeleton_file(skeleton_file)
    options = ReadOptions(Path(path), image_folder(images_dir), override, boxes, include_ignored=include_ignored)
    table = read_table(options)
    return _labeled_people(table, options, _skeleton(table, options, skeleton_file), _detections(table, detections))


def load_split_labels(
    path: str | Path,
    images_dir: str | Path,
    labeled_ids: Collection[int],
    unlabeled_ids: Collection[int],
    labeled_people: Collection[int] | None = None,
    *,
    skeleton_file: str | Path | None = None,
    detections: str | Path | None = None,
    whole_images: bool = False,
) -> tuple[People, People]:
    """Load the labeled people of some images of `path`, and of other images only the boxes: (labeled, unlabeled).

    Labels outside of the labeled images are hidden: never decoded, so without any influence. `labeled_people`, ids of
    annotations, hides also the labels of all other people in the labeled images. The unlabeled people are given or
    detected boxes, see `unlabeled_people`.

    `whole_images` keeps ignored people and images without people, as `include_ignored` of `load_labels` does, and
    makes each unlabeled image one unposed person.
    """
    override = read_skeleton_file(skeleton_file)
    options = ReadOptions(
        Path(path),
        image_folder(images_dir),
        override,
        "auto",
        labeled_ids=frozenset(labeled_ids),
        labeled_people=None if labeled_people is None else frozenset(labeled_people),
        include_ignored=whole_images,
    )
    table = read_table(options)
    refuse_unknown(labeled_ids, unlabeled_ids, table.images.ids, str(path))
    if labeled_people is not None:
        refuse_unknown_people(labeled_people, table.ids[~table.hidden], str(path))
    skeleton = _skeleton(table, options, skeleton_file)
    detected = _detections(table, detections)
    unlabeled = unlabeled_people(table, skeleton, detected, str(path), unlabeled_ids, whole_images)
    labeled = _labeled_people(table, options, skeleton, None)
    return labeled.within(~table.hidden_images) if whole_images else labeled, unlabeled


def unlabeled_people(
    table: LabelTable,
    skeleton: Skeleton,
    detected: Detections | None,
    source: str,
    image_ids: Collection[int] | None = None,
    whole_images: bool = False,
) -> People:
    """Return the people of unlabeled images, unposed: detected boxes, else the boxes of the table.

    An image whose people have no box becomes one person, and every image does when no person has a box. Images
    without a person are skipped. With `whole_images` every image is one person. `image_ids` default to all images
    whose labels are hidden.
    """
    images = table.images
    chosen = table.hidden_images
    if image_ids is not None:
        chosen = chosen & np.isin(images.ids, np.fromiter(image_ids, np.int64))
    rows = np.flatnonzero(chosen)
    if whole_images:
        boxes = whole_image_boxes(images, rows)
    elif detected is not None:
        boxes = detected_boxes(images, rows, detected, by_name=False)
    else:
        boxes = _given_boxes(table, rows, chosen[table.image_index] & ~table.crowd)
    first_id = int(table.ids.max(initial=0)) + 1
    people = unposed_people(images, boxes, len(skeleton), source, first_id)
    return replace(people, skeleton=skeleton)


def _given_boxes(table: LabelTable, image_rows: Rows, wanted: NDArray[np.bool_]) -> ImageBoxes:
    boxed = np.flatnonzero(wanted & table.boxed)
    boxed = boxed[np.argsort(table.image_index[boxed], kind="stable")]
    boxes = ImageBoxes.of(table.image_index[boxed], table.boxes[boxed].astype(np.float32), box.GIVEN)
    with_people = np.unique(table.image_index[wanted]) if len(boxed) else image_rows
    without_box = np.setdiff1d(with_people, boxes.image_index)
    if len(without_box):
        boxes = boxes.merge(whole_image_boxes(table.images, without_box))
    empty = len(image_rows) - len(with_people)
    if empty:
        boxes = replace(boxes, notes=(*boxes.notes, f"unlabeled images skipped, as nothing is marked there: {empty}"))
    return boxes


def _skeleton(table: LabelTable, options: ReadOptions, skeleton_file: str | Path | None) -> Skeleton:
    try:
        return Skeleton.from_category(table.categories[0], options.override, override_source=f"file {skeleton_file}")
    except DataError as error:
        raise DataError(f"{options.path}: {error}") from error


def _detections(table: LabelTable, path: str | Path | None) -> Detections | None:
    return None if path is None else load_detections(path, frozenset(one["id"] for one in table.categories))


def _labeled_people(table: LabelTable, options: ReadOptions, skeleton: Skeleton, detected: Detections | None) -> People:
    labeled = table.labeled & ~table.crowd
    if not labeled.any():
        raise DataError(
            f"{options.path}: none of the {int((~table.hidden).sum())} annotations has a labeled keypoint (every "
            "visibility is 0), so there is nothing to learn. If it came from CVAT, draw a skeleton rather than points "
            "and export 'COCO Keypoints 1.0'."
        )
    rows = np.flatnonzero(~table.hidden if options.include_ignored else labeled)
    visible = table.keypoints[rows, :, 2].astype(np.uint8)
    boxes, sources = _choose_boxes(table, rows, options)
    scores = np.ones(len(rows), np.float32)
    if detected is not None:
        _replace_boxes(table, rows, detected, boxes, sources, scores)
    areas = np.where(table.areas[rows] > 0, table.areas[rows], box.box_areas(boxes)).astype(np.float32)
    poses = Poses(
        keypoints=table.keypoints[rows, :, :2].astype(np.float32),
        scores=(visible > 0).astype(np.float32),
        visible=visible,
        boxes=boxes,
        image_ids=table.images.ids[table.image_index[rows]],
        ids=table.ids[rows],
        areas=areas,
        crowd=table.crowd[rows],
        box_scores=scores,
    )
    return People(
        images=table.images,
        image_index=table.image_index[rows],
        poses=poses,
        skeleton=skeleton,
        box_source=box.describe(sources),
        source=str(options.path),
        notes=tuple(_notes(table, rows, options, skeleton.name)),
        outlines=table.outlines,
    )


def _choose_boxes(table: LabelTable, rows: Rows, options: ReadOptions) -> tuple[box.Boxes, Rows]:
    """Boxes (N, 4) by the rule in `options`, and where each comes from."""
    boxes = table.boxes[rows].astype(np.float32)
    sources = np.where(table.boxed[rows], box.GIVEN, box.IMAGE)
    if options.boxes in ("auto", "keypoints"):
        without = np.flatnonzero(sources == box.IMAGE)
        keypoints = table.keypoints[rows[without]]
        hulls, known = box.keypoint_hulls(keypoints[..., :2], keypoints[..., 2])
        boxes[without[known]], sources[without[known]] = hulls[known], box.KEYPOINTS
    whole = np.flatnonzero(sources == box.IMAGE)
    images, inverse = np.unique(table.image_index[rows[whole]], return_inverse=True)
    sizes = image_sizes([table.images.files[i] for i in images])
    unreadable = [table.images.files[i] for i in images[sizes.min(1, initial=1) == 0]]
    if unreadable:
        raise DataError(
            f"{options.path}: {len(unreadable)} labeled images cannot be read, such as {unreadable[0]}; expected image "
            "files. Replace them or take them out of the labels."
        )
    boxes[whole] = box.boxes_of_sizes(sizes)[inverse]
    return boxes, sources


def _replace_boxes(
    table: LabelTable,
    rows: Rows,
    detected: Detections,
    boxes: box.Boxes,
    sources: Rows,
    scores: NDArray[np.float32],
) -> None:
    """Replace boxes in place by the detections that overlap them."""
    index = table.image_index[rows]
    order = np.argsort(index, kind="stable")
    for people in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        candidates = detected.rows_of(int(table.images.ids[index[people[0]]]))
        match = box.match(boxes[people], detected.boxes[candidates])
        matched, taken = people[match >= 0], candidates[match[match >= 0]]
        boxes[matched], scores[matched] = detected.boxes[taken], detected.scores[taken]
        sources[matched] = box.DETECTIONS


def _notes(table: LabelTable, rows: Rows, options: ReadOptions, category: str) -> Iterator[str]:
    read = ~table.hidden
    crowds, unposed = int((read & table.crowd).sum()), int((read & ~table.crowd & ~table.labeled).sum())
    action = "kept, to be ignored" if options.include_ignored else "skipped"
    if crowds:
        yield f"crowd regions {action}: {crowds}"
    if unposed:
        yield f"{plural(category)} without a labeled keypoint {action}: {unposed}"
    unnamed = int((table.hidden & ~table.hidden_images[table.image_index] & ~table.crowd).sum())
    if unnamed:
        yield f"{plural(category)} in labeled images skipped, as the split does not name them: {unnamed}"
    estimated = int((table.areas[rows] <= 0).sum())
    if estimated:
        yield f"{plural(category)} without an area: {estimated}; OKS takes {AREA_SHARE} of their box"

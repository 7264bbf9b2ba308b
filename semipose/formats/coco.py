"""COCO keypoint json in, `People` out."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from semipose.data import boxes as box
from semipose.data.image_size import image_sizes
from semipose.data.paths import image_folder
from semipose.data.people import People
from semipose.data.splits import refuse_unknown, refuse_unknown_people
from semipose.data.unposed import BoxRows, blank_people, whole_image_rows
from semipose.errors import DataError, UsageError
from semipose.formats.categories import read_skeleton_file
from semipose.formats.coco_errors import explain_errors, without_labels
from semipose.formats.coco_records import CocoTable, InvalidCoco, ReadOptions, parse_coco
from semipose.formats.detections import Detections, detected_rows, load_detections
from semipose.pose.poses import AREA_SHARE, Poses
from semipose.pose.skeleton import Skeleton

Rows = NDArray[np.int64]
# The last is for ids beyond 64 bits.
UNREADABLE = (msgspec.MsgspecError, InvalidCoco, OverflowError)
BoxRule = Literal["auto", "given", "keypoints", "image"]


def load_labels(
    path: str | Path,
    images_dir: str | Path,
    *,
    skeleton_file: str | Path | None = None,
    boxes: BoxRule = "auto",
    detections: str | Path | None = None,
    everyone: bool = False,
) -> People:
    """The labeled people of a COCO keypoint json whose images lie in `images_dir`; all its images are kept.

    `boxes`: "auto" takes the box given, else the hull of the labeled keypoints enlarged by 12 % of its longer
    side on every side, else the whole image; the other rules take only what they say, and "keypoints" the whole
    image where a single keypoint is labeled. `detections` (COCO results) replaces a person's box by the detection
    that overlaps it most. `skeleton_file` is a small yaml, see `Skeleton.from_category`.

    Crowd regions and people without a labeled keypoint are left out, or kept with `everyone` (evaluators ignore
    them). Raises DataError that names every fault by entry.
    """
    if boxes not in ("auto", "given", "keypoints", "image"):
        raise UsageError(f"boxes is {boxes!r}; expected auto, given, keypoints or image.")
    override = read_skeleton_file(skeleton_file)
    request = ReadOptions(Path(path), image_folder(images_dir), override, boxes, everyone=everyone)
    table = read_table(request)
    return _labeled(table, request, skeleton_of(table, request, skeleton_file), _detections(table, detections))


def load_divided(
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
    """One json for both streams: the labeled people of some images, and of others only the boxes.

    Keypoints, visibilities and areas outside of the labeled images are never decoded, so whatever they are has no
    influence. The unlabeled people are given or detected boxes, see `blind_people`. Where `labeled_people` are given,
    only these annotations of the labeled images are used, and the labels of the others are not read either.

    With `whole_images` everybody of the labeled images is kept, as with `everyone` of `load_labels`, and each of the
    other images is one blank person, whoever is said to be in it. The images of both are those of their own side.
    """
    override = read_skeleton_file(skeleton_file)
    named = None if labeled_people is None else frozenset(labeled_people)
    request = ReadOptions(
        Path(path), image_folder(images_dir), override, "auto", frozenset(labeled_ids), named, everyone=whole_images
    )
    table = read_table(request)
    refuse_unknown(labeled_ids, unlabeled_ids, table.images.ids, str(path))
    if named is not None:
        refuse_unknown_people(named, table.ids[~table.blind], str(path))
    skeleton = skeleton_of(table, request, skeleton_file)
    found = _detections(table, detections)
    unlabeled = blind_people(table, skeleton, found, str(path), unlabeled_ids, whole_images)
    labeled = _labeled(table, request, skeleton, None)
    return labeled.within(~table.blind_images) if whole_images else labeled, unlabeled


def skeleton_of(table: CocoTable, request: ReadOptions, skeleton_file: str | Path | None) -> Skeleton:
    """The skeleton of the learned categories."""
    try:
        return Skeleton.from_category(table.categories[0], request.override, override_source=f"file {skeleton_file}")
    except DataError as error:
        raise DataError(f"{request.path}: {error}") from error


def read_table(request: ReadOptions) -> CocoTable:
    """The json's arrays, or DataError with every fault in it."""
    try:
        content = request.path.read_bytes()
    except OSError as error:
        raise DataError(f"{request.path}: cannot be read ({error.strerror}); expected a COCO json.") from error
    try:
        return parse_coco(content, request)
    except (*UNREADABLE, RecursionError) as reason:
        explain_errors(content, request)
        # Everything wrong is in labels that must not be read: without them the file is sound.
        try:
            return parse_coco(without_labels(content, request), request)
        except UNREADABLE:
            raise DataError(f"{request.path}: {reason}; expected a COCO json.") from reason


def blind_people(
    table: CocoTable,
    skeleton: Skeleton,
    found: Detections | None,
    source: str,
    image_ids: Collection[int] | None = None,
    whole_images: bool = False,
) -> People:
    """The people of unlabeled images, as blank poses: detected boxes, else those of the file.

    An image whose people have no box, and every image when the file has no box, counts as one person; images
    without a person are left out; with `whole_images` every image is one person whatever the file says of it.
    `image_ids` None stands for all images whose labels were not read.
    """
    images = table.images
    chosen = table.blind_images
    if image_ids is not None:
        chosen = chosen & np.isin(images.ids, np.fromiter(image_ids, np.int64))
    every = np.flatnonzero(chosen)
    if whole_images:
        rows = whole_image_rows(images, every)
    elif found is not None:
        rows = detected_rows(images, every, found, by_name=False)
    else:
        rows = _given_rows(table, every, chosen[table.image_index] & ~table.crowd)
    first = int(table.ids.max(initial=0)) + 1
    people = blank_people(images, rows, len(skeleton), source, first)
    return replace(people, skeleton=skeleton)


def _given_rows(table: CocoTable, every: Rows, wanted: NDArray[np.bool_]) -> BoxRows:
    use = np.flatnonzero(wanted & table.boxed)
    use = use[np.argsort(table.image_index[use], kind="stable")]
    rows = BoxRows.of(table.image_index[use], table.boxes[use].astype(np.float32), box.GIVEN)
    mentioned = np.unique(table.image_index[wanted]) if len(use) else every
    whole = np.setdiff1d(mentioned, rows.image_index)
    if len(whole):
        rows = rows.joined(whole_image_rows(table.images, whole))
    empty = len(every) - len(mentioned)
    if empty:
        rows = replace(rows, notes=(*rows.notes, f"unlabeled images without a person left out: {empty}"))
    return rows


def _detections(table: CocoTable, path: str | Path | None) -> Detections | None:
    if path is None:
        return None
    return load_detections(path, frozenset(one["id"] for one in table.categories))


def _labeled(table: CocoTable, request: ReadOptions, skeleton: Skeleton, found: Detections | None) -> People:
    labeled = table.labeled & ~table.crowd
    if not labeled.any():
        raise DataError(
            f"{request.path}: none of the {int((~table.blind).sum())} annotations has a labeled keypoint (every "
            "visibility is 0), so every training target would be empty. If it came from CVAT, draw a skeleton "
            "rather than points and export 'COCO Keypoints 1.0'."
        )
    rows = np.flatnonzero(~table.blind if request.everyone else labeled)
    keypoints: NDArray[np.float32] = table.keypoints[rows, :, :2].astype(np.float32)
    visible = table.keypoints[rows, :, 2].astype(np.uint8)
    boxes, sources, scores = _boxes(table, rows, request)
    if found is not None:
        _use_detections(table, rows, found, boxes, sources, scores)
    areas = np.where(table.areas[rows] > 0, table.areas[rows], box.box_areas(boxes)).astype(np.float32)
    poses = Poses(
        keypoints,
        (visible > 0).astype(np.float32),
        visible,
        boxes,
        table.images.ids[table.image_index[rows]],
        table.ids[rows],
        areas,
        table.crowd[rows],
        scores,
    )
    return People(
        table.images,
        table.image_index[rows],
        poses,
        skeleton,
        box.describe(sources),
        str(request.path),
        tuple(_notes(table, rows, request)),
        table.outlines,
    )


def _boxes(table: CocoTable, rows: Rows, request: ReadOptions) -> tuple[box.Boxes, Rows, NDArray[np.float32]]:
    """Boxes (N, 4), where each comes from, and scores of 1, by the rule asked for."""
    boxes = table.boxes[rows].astype(np.float32)
    sources = np.where(table.boxed[rows], box.GIVEN, box.IMAGE)
    if request.boxes in ("auto", "keypoints"):
        without = np.flatnonzero(sources == box.IMAGE)
        keypoints = table.keypoints[rows[without]]
        hulls, known = box.keypoint_hulls(keypoints[..., :2], keypoints[..., 2])
        boxes[without[known]], sources[without[known]] = hulls[known], box.KEYPOINTS
    whole = np.flatnonzero(sources == box.IMAGE)
    at, back = np.unique(table.image_index[rows[whole]], return_inverse=True)
    sizes = image_sizes([table.images.files[i] for i in at])
    bad = [table.images.files[i] for i in at[sizes.min(1, initial=1) == 0]]
    if bad:
        raise DataError(
            f"{request.path}: {len(bad)} labeled images cannot be read, such as {bad[0]}; expected image files. "
            "Replace them or take them out of the json."
        )
    boxes[whole] = box.whole_images(sizes)[back]
    return boxes, sources, np.ones(len(rows), np.float32)


def _use_detections(
    table: CocoTable,
    rows: Rows,
    found: Detections,
    boxes: box.Boxes,
    sources: Rows,
    scores: NDArray[np.float32],
) -> None:
    """Replace boxes in place by the detections that overlap them."""
    index = table.image_index[rows]
    order = np.argsort(index, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        detected = found.of(int(table.images.ids[index[group[0]]]))
        chosen = box.match(boxes[group], found.boxes[detected])
        people, taken = group[chosen >= 0], detected[chosen[chosen >= 0]]
        boxes[people], scores[people] = found.boxes[taken], found.scores[taken]
        sources[people] = box.DETECTIONS


def _notes(table: CocoTable, rows: Rows, request: ReadOptions) -> Iterator[str]:
    seen = ~table.blind
    crowds, empty = int((seen & table.crowd).sum()), int((seen & ~table.crowd & ~table.labeled).sum())
    kept = "kept to be ignored" if request.everyone else "left out"
    if crowds:
        yield f"crowd regions {kept}: {crowds}"
    if empty:
        yield f"people without a labeled keypoint {kept}: {empty}"
    unnamed = int((table.blind & ~table.blind_images[table.image_index] & ~table.crowd).sum())
    if unnamed:
        yield f"people of labeled images whom the split does not name left out: {unnamed}"
    guessed = int((table.areas[rows] <= 0).sum())
    if guessed:
        yield f"people without an area: {guessed}; OKS takes {AREA_SHARE} of their box"

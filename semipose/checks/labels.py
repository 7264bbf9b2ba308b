"""Check labels and their skeleton: misplaced and rare keypoints, tiny boxes, swapped sides, missing mirror partners."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semipose.checks.finding import Finding, examples
from semipose.checks.swapped_sides import swapped_sides
from semipose.data.people import People
from semipose.pose.names import names_a_side, plural
from semipose.pose.skeleton import Skeleton

BOX_ENLARGEMENT = 1.5
"""Labels outside a box enlarged by this factor are likely mistakes; labels just outside a box are usual in COCO."""
MIN_KEYPOINTS = 3
MIN_BOX_SIDE = 32
"""If its longer side has fewer pixels, a person is too small to place keypoints well."""


def check_labels(people: People, skeleton: Skeleton, stream: str) -> Iterator[Finding]:
    """Check the labels of a stream, "labeled" or "validation"; findings name people by annotation id."""
    noun = f"{stream} {plural(skeleton.name)}"
    yield from _outside_images(people, noun)
    yield from _outside_boxes(people, noun)
    yield from _rare_keypoints(people, skeleton, stream)
    poses = people.poses
    few = (poses.visible > 0).sum(1) < min(MIN_KEYPOINTS, len(skeleton))
    if few.any():
        yield Finding(
            "note",
            f"{few.sum()} {noun} have fewer than {MIN_KEYPOINTS} labeled keypoints: {_ids(people, few)}",
            "They add little to training; label more of their keypoints or remove them.",
        )
    tiny = np.maximum(poses.boxes[:, 2], poses.boxes[:, 3]) < MIN_BOX_SIDE
    if tiny.any():
        yield Finding(
            "note",
            f"{tiny.sum()} {noun} are smaller than {MIN_BOX_SIDE} pixels: {_ids(people, tiny)}",
            "Use pictures of a higher resolution, or remove these labels.",
        )
    swapped = swapped_sides(poses.keypoints, poses.visible, skeleton)
    if swapped.any():
        yield Finding(
            "warning",
            f"left and right may be swapped on {swapped.sum()} {noun}: {_ids(people, swapped)}",
            f"Look at them on the contact sheet; left is the {skeleton.name}'s own left, not the picture's.",
        )


def check_skeleton(skeleton: Skeleton) -> Iterator[Finding]:
    """Check the mirror partners and OKS sigmas of a skeleton."""
    unpaired = [name for i, name in enumerate(skeleton.keypoints) if skeleton.flip[i] == i and names_a_side(name)]
    if unpaired:
        yield Finding(
            "warning",
            f"keypoints that name a side have no partner for mirrored images: {examples(unpaired)}",
            "Give flip_pairs: [[a, b], ...] in a skeleton file, or switch mirroring off with --flip 0.",
        )
    elif not skeleton.flip_pairs:
        yield Finding(
            "note",
            "no keypoint has a left/right partner, so mirrored images keep all names",
            "If the body has two sides, give flip_pairs: [[a, b], ...] in a skeleton file.",
        )
    if "default" in skeleton.sigmas_source:
        yield Finding(
            "note",
            f"OKS sigmas: {skeleton.sigmas_source}",
            "Give sigmas in a skeleton file if OKS-AP matters; PCK and pixel error need none.",
        )


def _outside_images(people: People, noun: str) -> Iterator[Finding]:
    sizes = people.images.sizes[people.image_index][:, None, ::-1]
    labeled = people.poses.visible > 0
    xy = people.poses.keypoints
    # The last pixel's far edge is half a pixel beyond its center; tools that count from corners add another half.
    beyond = ((xy < -1) | (xy > sizes)) & (sizes > 0)
    outside = np.asarray((beyond.any(2) & labeled).any(1))
    if outside.any():
        yield Finding(
            "warning",
            f"{outside.sum()} {noun} have labeled keypoints outside of their image: {_ids(people, outside)}",
            "Check that the labels belong to these pictures and this size; give visibility 0 to keypoints that are not "
            "in the picture.",
        )


def _outside_boxes(people: People, noun: str) -> Iterator[Finding]:
    boxes = people.poses.boxes
    center = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
    half = (boxes[:, 2:].max(1) / 2 * BOX_ENLARGEMENT)[:, None, None]
    outside = ((np.abs(people.poses.keypoints - center) > half).any(2) & (people.poses.visible > 0)).any(1)
    if outside.any():
        yield Finding(
            "warning",
            f"{outside.sum()} {noun} have labeled keypoints far outside of their box: {_ids(people, outside)}",
            "Check the boxes ([x, y, width, height], not corners), or remove them: boxes are then made from keypoints.",
        )


def _rare_keypoints(people: People, skeleton: Skeleton, stream: str) -> Iterator[Finding]:
    noun = f"{stream} {plural(skeleton.name)}"
    counts = (people.poses.visible > 0).sum(0)
    never = [skeleton.keypoints[k] for k in np.flatnonzero(counts == 0)]
    if never:
        yield Finding(
            "warning",
            f"keypoints never labeled in the {noun}: {examples(never)}",
            "Label some, or remove these keypoints from the category: they can be neither learned nor measured.",
        )
    limit = max(2, len(people) // 50)
    rare = [f"{skeleton.keypoints[k]} ({counts[k]})" for k in np.flatnonzero((counts > 0) & (counts < limit))]
    if rare and stream == "labeled":
        yield Finding(
            "note",
            f"keypoints labeled on very few of the {len(people)} {noun}: {examples(rare)}",
            "Expect poor accuracy there; label more images that show them.",
        )


def _ids(people: People, mask: NDArray[np.bool_]) -> str:
    return f"annotation {examples(people.poses.ids[mask].tolist())}"
